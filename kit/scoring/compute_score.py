"""A score: generated pictures against a prepared set, on one feature set."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit import competition
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.progress import Progress, no_progress
from kit.data.prepared_set import PreparedSet, Split
from kit.generation.pictures import picture_names, read_pictures, resize
from kit.scoring.extract import Features, FeatureSet, Pixels
from kit.scoring.frechet import Frechet, Gaussian, frechet, gaussian, sqrtm_reference
from kit.scoring.interval import fid_infinity, intervals
from kit.scoring.kid import kid
from kit.scoring.memorization import memorization_distance, nearest_distances
from kit.scoring.mifid import mifid
from kit.scoring.prdc import NEIGHBOURS_DC, prdc
from kit.scoring.reference import Cache, References
from kit.scoring.score_record import Details, Flag, InputsScore, Kind, Method, ReferenceRecord, Score

log = logging.getLogger(__name__)

PRDC_COUNT = 5000
"""Pictures of each side for precision, recall, density and coverage; their cost grows with its square."""


def score_pictures(
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
    progress: Progress = no_progress,
) -> Score:
    """Scores generated pictures against a prepared set, or a folder of real pictures.

    Args:
        pictures: a zip or a folder of them. They have the set's size, or the competition's: then they are resized.
        prepared: the set, or a `FolderReference`.
        features: see `kit.scoring.features.build`.
        reference: which pictures of the set.
        split: which side of its hold-out.
        count: at most so many of the generated pictures, the first by name.
        method: how the matrix root is computed; "sqrtm" as the competition's scorer does.
        detailed: with `Details`.
        cache: folder for features of the set, usually `default_cache(prepared)`; None keeps nothing.
        progress: called with (pictures done, pictures in all), generated and real ones together.

    Raises:
        KitError: too few pictures on either side; a picture that cannot be read, or has another size or mode; features
            that are not finite, or 0 throughout.
    """
    began = time.perf_counter()
    names = picture_names(pictures)[: None if count is None else max(0, count)]
    references = References(prepared, features, Cache(cache))
    _require_two(len(names), f"{pictures}: only {len(names)} picture(s)", "a score needs at least two")
    rows = len(references.rows(reference, split))
    _require_two(rows, f"{prepared.path}: only {rows} picture(s) in its {split} part", "use --split all")

    done, pending = 0, references.pending_count(reference, inputs=True)
    log.info("features of %s generated and %s real pictures", f"{len(names):,}", f"{pending:,}")

    def advance(now: int, total: int) -> None:
        progress(done + now, len(names) + pending)

    # The generated pictures first, so that an error in them comes early.
    resized, matching = read_matching(pictures, prepared, limit=len(names))
    generated = features.extract(matching, total=len(names), progress=advance)
    done = len(generated)
    for array in references.pending(reference, inputs=True):
        done += len(references.extracted(array, progress=advance))
    score = compute_score(
        generated, references, reference=reference, split=split, method=method, detailed=detailed, began=began
    )
    return dataclasses.replace(
        score,
        resized=resized,
        archive=None if pictures.is_dir() else sha256(pictures),
        inputs=_score_inputs(references, score, detailed=detailed),
        seconds=time.perf_counter() - began,
    )


def compute_score(
    generated: Features,
    references: References,
    *,
    reference: Kind = "whole",
    split: Split = "all",
    method: Method = "symmetric",
    detailed: bool = False,
    began: float,
) -> Score:
    """The score of extracted features, float32 (N, dim), of the feature set of the references.

    `began` is `time.perf_counter()` when the work on this score began; for the rest see `score_pictures`.

    Raises:
        KitError: features that are 0 throughout.
    """
    prepared, features = references.prepared, references.features
    real, real_features = references.gaussian(reference, split), references.split_features(reference, split)
    epsilon = references.epsilon()
    result = _frechet(gaussian(generated), real, method)
    try:
        nearest = nearest_distances(generated, real_features)
    except ValueError as error:
        raise KitError(f"{features.name}: no memorization distance ({error})") from error
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
        features=features.record,
        reference=ReferenceRecord(
            name=prepared.name, digest=prepared.digest, kind=reference, split=split, count=real.count
        ),
        count=len(generated),
        size=prepared.size,
        flags=tuple(flags),
        seconds=time.perf_counter() - began,
        method=method,
        details=details(generated, real_features, real, nearest=nearest, epsilon=epsilon.value) if detailed else None,
    )


def _score_inputs(references: References, score: Score, *, detailed: bool) -> InputsScore | None:
    """The score of the untouched inputs of a translation, as many as there are pictures: the FID depends on it."""
    if references.prepared.inputs is None:
        return None
    inputs = references.extracted("inputs")[: score.count]
    if len(inputs) < 2:
        return None
    kind, split = score.reference.kind, score.reference.split
    real = references.split_features(kind, split)
    fid = _frechet(gaussian(inputs), references.gaussian(kind, split), score.method).distance
    return InputsScore(
        count=len(inputs),
        fid=fid,
        mifid=None if score.epsilon is None else mifid(fid, memorization_distance(inputs, real), score.epsilon),
        kid=kid(inputs, real).mean if detailed else None,
    )


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
        real: features (M, D), which may be memory-mapped.
        fitted: mean and covariance of the real ones.
        nearest: see `kit.scoring.memorization.nearest_distances`, (N,).
        epsilon: the memorization threshold; None where there is none.
        seed: of everything that is drawn at random.

    Raises:
        KitError: fewer than six pictures on a side.
    """
    rng = np.random.default_rng(seed)
    least = min(len(generated), len(real))
    if least <= NEIGHBOURS_DC:
        raise KitError(f"{least} pictures are too few for precision and recall", "leave them out with --brief")
    shape = prdc(*(_subset(rows, rng) for rows in (generated, real)))
    kernel = kid(generated, real, seed=seed)
    fid_interval, mifid_interval = intervals(generated, fitted, nearest=nearest, epsilon=epsilon)
    return Details(
        fid_interval=fid_interval,
        mifid_interval=mifid_interval,
        fid_infinity=fid_infinity(generated, fitted, seed=seed),
        kid=kernel.mean,
        kid_std=kernel.std,
        kid_subset=kernel.subset_size,
        precision=shape.precision,
        recall=shape.recall,
        density=shape.density,
        coverage=shape.coverage,
        prdc_count=PRDC_COUNT,
    )


