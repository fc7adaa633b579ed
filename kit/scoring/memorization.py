"""The memorization distance of MiFID (Bai et al. 2021): how near generated pictures come to real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 1024
"""Rows of each side that are compared at a time, which takes 8 MB."""


def memorization_distance(generated: NDArray[Any], real: NDArray[Any]) -> float:
    """The mean over generated pictures of the cosine distance to the nearest real one.

    With g and r normalized to unit length: the mean over g of the minimum over r of 1 − |g·r|. The direction matters:
    a generator that repeats a few training pictures has distance 0, although most real pictures have no generated one
    near them. As in the competition's scorer, rows whose sum is 0 are left out of both sets.

    Args:
        generated: features (N, D), any float type.
        real: features (M, D). May be memory-mapped: it is read once, in pieces.

    Returns:
        A distance from 0 to 1, but for rounding.

    Raises:
        ValueError: the dimensions differ, NaN or infinity, or a set in which all rows sum to 0.
    """
    distances = nearest_distances(generated, real)
    return float(np.nanmean(distances))


def nearest_distances(generated: NDArray[Any], real: NDArray[Any]) -> NDArray[np.float64]:
    """The cosine distance of each generated picture to the nearest real one; `memorization_distance` is their mean.

    Returns:
        float64 (N,), NaN for rows that are left out because their sum is 0.

    Raises:
        ValueError: as there.
    """
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(f"features of shapes {generated.shape} and {real.shape} do not belong together")
    lengths = np.concatenate([np.empty(0), *map(_lengths, _pieces(generated))])
    longest = np.zeros(len(generated))  # of g's projections on the real directions, |g · r| / |r|
    compared = False
    for rows in _pieces(real):
        directions = _directions(rows)
        if not len(directions):
            continue
        compared = True
        start = 0
        for ours in _pieces(generated):
            projections = ours @ directions.T
            most = longest[start : start + len(ours)]
            np.maximum(most, np.abs(projections, out=projections).max(axis=1), out=most)
            start += len(ours)
    if not compared or np.isnan(lengths).all():
        raise ValueError("all rows of a set sum to 0: there is nothing to compare")
    nearest: NDArray[np.float64] = 1.0 - _divided(longest, lengths)
    return nearest


def _pieces(features: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The features in float64, a piece at a time."""
    for start in range(0, len(features), CHUNK):
        yield features[start : start + CHUNK].astype(np.float64)


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Euclidean length of each row, NaN for those whose sum is 0."""
    if not np.isfinite(rows).all():
        raise ValueError("features hold NaN or infinity")
    return np.where(rows.sum(axis=1) == 0, np.nan, np.linalg.norm(rows, axis=1))


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows whose sum is not 0, of unit length."""
    lengths = _lengths(rows)
    kept = ~np.isnan(lengths)
    return _divided(rows[kept], lengths[kept, None])


def _divided(values: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values over lengths. Where squaring underflowed to a length of 0, the scorer's 0 / 0 becomes 0."""
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths != 0)
