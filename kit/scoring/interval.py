"""Confidence intervals of a score by the jackknife, and the FID for N → ∞.

The FID of N pictures is larger than that of the distribution they come from, by about c / N (Chong & Forsyth 2020).
A bootstrap sample holds some pictures twice and so fewer different ones: it adds this bias a second time, and its
interval lies above the true value. The jackknife leaves out groups of pictures instead. How the FID changes with fewer
pictures estimates the bias, which is then subtracted (Quenouille 1956; Shao & Wu 1989 for groups).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats would take half a second to import

from kit.scoring.frechet import Gaussian, frechet_distance, gaussian
from kit.scoring.score_record import Interval

GROUPS = 10
LEVEL = 0.95
METHOD = f"delete-group jackknife, {GROUPS} groups"

POINTS = 8
"""Sample sizes of the extrapolation to N → ∞."""


class Jackknife:
    """Generated features, with each group of them left out in turn.

    Args:
        features: (N, D), any float type, N at least twice `groups`.
        groups: how many.
        seed: of the division into groups.

    Raises:
        ValueError: too few rows.
    """

    def __init__(self, features: NDArray[Any], *, groups: int = GROUPS, seed: int = 0) -> None:
        if len(features) < 2 * groups:
            raise ValueError(f"{len(features)} pictures are too few for {groups} groups")
        # At random, as pictures of a conditional generator are ordered by class.
        self.rows = np.array_split(np.random.default_rng(seed).permutation(len(features)), groups)
        self.features = features
        self.all = gaussian(features)

    @property
    def least(self) -> int:
        """Pictures that are left without the largest group."""
        return self.all.count - max(map(len, self.rows))

    def without(self) -> Iterator[Gaussian]:
        """The rest without each group, one at a time: ten covariances at 2048 dimensions are 335 MB."""
        for rows in self.rows:
            yield _without(self.all, gaussian(self.features, rows=np.sort(rows)))


def jackknife(whole: float, parts: list[float], *, level: float = LEVEL) -> Interval:
    """The interval of a statistic, corrected for its bias of order 1 / N.

    Args:
        whole: the statistic of all pictures.
        parts: the statistic with each group left out.
        level: probability that the interval contains the true value.
    """
    groups = len(parts)
    pseudo = groups * whole - (groups - 1) * np.array(parts)
    centre, error = float(pseudo.mean()), float(pseudo.std(ddof=1) / np.sqrt(groups))
    reach = float(stdtrit(groups - 1, (1 + level) / 2)) * error
    return Interval(low=centre - reach, high=centre + reach, level=level, method=METHOD)


def fids(sample: Jackknife, real: Gaussian) -> tuple[float, list[float]]:
    """The FID of all pictures, and the FIDs with each group left out; the reference has no error of its own."""

    def fid(fitted: Gaussian) -> float:
        return frechet_distance(fitted.mean, fitted.covariance, real.mean, real.covariance)

    return fid(sample.all), list(map(fid, sample.without()))  # a comprehension would hold two


def fid_interval(features: NDArray[Any], real: Gaussian, *, level: float = LEVEL, seed: int = 0) -> Interval:
    """An interval of the FID of this generator for N → ∞.

    The FID of the given pictures may lie above it, because of its bias.

    Args:
        features: generated, (N, D), with N above D: the bias of a singular covariance is not of order 1 / N.
        real: the reference; its own error is not considered.
        level: probability that the interval contains the true value.
        seed: of the division into groups.

    Raises:
        ValueError: too few pictures.
    """
    sample = Jackknife(features, seed=seed)
    _require_full_rank(sample.least, features.shape[1])
    return jackknife(*fids(sample, real), level=level)


def fid_infinity(features: NDArray[Any], real: Gaussian, *, points: int = POINTS, seed: int = 0) -> float:
    """The FID for N → ∞: a line through the FIDs of smaller samples over 1 / N (Chong & Forsyth 2020).

    Args:
        features: generated, (N, D), with N / 2 above D.
        real: the reference.
        points: sample sizes, evenly from half of the pictures to all.
        seed: of the samples.

    Raises:
        ValueError: too few pictures.
    """
    count = len(features)
    _require_full_rank(count // 2, features.shape[1])
    rng = np.random.default_rng(seed)
    sizes = np.linspace(count // 2, count, points).astype(int)
    values = []
    for size in sizes:
        fitted = gaussian(features, rows=np.sort(rng.choice(count, size, replace=False)))
        values.append(frechet_distance(fitted.mean, fitted.covariance, real.mean, real.covariance))
    _, intercept = np.polyfit(1 / sizes, values, 1)
    return float(intercept)


def _require_full_rank(count: int, dim: int) -> None:
    if count <= dim:
        raise ValueError(f"{count} pictures are too few for {dim} feature dimensions")


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