def _subset(features: Features, rng: np.random.Generator) -> Features:
    """At most PRDC_COUNT of the features, in their order."""
    return features[np.sort(rng.choice(len(features), min(len(features), PRDC_COUNT), replace=False))]


def _frechet(generated: Gaussian, real: Gaussian, method: Method) -> Frechet:
    moments = (generated.mean, generated.covariance, real.mean, real.covariance)
    if method == "symmetric":
        return frechet(*moments)
    try:
        distance = sqrtm_reference(*moments)
    except ValueError as error:
        raise KitError(f"--method sqrtm fails here: {error}", "score more pictures, or leave --method out") from error
    return Frechet(distance, rank_deficient=min(generated.count, real.count) <= len(real.mean))


def read_matching(path: Path, prepared: PreparedSet, *, limit: int | None) -> tuple[str | None, Iterator[Pixels]]:
    """Generated pictures with the size and the channels of a set.

    A generator that was trained at another size than the competition's, or on grey pictures, writes its pictures at the
    competition's size and mode: these are resized to the set's size, and become grey.

    Returns:
        How they are resized (None: not at all), and the pictures of a zip or a folder, the first `limit` by name: uint8
        (size, size, channels) each.

    Raises:
        KitError: one that cannot be read, or has another size or mode.
    """
    grey, side = prepared.channels == 1, prepared.size
    official = competition.get(prepared.competition).size

    def read(count: int | None) -> Iterator[tuple[str, Pixels]]:
        return read_pictures(path, mode="L" if grey else "RGB", limit=count, convert=grey)

    _, first = next(read(1))
    resized = first.shape[:2] == (official, official) != (side, side)
    wanted = official if resized else side

    def matching() -> Iterator[Pixels]:
        for name, pixels in read(limit):
            if pixels.shape[:2] != (wanted, wanted):
                height, width = pixels.shape[:2]
                raise KitError(
                    f"{path}: {name} is {width}×{height}, and the pictures of {prepared.path} are {side}×{side}",
                    "score pictures of one size, against a set prepared with that --size",
                )
            yield resize(pixels[None], side)[0] if resized else pixels

    return f"resized from {official}² to {side}² by Pillow's LANCZOS" if resized else None, matching()


def _require_two(count: int, problem: str, remedy: str) -> None:
    if count < 2:
        raise KitError(problem, remedy)
