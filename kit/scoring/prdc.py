"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Each picture has a ball that reaches to its k-th nearest neighbour on its own side. The balls of one side together
estimate its manifold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS_PR = 3
NEIGHBOURS_DC = 5
"""k of precision and recall, and of density and coverage, as in the papers."""

Float64 = NDArray[np.float64]

CHUNK = 512
"""Rows whose distances to all others are computed at a time."""


@dataclass(frozen=True)
class Prdc:
    """Fractions from 0 to 1; density may exceed 1."""

    precision: float  # of generated pictures inside a real one's ball: quality
    recall: float  # of real pictures inside a generated one's ball: variety
    density: float  # real balls around a generated picture, divided by k: quality, more robust to outliers
    coverage: float  # of real pictures with a generated one in their ball: variety, more robust to outliers


def prdc(generated: NDArray[Any], real: NDArray[Any]) -> Prdc:
    """Precision, recall, density and coverage of two sets of features.

    Args:
        generated: (N, D), any float type, N at least 6.
        real: (M, D), M at least 6.

    Raises:
        ValueError: too few rows, or another dimension.
    """
    if min(len(generated), len(real)) <= NEIGHBOURS_DC or generated.shape[1:] != real.shape[1:]:
        raise ValueError(f"features of shapes {generated.shape} and {real.shape}; each side needs at least six rows")
    generated, real = generated.astype(np.float64), real.astype(np.float64)
    (fake_pr,) = _radii(generated, NEIGHBOURS_PR)
    true_pr, true_dc = _radii(real, NEIGHBOURS_PR, NEIGHBOURS_DC)
    inside_true = np.zeros(len(generated), np.bool_)
    inside_fake = np.zeros(len(real), np.bool_)
    covered = np.zeros(len(real), np.bool_)
    memberships = 0
    for start in range(0, len(generated), CHUNK):
        piece = slice(start, start + CHUNK)
        distances = _squared(generated[piece], real)
        inside_true[piece] = (distances <= true_pr).any(axis=1)
        inside_fake |= (distances <= fake_pr[piece, None]).any(axis=0)
        in_ball = distances < true_dc
        memberships += int(in_ball.sum())
        covered |= in_ball.any(axis=0)
    return Prdc(
        precision=float(inside_true.mean()),
        recall=float(inside_fake.mean()),
        density=memberships / (NEIGHBOURS_DC * len(generated)),
        coverage=float(covered.mean()),
    )


def _radii(rows: Float64, *neighbours: int) -> list[Float64]:
    """Squared distances of each row to its k-th nearest other one, an array for each k."""
    radii = np.empty((len(rows), len(neighbours)))
    for start in range(0, len(rows), CHUNK):
        distances = _squared(rows[start : start + CHUNK], rows)
        # Each row is nearest to itself, whatever rounding says.
        np.fill_diagonal(distances[:, start:], 0)
        distances.partition(neighbours, axis=1)
        radii[start : start + CHUNK] = distances[:, neighbours]
    return list(radii.T)


def _squared(x: Float64, y: Float64) -> Float64:
    """Squared Euclidean distances (len(x), len(y)), at least 0."""
    distances: Float64 = x @ y.T
    distances *= -2
    distances += np.einsum("ij,ij->i", x, x)[:, None]
    distances += np.einsum("ij,ij->i", y, y)
    return np.maximum(distances, 0.0, out=distances)
