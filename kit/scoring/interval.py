"""Confidence intervals of a score by the jackknife, and the FID for N → ∞.

The FID of N pictures is larger than that of the distribution they come from, by about c / N (Chong & Forsyth 2020).
A bootstrap sample holds some pictures twice and so fewer different ones: it adds this bias a second time, and its
interval lies above the true value. The jackknife leaves out groups of pictures instead. How the FID changes with fewer
pictures estimates the bias, which is then subtracted (Quenouille 1956; Shao & Wu 1989 for groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats would take half a second to import

from kit.scoring.frechet import Gaussian, frechet_distance, gaussian
from kit.scoring.mifid import mifid
from kit.scoring.score_record import Interval

GROUPS = 10
LEVEL = 0.95
METHOD = f"delete-group jackknife, {GROUPS} groups"

POINTS = 8
"""Sample sizes of the extrapolation to N → ∞."""


def intervals(
    features: NDArray[Any],
    real: Gaussian,
    *,
    nearest: NDArray[np.float64] | None = None,
    epsilon: float | None = None,
    seed: int = 0,
) -> tuple[Interval | None, Interval | None]:
    """Intervals of the FID and the MiFID of this generator for N → ∞, on the same groups.

    The FID of the given pictures may lie above its interval, because of its bias. None where there are fewer pictures
    than dimensions (the bias of a singular covariance is not of order 1 / N), and for the MiFID also where its distance
    may lie on either side of ε.

    Args:
        features: generated, (N, D).
        real: the reference; its own error is not considered.
        nearest: see `kit.scoring.memorization.nearest_distances`, (N,); needed where there is an ε.
        epsilon: the memorization threshold; None: no interval of the MiFID.
        seed: of the division into groups.
    """
    count, dim = features.shape
    if count < 2 * GROUPS or count - -(-count // GROUPS) <= dim:
        return None, None
    groups = jackknife_groups(count, seed=seed)
    whole, parts = jackknife_fids(features, real, groups)
    of_fid = jackknife(whole, parts)
    if epsilon is None or nearest is None:
        return of_fid, None
    distances = [float(np.nanmean(nearest)), *(float(np.nanmean(np.delete(nearest, rows))) for rows in groups)]
    if len({distance < epsilon for distance in distances}) > 1:
        return of_fid, None
    whole, *parts = [mifid(fid, d, epsilon) for fid, d in zip([whole, *parts], distances, strict=True)]
    return of_fid, jackknife(whole, parts)


def jackknife_groups(count: int, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Indices of the pictures of each group: at random, as those of a conditional generator are ordered by class."""
    return np.array_split(np.random.default_rng(seed).permutation(count), GROUPS)


def jackknife_fids(
    features: NDArray[Any], real: Gaussian, groups: list[NDArray[np.int64]]
) -> tuple[float, list[float]]:
    """The FID of all pictures, and the FIDs with each group left out."""
    whole = gaussian(features)
    return _fid(whole, real), [_fid(_without(whole, gaussian(features[np.sort(rows)])), real) for rows in groups]


def jackknife(whole: float, parts: list[float]) -> Interval:
    """The interval of a statistic, corrected for its bias of order 1 / N.

    Args:
        whole: the statistic of all pictures.
        parts: the statistic with each group left out.
    """
    groups = len(parts)
    pseudo = groups * whole - (groups - 1) * np.array(parts)
    centre, error = float(pseudo.mean()), float(pseudo.std(ddof=1) / np.sqrt(groups))
    reach = float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * error
    return Interval(low=centre - reach, high=centre + reach, level=LEVEL, method=METHOD)


def fid_infinity(features: NDArray[Any], real: Gaussian, *, seed: int = 0) -> float | None:
    """The FID for N → ∞: a line through the FIDs of smaller samples over 1 / N (Chong & Forsyth 2020).

    Args:
        features: generated, (N, D); None is returned unless N / 2 is above D.
        real: the reference.
        seed: of the samples.
    """
    count, dim = features.shape
    if count // 2 <= dim:
        return None
    rng = np.random.default_rng(seed)
    sizes = np.linspace(count // 2, count, POINTS).astype(int)
    samples = (features[np.sort(rng.choice(count, size, replace=False))] for size in sizes)
    _, intercept = np.polyfit(1 / sizes, [_fid(gaussian(sample), real) for sample in samples], 1)
    return float(intercept)


def _fid(generated: Gaussian, real: Gaussian) -> float:
    return frechet_distance(generated.mean, generated.covariance, real.mean, real.covariance)


def _without(whole: Gaussian, part: Gaussian) -> Gaussian:
    """The Gaussian of all rows but those of a part."""
    count = whole.count - part.count
    mean = (whole.count * whole.mean - part.count * part.mean) / count
    apart = mean - part.mean
    scatter = (whole.count - 1) * whole.covariance
    scatter -= (part.count - 1) * part.covariance
    scatter -= np.outer((count * part.count / whole.count) * apart, apart)
    scatter /= count - 1
    return Gaussian(mean, scatter, count)
