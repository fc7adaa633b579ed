"""`kit score RUN --all`: the scores of all candidates of a run, and which one is recommended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from kit.core.errors import KitError
from kit.core.progress import Progress, no_progress
from kit.core.records import Record, to_json
from kit.core.seeds import derive
from kit.data.prepared_set import PreparedSet, Split
from kit.generation.generate import generate
from kit.scoring.compute_score import compute_score
from kit.scoring.extract import FeatureSet
from kit.scoring.interval import intervals
from kit.scoring.reference import Cache, References
from kit.scoring.score_record import Interval, Kind, Score
from kit.training import checkpoint, device
from kit.training.run_folder import candidate_files, generator_file, read_run

COUNT = 2000
"""Pictures of each candidate, unless `--count` is given or an interval needs more."""

TRUNCATIONS = (0.7, 1.0, 1.5)
"""Truncations that the best candidate is also sampled with."""


def enough(dim: int) -> int:
    """Pictures of each candidate: more than the dimensions of the features, even without a group of the jackknife."""
    return max(COUNT, 5 * dim // 4)


@dataclass(frozen=True, kw_only=True)
class ScoredCandidate:
    """A candidate with a truncation, and its score."""

    pictures: int  # that the average had seen
    truncation: float | None  # None: the recipe's
    score: Score
    interval: Interval | None  # of its FID; None where there are too few pictures


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """The content of `candidates.json`: all entries, best first, those too near to the training set last."""

    FORMAT: ClassVar[str] = "kit-candidates"
    VERSION: ClassVar[int] = 1

    entries: tuple[ScoredCandidate, ...]

    @property
    def recommended(self) -> ScoredCandidate | None:
        """The best that is not too near to the training set."""
        return next((entry for entry in self.entries if not entry.score.too_near), None)

    @property
    def rivals(self) -> list[ScoredCandidate]:
        """Those whose interval overlaps that of the recommended one: with so many pictures they may be as good."""
        best = self.recommended
        if best is None or best.interval is None:
            return []
        return [
            entry
            for entry in self.entries
            if entry is not best
            and not entry.score.too_near
            and entry.interval
            and entry.interval.low <= best.interval.high
        ]

    def to_json(self) -> dict[str, Any]:
        """The comparison for a script, with the recommended one on top."""
        best = self.recommended
        chosen = {"pictures": best.pictures, "truncation": best.truncation} if best else None
        return {"recommended": chosen, **to_json(self)}


def compare(
    run: Path,
    prepared: PreparedSet,
    *,
    features: FeatureSet,
    reference: Kind = "whole",
    split: Split = "all",
    count: int | None = None,
    truncations: Sequence[float] = TRUNCATIONS,
    cache: Path | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Comparison:
    """Scores the candidates of a run and its last state, then the best of them with other truncations.

    All are sampled from the same latents. These are not the latents of `images.zip`, so its score is not biased by the
    choice.

    Args:
        run: a run folder.
        prepared: the set.
        features: see `kit.scoring.features.build`.
        reference: which pictures of the set.
        split: which side of its hold-out.
        count: pictures of each; None: `enough`.
        truncations: for the best one.
        cache: folder for features of the set.
        trust: whether code of a model file may be run.
        progress: called with (entries done, entries in all).

    Raises:
        KitError: not a run, a damaged candidate, a truncation that is not above 0, or fewer than two pictures.
    """
    count = enough(features.dim) if count is None else count
    if count < 2:
        raise KitError(f"--count {count}: too few", "a score needs at least two pictures, better thousands")
    record = read_run(run)
    where = device.choose().kind
    references = References(prepared, features, Cache(cache))
    files = {**candidate_files(run), record.pictures: generator_file(run, pictures=record.pictures)}
    total, entries = len(files) + len(truncations), []

    def entry(pictures: int, truncation: float | None) -> ScoredCandidate:
        began = time.perf_counter()
        generator, recipe, shape, _ = checkpoint.load_generator(files[pictures], trust=trust)
        batches = generate(
            generator.to(where),
            recipe,
            count=count,
            size=shape.size,
            seed=derive(record.seed, "candidates"),
            device=where,
            truncation=truncation,
            precision=getattr(torch, record.device.precision),
            inputs=prepared.inputs,
        )
        generated = features.extract((picture for batch in batches for picture in batch), total=count)
        score = compute_score(generated, references, reference=reference, split=split, began=began)
        interval, _ = intervals(generated, references.gaussian(reference, split))
        return ScoredCandidate(pictures=pictures, truncation=truncation, score=score, interval=interval)

    for done, pictures in enumerate(files, 1):
        entries.append(entry(pictures, None))
        progress(done, total)
    best = min(entries, key=lambda one: one.score.rank_key)
    for done, truncation in enumerate(truncations, len(files) + 1):
        entries.append(entry(best.pictures, truncation))
        progress(done, total)
    return Comparison(entries=tuple(sorted(entries, key=lambda one: one.score.rank_key)))


def rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The comparison as a table: columns and rows."""
    columns = ("pictures", "truncation", "MiFID", "FID", "95 % interval", "distance", "margin", "")
    best = comparison.recommended
    table: list[tuple[object, ...]] = []
    for one in comparison.entries:
        score = one.score
        remark = "recommended" if one is best else "too near to the training set" if one.score.too_near else ""
        table.append(
            (
                one.pictures,
                "recipe's" if one.truncation is None else f"{one.truncation:g}",
                None if score.mifid is None else round(score.mifid, 2),
                round(score.fid, 2),
                "–" if one.interval is None else f"{one.interval.low:.2f}–{one.interval.high:.2f}",
                round(score.distance, 4),
                "–" if score.margin is None else f"{score.margin:+.0%}",
                remark,
            )
        )
    return columns, table


def verdict(run: Path, comparison: Comparison) -> list[str]:
    """The recommendation, in lines."""
    best = comparison.recommended
    if best is None:
        return ["none is recommended: the memorization distance of each is below ε, or hardly above it"]
    lines = []
    if comparison.entries and best.score.epsilon is None:
        lines.append(f"no threshold for the memorization distance ({best.score.epsilon_origin}): it was not considered")
    if rivals := comparison.rivals:
        lines.append(
            f"{len(rivals)} other{'s' * (len(rivals) > 1)} may be as good: their intervals overlap with "
            f"{best.score.count:,} pictures; a larger --count makes them smaller"
        )
    count = read_run(run).count
    threshold = "" if best.truncation is None else f" --truncation {best.truncation:g}"
    lines.append(f"kit sample {run} --candidate {best.pictures}{threshold} --count {count} --out images.zip")
    return lines
