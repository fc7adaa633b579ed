"""How far generated pictures keep from the real ones: the memorization distance of MiFID (Bai et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2048
"""Rows of each side that are compared at a time: 32 MB of distances, whatever the sizes of the sets."""


def memorization_distance(generated: NDArray[Any], real: NDArray[Any]) -> float:
    """The mean over generated pictures of the cosine distance to the nearest real one.

    With g and r the rows of unit length, the mean over g of min over r of 1 − |g·r|. The direction matters: a
    generator that repeats a few training pictures is at 0, though most real pictures have nothing near them. As in
    the competition's scorer, rows whose sum is 0 are left out of either set.

    Args:
        generated: features (N, D), any float type.
        real: features (M, D). May be mapped from disk: it is read once, in pieces.

    Returns:
        A distance from 0 to 1, but for rounding.

    Raises:
        ValueError: the dimensions differ, NaN or infinity, or a set in which all rows sum to 0.
    """
    distances = nearest_distances(generated, real)
    return float(np.nanmean(distances))


def nearest_distances(generated: NDArray[Any], real: NDArray[Any]) -> NDArray[np.float64]:
    """Each generated picture's part of `memorization_distance`: its cosine distance to the nearest real one.

    Returns:
        float64 (N,), NaN for rows that are left out because their sum is 0.

    Raises:
        ValueError: as there.
    """
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(f"features of shapes {generated.shape} and {real.shape} do not belong together")
    directions, kept = _directions(generated)
    nearest = np.full(len(directions), np.inf)
    found = False
    for start in range(0, len(real), CHUNK):
        others, _ = _directions(real[start : start + CHUNK])
        if not len(others):
            continue
        found = True
        for first in range(0, len(directions), CHUNK):
            piece = slice(first, first + CHUNK)
            distances = 1.0 - np.abs(directions[piece] @ others.T)
            nearest[piece] = np.minimum(nearest[piece], distances.min(axis=1))
    if not len(directions) or not found:
        raise ValueError("all rows of a set sum to 0: there is nothing to compare")
    everyone = np.full(len(generated), np.nan)
    everyone[kept] = nearest
    return everyone


def _directions(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The rows whose sum is not 0, as float64 of unit length, and which they are."""
    rows = features.astype(np.float64)
    if not np.isfinite(rows).all():
        raise ValueError("features hold NaN or infinity")
    kept: NDArray[np.bool_] = rows.sum(axis=1) != 0
    rows = rows[kept]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # Only where squaring underflows: the scorer's 0 / 0 becomes 0 there.
    directions: NDArray[np.float64] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return directions, kept
