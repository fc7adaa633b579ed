"""Everything a score says beyond its one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.scoring.extract import Features
from kit.scoring.frechet import Gaussian
from kit.scoring.interval import Jackknife, fid_infinity, fids, jackknife
from kit.scoring.kid import kid
from kit.scoring.mifid import mifid
from kit.scoring.prdc import NEIGHBOURS_DC, manifold
from kit.scoring.record import Details, Interval

MANIFOLD_COUNT = 5000
"""Pictures of each side for precision, recall, density and coverage: their cost grows with the square."""


def details(
    generated: Features,
    real: Features,
    fitted: Gaussian,
    *,
    nearest: NDArray[np.float64],
    epsilon: float | None,
    seed: int = 0,
) -> Details:
    """Intervals, FID∞, KID, precision, recall, density and coverage.

    Args:
        generated: features (N, D).
        real: features (M, D), mapped from disk or not.
        fitted: the real ones' mean and covariance.
        nearest: see `kit.scoring.memorization.nearest_distances`, (N,).
        epsilon: the memorization threshold; None where there is none.
        seed: of all that is drawn.

    Raises:
        KitError: fewer than six pictures on a side.
    """
    rng = np.random.default_rng(seed)
    least = min(len(generated), len(real))
    if least <= NEIGHBOURS_DC:
        raise KitError(f"{least} pictures are too few for precision and recall", "leave them out with --brief")
    shape = manifold(*(_some(rows, rng) for rows in (generated, real)))
    kernel = kid(generated, real, seed=seed)
    fid_range, mifid_range = _intervals(generated, fitted, nearest, epsilon)
    return Details(
        fid_interval=fid_range,
        mifid_interval=mifid_range,
        fid_infinity=fid_infinity(generated, fitted, seed=seed) if len(generated) // 2 > generated.shape[1] else None,
        kid=kernel.mean,
        kid_std=kernel.std,
        kid_subset=kernel.subset_size,
        precision=shape.precision,
        recall=shape.recall,
        density=shape.density,
        coverage=shape.coverage,
        manifold_count=MANIFOLD_COUNT,
    )


def _some(features: Features, rng: np.random.Generator) -> Features:
    """As many of them as precision and recall are taken on, in their order."""
    return features[np.sort(rng.choice(len(features), min(len(features), MANIFOLD_COUNT), replace=False))]


def _intervals(
    generated: Features, real: Gaussian, nearest: NDArray[np.float64], epsilon: float | None
) -> tuple[Interval | None, Interval | None]:
    """Of FID and of MiFID, by the same groups."""
    try:
        sample = Jackknife(generated)
    except ValueError:
        return None, None
    if sample.least <= generated.shape[1]:
        return None, None
    whole, parts = fids(sample, real)
    if epsilon is None:
        return jackknife(whole, parts), None
    distance = float(np.nanmean(nearest))
    distances = [float(np.nanmean(np.delete(nearest, rows))) for rows in sample.rows]
    if len({value < epsilon for value in (distance, *distances)}) > 1:
        return jackknife(whole, parts), None
    penalised = [mifid(fid, d, epsilon) for fid, d in zip(parts, distances, strict=True)]
    return jackknife(whole, parts), jackknife(mifid(whole, distance, epsilon), penalised)
