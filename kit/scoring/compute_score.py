"""A score: generated pictures against a prepared set, on one feature set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.files import sha256
from kit.data.dataset import PreparedSet, Split
from kit.generation.pictures import picture_names, read_pictures
from kit.scoring import sqrtm_reference
from kit.scoring.cache import Cache, default_cache
from kit.scoring.details import details
from kit.scoring.estimate import Estimate, arithmetic_seconds
from kit.scoring.extract import Features, FeatureSet, Progress, no_progress
from kit.scoring.frechet import Frechet, Gaussian, frechet, gaussian
from kit.scoring.memorization import nearest_distances
from kit.scoring.mifid import mifid
from kit.scoring.record import Against, Flag, Kind, Method, Score, comparable, load, save
from kit.scoring.reference import References
from kit.scoring.resize import Pixels

__all__ = ["Against", "Score", "comparable", "default_cache", "judge", "load", "save", "score"]

Announce = Callable[[Estimate], None]


def no_announcement(estimate: Estimate) -> None:
    """Tells nobody."""


class Phases:
    """One progress over several stretches of work, each of which counts from 0.

    Args:
        progress: called with (pictures done in all, total).
        total: pictures in all.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._before = self._now = 0

    def __call__(self, done: int, _: int) -> None:
        """Tells how far the present stretch has come."""
        self._now = done
        self._progress(self._before + done, self._total)

    def next(self) -> None:
        """Begins the next stretch."""
        self._before, self._now = self._before + self._now, 0


def score(
    pictures: Path,
    prepared: PreparedSet,
    *,
    features: FeatureSet,
    reference: Kind = "whole",
    split: Split = "all",
    count: int | None = None,
    method: Method = "symmetric",
    detailed: bool = False,
    cache: Path | None = None,
    announce: Announce = no_announcement,
    progress: Progress = no_progress,
) -> Score:
    """Scores generated pictures against a prepared set.

    Args:
        pictures: a zip or a folder of them, of the set's size and number of channels.
        prepared: the set.
        features: see `kit.scoring.features.build`.
        reference: what of the set to score against.
        split: which side of its hold-out.
        count: at most so many of the pictures, the first by name.
        method: how the covariances' root is taken; "scorer" follows the competition's scorer to the letter.
        detailed: also everything of `Details`.
        cache: folder for what was computed about the set, usually `default_cache(prepared)`; None keeps nothing.
        announce: called once, before the long work, with how long it will take.
        progress: called with (pictures done, pictures to do), whether generated or real.

    Raises:
        KitError: too few pictures on either side, one that cannot be read or is of another size or mode, features
            that are not finite, or zero throughout.
    """
    began = time.perf_counter()
    names = picture_names(pictures)[: None if count is None else max(0, count)]
    references = References(prepared, features, Cache(cache))
    rows = references.rows(reference, split)
    _require_two(len(names), f"{pictures}: only {len(names)} picture(s)", "two are the least, thousands are better")
    _require_two(len(rows), f"{prepared.path}: only {len(rows)} picture(s) in its {split} part", "use --split all")

    pending = references.pending(reference)
    todo = len(names) + sum(references.count(kind) for kind in pending)
    first = np.stack(list(_checked(pictures, prepared, limit=_TRIAL)))
    per_picture = features.seconds_per_picture(first)
    arithmetic = arithmetic_seconds(generated=len(names), real=len(rows), dim=features.dim)
    announce(
        Estimate(
            seconds=todo * per_picture + arithmetic,
            generated=len(names),
            real=todo - len(names),
            cached=len(rows) if reference not in pending else 0,
        )
    )

    phases = Phases(progress, todo)
    # The generated ones first: what is wrong with them shows before the reference is worked through.
    generated = features.extract(_checked(pictures, prepared, limit=len(names)), total=len(names), progress=phases)
    return judge(
        generated,
        references,
        reference=reference,
        split=split,
        method=method,
        detailed=detailed,
        began=began,
        archive=None if pictures.is_dir() else sha256(pictures),
        phases=phases,
    )


def judge(
    generated: Features,
    references: References,
    *,
    reference: Kind = "whole",
    split: Split = "all",
    method: Method = "symmetric",
    detailed: bool = False,
    began: float,
    archive: str | None = None,
    phases: Phases | None = None,
) -> Score:
    """The score of features that were extracted already.

    Args:
        generated: float32 (N, dim), by the same feature set as the references.
        references: the prepared set, seen through it.
        reference: what of the set to score against.
        split: which side of its hold-out.
        method: see `score`.
        detailed: see `score`.
        began: `time.perf_counter()` when the work on this score began.
        archive: SHA-256 of the zip that the pictures are from.
        phases: told of the real pictures that are worked through because they are not known already.

    Raises:
        KitError: features that are zero throughout.
    """
    prepared, features = references.prepared, references.features
    phases = phases or Phases(no_progress, 0)
    phases.next()
    real = references.gaussian(reference, split, progress=phases)
    real_features = references.chosen(reference, split, progress=phases)
    phases.next()
    epsilon = references.epsilon(progress=phases)
    result = _frechet(gaussian(generated), real, method)
    nearest = _nearest(generated, real_features, features.name)
    distance = float(np.nanmean(nearest))
    flags: list[Flag] = []
    if result.rank_deficient:
        flags.append("rank-deficient")
    if not features.trained:
        flags.append("uncalibrated")
    return Score(
        fid=result.distance,
        distance=distance,
        mifid=None if epsilon.value is None else mifid(result.distance, distance, epsilon.value),
        epsilon=epsilon.value,
        epsilon_origin=epsilon.origin,
        features=features.record(),
        reference=Against(name=prepared.name, digest=prepared.digest, kind=reference, split=split, count=real.count),
        count=len(generated),
        size=prepared.size,
        flags=tuple(flags),
        seconds=time.perf_counter() - began,
        archive=archive,
        method=method,
        details=details(generated, real_features, real, nearest=nearest, epsilon=epsilon.value) if detailed else None,
    )


_TRIAL = 32
"""Pictures to time before the estimate."""


def _checked(path: Path, prepared: PreparedSet, *, limit: int) -> Iterator[Pixels]:
    """The pictures, each of the set's size."""
    side = prepared.size
    for name, pixels in read_pictures(path, mode="RGB" if prepared.channels == 3 else "L", limit=limit, convert=False):
        if pixels.shape[:2] != (side, side):
            height, width = pixels.shape[:2]
            raise KitError(
                f"{path}: {name} is {width}×{height}, and the pictures of {prepared.path} are {side}×{side}",
                "score pictures of one size, against a set prepared with that --size",
            )
        yield pixels


def _require_two(count: int, problem: str, remedy: str) -> None:
    if count < 2:
        raise KitError(problem, remedy)


def _frechet(generated: Gaussian, real: Gaussian, method: Method) -> Frechet:
    if method == "symmetric":
        return frechet(generated.mean, generated.covariance, real.mean, real.covariance)
    try:
        distance = sqrtm_reference.frechet_distance(generated.mean, generated.covariance, real.mean, real.covariance)
    except ValueError as error:
        raise KitError(
            f"the scorer's method fails here: {error}", "score more pictures, or leave --method out"
        ) from error
    dim = len(real.mean)
    return Frechet(distance, rank_deficient=min(generated.count, real.count) <= dim)


def _nearest(generated: Features, real: Features, name: str) -> NDArray[np.float64]:
    try:
        return nearest_distances(generated, real)
    except ValueError as error:
        raise KitError(f"{name}: no memorization distance ({error})") from error
