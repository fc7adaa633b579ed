"""The Fréchet distance between two Gaussians: Dowson & Landau 1982; FID is Heusel et al. 2017, equation 6.

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂)

Σ₁Σ₂ is not symmetric, and a general matrix root of it (`scipy.linalg.sqrtm`) takes minutes at 2048 dimensions. With
any factor AAᵀ = Σ₁ the eigenvalues of Σ₁Σ₂ are those of the symmetric AᵀΣ₂A (and zeros). Only the sum of their roots
is needed, so no matrix root is built. `sqrtm_reference` computes the same as the competition's scorer does.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

CHUNK = 2048
"""Rows of features that are converted to float64 at a time."""

SCORER_OFFSET = 1e-6
"""What the scorer adds to both diagonals where the matrix root is not finite."""

SCORER_IMAGINARY = 1e-3
"""The scorer refuses a larger imaginary part on the root's diagonal, and drops a smaller one."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64, and the number of pictures."""

    mean: Float64
    covariance: Float64
    count: int


@dataclass(frozen=True)
class Frechet:
    """The distance, and whether a covariance is singular; features that are constant do not count."""

    distance: float
    rank_deficient: bool


def gaussian(features: NDArray[Any]) -> Gaussian:
    """Mean and unbiased covariance (divided by N − 1, as `np.cov` does), summed in float64.

    Args:
        features: (N, D), any float type, N at least 2. May be memory-mapped: it is read in pieces.

    Raises:
        ValueError: fewer than two rows, or no matrix.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features of shape {features.shape}; a covariance needs (N, D) with N of at least 2")
    count, dim = features.shape
    pieces = [features[start : start + CHUNK] for start in range(0, count, CHUNK)]
    mean: Float64 = sum((piece.sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(dim)) / count
    scatter = np.zeros((dim, dim))
    for piece in pieces:
        centred = piece - mean
        scatter += centred.T @ centred
    scatter /= count - 1
    return Gaussian(mean, scatter, count)


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """The squared Fréchet distance of two Gaussians, which is the FID when they were fitted to Inception's features.

    Args:
        mu1: mean (D,).
        sigma1: covariance (D, D), symmetric; may be singular.
        mu2: the other mean (D,).
        sigma2: the other covariance (D, D).

    Returns:
        The distance, at least 0.

    Raises:
        ValueError: shapes that do not belong together, or NaN or infinity in them.
    """
    return frechet(mu1, sigma1, mu2, sigma2).distance


def frechet(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> Frechet:
    """`frechet_distance`, and whether a covariance is singular."""
    names = ("mu1", "sigma1", "mu2", "sigma2")
    mean1, cov1, mean2, cov2 = arrays = [np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2)]
    dim = mean1.size
    for name, array, shape in zip(names, arrays, ((dim,), (dim, dim)) * 2, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    root_trace, rank_deficient = _root_trace(cov1, cov2)
    distance = np.square(mean1 - mean2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * root_trace
    # Rounding takes the distance of equal Gaussians to about −1e-12.
    return Frechet(max(0.0, float(distance)), rank_deficient)


def sqrtm_reference(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """The squared Fréchet distance by `scipy.linalg.sqrtm`, step by step as the competition's scorer computes it.

    At full rank it equals `frechet_distance` to rounding and takes twenty times as long at 2048 dimensions. For
    singular covariances the scorer's repairs decide, and the two differ. Rounding may take it below 0.

    Raises:
        ValueError: shapes that do not belong together, or a root with a large imaginary part.
    """
    mean1, mean2 = np.atleast_1d(np.asarray(mu1)), np.atleast_1d(np.asarray(mu2))
    cov1, cov2 = np.atleast_2d(np.asarray(sigma1)), np.atleast_2d(np.asarray(sigma2))
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape:
        raise ValueError(f"shapes {mean1.shape}, {cov1.shape} and {mean2.shape}, {cov2.shape} do not belong together")
    root = _sqrtm(cov1 @ cov2)
    if not np.isfinite(root).all():
        offset = np.eye(len(cov1)) * SCORER_OFFSET
        root = _sqrtm((cov1 + offset) @ (cov2 + offset))
    if np.iscomplexobj(root):
        if not np.allclose(np.diagonal(root).imag, 0, atol=SCORER_IMAGINARY):
            raise ValueError(f"the root's imaginary part reaches {np.abs(root.imag).max():.3g}")
        root = root.real
    difference = mean1 - mean2
    return float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root))


def _sqrtm(matrix: NDArray[Any]) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about singular matrices; the caller checks the result
        root: NDArray[Any] = scipy.linalg.sqrtm(matrix)
    return root


def _root_trace(cov1: Float64, cov2: Float64) -> tuple[float, bool]:
    """tr √(Σ₁Σ₂), and whether either covariance is singular."""
    # A feature that is constant in one of the sets (a dead unit) adds nothing, but it makes the covariance singular
    # however many pictures there are.
    live = np.ones(len(cov1), np.bool_)
    for variances in (np.diag(cov1), np.diag(cov2)):
        live &= variances > _rounding(variances)
    if not live.any():
        return 0.0, True
    cov1, cov2 = cov1[np.ix_(live, live)], cov2[np.ix_(live, live)]

    factor1, factor2 = _cholesky(cov1), _cholesky(cov2)
    rank_deficient = factor1 is None or factor2 is None
    if factor1 is not None:
        factor, other = factor1, cov2
    elif factor2 is not None:
        factor, other = factor2, cov1
    else:
        factor, other = _eigen_factor(cov1), cov2
    eigenvalues = scipy.linalg.eigvalsh(factor.T @ other @ factor, overwrite_a=True, check_finite=False)
    # A singular product has many eigenvalues that are 0 but for rounding. The root of 1e-16 is 1e-8, a thousand times.
    # At full rank there are none of these, and small eigenvalues count.
    floor = _rounding(eigenvalues) if rank_deficient else 0.0
    return float(np.sqrt(eigenvalues[eigenvalues > floor]).sum()), rank_deficient


def _cholesky(covariance: Float64) -> Float64 | None:
    """The triangular factor of a covariance of full rank; None for a singular one."""
    try:
        factor: Float64 = scipy.linalg.cholesky(covariance, lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    # Rounding may let a singular matrix pass; then a pivot is no larger than rounding.
    pivots: Float64 = np.square(np.diag(factor))
    return factor if pivots.min() > _rounding(pivots) else None


def _eigen_factor(covariance: Float64) -> Float64:
    """A factor (D, rank) of a singular covariance: its eigenvectors times the roots of its positive eigenvalues."""
    eigenvalues, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    kept = eigenvalues > _rounding(eigenvalues)
    return vectors[:, kept] * np.sqrt(eigenvalues[kept])


def _rounding(spectrum: NDArray[Any]) -> float:
    """Eigenvalues below this are rounding errors (the rule of `np.linalg.matrix_rank`)."""
    return float(spectrum.max(initial=0.0)) * len(spectrum) * np.finfo(np.float64).eps
