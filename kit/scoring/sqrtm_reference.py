"""The Fréchet distance by the competition scorer's own way, repairs included: what a score can be held against."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

REPAIR = 1e-6
"""What is added to both diagonals where the root is not finite."""

IMAGINARY = 1e-3
"""A larger imaginary part on the root's diagonal is an error; a smaller one is dropped."""


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """The squared Fréchet distance by `scipy.linalg.sqrtm`, as the scorer takes it; it may fall below 0 by rounding.

    At full rank it equals `kit.scoring.frechet.frechet_distance` to rounding, and takes twenty times as long at 2048
    dimensions. For singular covariances the repairs decide, and the two differ.

    Args:
        mu1: mean (D,).
        sigma1: covariance (D, D).
        mu2: the other mean (D,).
        sigma2: the other covariance (D, D).

    Raises:
        ValueError: shapes that do not belong together, or a root with a large imaginary part.
    """
    mean1, mean2 = np.atleast_1d(np.asarray(mu1)), np.atleast_1d(np.asarray(mu2))
    cov1, cov2 = np.atleast_2d(np.asarray(sigma1)), np.atleast_2d(np.asarray(sigma2))
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape:
        raise ValueError(f"shapes {mean1.shape}, {cov1.shape} and {mean2.shape}, {cov2.shape} do not belong together")
    root = _root(cov1 @ cov2)
    if not np.isfinite(root).all():
        offset = np.eye(len(cov1)) * REPAIR
        root = _root((cov1 + offset) @ (cov2 + offset))
    if np.iscomplexobj(root):
        largest = np.abs(root.imag).max()
        if not np.allclose(np.diagonal(root).imag, 0, atol=IMAGINARY):
            raise ValueError(f"the root's imaginary part reaches {largest:.3g}")
        root = root.real
    apart = mean1 - mean2
    return float(apart @ apart + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root))


def _root(matrix: NDArray[Any]) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about singular matrices: what comes out is judged by the caller
        root: NDArray[Any] = scipy.linalg.sqrtm(matrix)
    return root
