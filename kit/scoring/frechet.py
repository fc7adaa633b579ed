"""The Fréchet distance between two Gaussians: Dowson & Landau 1982; FID is Heusel et al. 2017, equation 6.

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂)

Σ₁Σ₂ is not symmetric, and a general matrix root of it (`scipy.linalg.sqrtm`) takes minutes at 2048 dimensions. With
any factor AAᵀ = Σ₁ the eigenvalues of Σ₁Σ₂ are those of the symmetric AᵀΣ₂A (and zeros), and only the sum of their
roots is wanted, so no matrix root is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

CHUNK = 2048
"""Rows of features that are brought to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64, and how many pictures they are of."""

    mean: Float64
    covariance: Float64
    count: int


@dataclass(frozen=True)
class Frechet:
    """The distance, and whether a covariance is singular beyond features that never change."""

    distance: float
    rank_deficient: bool


def gaussian(features: NDArray[Any], *, rows: NDArray[np.int64] | None = None) -> Gaussian:
    """Mean and unbiased covariance (divided by N − 1, as `np.cov` does), summed in float64.

    Args:
        features: (N, D), any float type, N at least 2. May be mapped from disk: it is read in pieces.
        rows: which of them, at least two; None: all.

    Raises:
        ValueError: fewer than two rows, or no matrix.
    """
    count = len(features) if rows is None else len(rows)
    if features.ndim != 2 or count < 2:
        raise ValueError(f"features of shape {features.shape}; a covariance needs (N, D) with N of at least 2")
    dim = features.shape[1]
    slices = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    pieces = slices if rows is None else [rows[piece] for piece in slices]
    mean: Float64 = sum((features[piece].sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(dim)) / count
    scatter = np.zeros((dim, dim))
    for piece in pieces:
        centred = features[piece] - mean
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
    """The same as `frechet_distance`, and says besides whether a covariance was singular."""
    mean1, cov1, mean2, cov2 = (np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2))
    dim = mean1.size
    for name, array, shape in (
        ("mu1", mean1, (dim,)),
        ("sigma1", cov1, (dim, dim)),
        ("mu2", mean2, (dim,)),
        ("sigma2", cov2, (dim, dim)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, and {shape} is wanted")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")

    root_trace, rank_deficient = _root_trace(cov1, cov2)
    distance = np.square(mean1 - mean2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * root_trace
    # Equal Gaussians come out at some 1e-12 on either side of 0, and a distance is not negative.
    return Frechet(max(0.0, float(distance)), rank_deficient)


def _root_trace(cov1: Float64, cov2: Float64) -> tuple[float, bool]:
    """tr √(Σ₁Σ₂), and whether either is singular."""
    # A feature that never changes in one of the sets (a dead unit) adds nothing here; it makes a covariance singular
    # though there are pictures enough.
    live = np.ones(len(cov1), np.bool_)
    for variances in (np.diag(cov1), np.diag(cov2)):
        live &= variances > _rounding(variances)
    if not live.any():
        return 0.0, True
    if not live.all():
        cov1, cov2 = cov1[np.ix_(live, live)], cov2[np.ix_(live, live)]

    factor, other = _cholesky(cov2), cov1
    rank_deficient = factor is None
    first = _cholesky(cov1)
    if first is not None:
        factor, other = first, cov2
    rank_deficient |= first is None
    if factor is not None:
        # Triangular, so AᵀΣA is made in place of ΣA.
        product = scipy.linalg.blas.dtrmm(1.0, factor, (other @ factor).T, side=1, lower=1, overwrite_b=1)
    else:
        factor = _eigen_factor(cov1)
        product = factor.T @ cov2 @ factor
    eigenvalues = scipy.linalg.eigvalsh(product, overwrite_a=True, check_finite=False)
    # Of a singular product many eigenvalues are 0 but for rounding, and the root of 1e-16 is 1e-8, over a thousand
    # times. At full rank there are none of these, and small ones count.
    floor = _rounding(eigenvalues) if rank_deficient else 0.0
    return float(np.sqrt(eigenvalues[eigenvalues > floor]).sum()), rank_deficient


def _cholesky(covariance: Float64) -> Float64 | None:
    """The triangular factor of a covariance of full rank, else None."""
    try:
        factor: Float64 = scipy.linalg.cholesky(covariance, lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    # A singular matrix may pass by rounding; then a pivot is no larger than rounding.
    pivots: Float64 = np.square(np.diag(factor))
    return factor if pivots.min() > _rounding(pivots) else None


def _eigen_factor(covariance: Float64) -> Float64:
    """A factor (D, rank) of a singular covariance: its eigenvectors times the roots of its positive eigenvalues."""
    eigenvalues, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    kept = eigenvalues > _rounding(eigenvalues)
    return vectors[:, kept] * np.sqrt(eigenvalues[kept])


def _rounding(spectrum: NDArray[Any]) -> float:
    """Below this an eigenvalue is rounding (the rule of `np.linalg.matrix_rank`)."""
    return float(spectrum.max(initial=0.0)) * len(spectrum) * np.finfo(np.float64).eps
