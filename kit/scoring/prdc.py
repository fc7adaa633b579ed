"""Quality and variety apart: precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Each picture's ball reaches to its k-th nearest neighbour among its own kind; together the balls stand for where a
distribution lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS_PR = 3
NEIGHBOURS_DC = 5
"""The papers' own k."""

CHUNK = 512
"""Rows whose distances to all others are held at a time."""


@dataclass(frozen=True)
class Manifold:
    """Shares from 0 to 1; density may exceed 1."""

    precision: float  # of generated pictures that lie in a real one's ball: quality
    recall: float  # of real pictures that lie in a generated one's ball: variety
    density: float  # real balls that a generated picture lies in, over k: quality, less moved by outliers
    coverage: float  # of real pictures with a generated one in their ball: variety, less moved by outliers


def manifold(generated: NDArray[Any], real: NDArray[Any]) -> Manifold:
    """All four of two sets of features.

    Args:
        generated: (N, D), any float type, N over 5.
        real: (M, D), M over 5.

    Raises:
        ValueError: too few rows, or another dimension.
    """
    if min(len(generated), len(real)) <= NEIGHBOURS_DC or generated.shape[1:] != real.shape[1:]:
        raise ValueError(f"features of shapes {generated.shape} and {real.shape}; six rows a side are the least")
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
    return Manifold(
        precision=float(inside_true.mean()),
        recall=float(inside_fake.mean()),
        density=memberships / (NEIGHBOURS_DC * len(generated)),
        coverage=float(covered.mean()),
    )


def _radii(rows: NDArray[Any], *neighbours: int) -> list[NDArray[np.float64]]:
    """Squared distances of each row to its k-th nearest other one, an array for each k."""
    radii = [np.empty(len(rows)) for _ in neighbours]
    for start in range(0, len(rows), CHUNK):
        piece = slice(start, start + CHUNK)
        distances = _squared(rows[piece], rows)
        # A row is its own nearest; rounding must not put another one before it.
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = 0
        distances.partition(neighbours, axis=1)
        for radius, k in zip(radii, neighbours, strict=True):
            radius[piece] = distances[:, k]
    return radii


def _squared(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Squared Euclidean distances (len(x), len(y)), at least 0, in float64 whatever the features are in."""
    distances = np.empty((len(x), len(y)))
    x = x.astype(np.float64)
    for start in range(0, len(y), CHUNK):
        others = y[start : start + CHUNK].astype(np.float64)
        block = distances[:, start : start + CHUNK]
        block[:] = x @ others.T
        block *= -2
        block += np.einsum("ij,ij->i", x, x)[:, None]
        block += np.einsum("ij,ij->i", others, others)
    return np.maximum(distances, 0.0, out=distances)
