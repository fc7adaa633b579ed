"""`kit score RUN --all`: every candidate of a run, like for like, and which one to take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.dataset import PreparedSet, Split
from kit.generation.generate import generate
from kit.scoring.cache import Cache
from kit.scoring.compute_score import judge
from kit.scoring.extract import FeatureSet, Progress, no_progress
from kit.scoring.interval import fid_interval
from kit.scoring.ranking import key, near
from kit.scoring.record import Interval, Kind, Score
from kit.scoring.reference import References
from kit.training import checkpoint, device
from kit.training.run_folder import candidate_files, generator_file, read_run

COUNT = 2000
"""Pictures of each candidate, unless told otherwise or an interval needs more."""

TRUNCATIONS = (0.7, 1.0, 1.5)
"""Thresholds that the best candidate is also drawn with."""


def enough(dim: int) -> int:
    """Pictures of each candidate: more than the features' dimensions, also with a group left out for the interval."""
    return max(COUNT, 5 * dim // 4)


@dataclass(frozen=True)
class Entry:
    """One way to draw a run's pictures, with its score."""

    pictures: int  # that the average had seen
    truncation: float | None  # None: as the recipe says
    score: Score
    interval: Interval | None  # of its FID; None where there are too few pictures for one

    @property
    def refused(self) -> bool:
        """Whether it lies too near to the training set to be sent."""
        return near(self.score)


@dataclass(frozen=True)
class Comparison:
    """All entries, best first, those too near to the training set last."""

    entries: list[Entry]

    @property
    def recommended(self) -> Entry | None:
        """The best that is not refused."""
        return next((entry for entry in self.entries if not entry.refused), None)

    @property
    def rivals(self) -> list[Entry]:
        """Those whose interval reaches into that of the recommended one: so many pictures do not tell them apart."""
        best = self.recommended
        if best is None or best.interval is None:
            return []
        return [
            entry
            for entry in self.entries
            if entry is not best and not entry.refused and entry.interval and entry.interval.low <= best.interval.high
        ]

    def to_json(self) -> dict[str, Any]:
        """The content of `candidates.json`."""
        best = self.recommended
        return {
            "recommended": {"pictures": best.pictures, "truncation": best.truncation} if best else None,
            "entries": [
                {
                    "pictures": entry.pictures,
                    "truncation": entry.truncation,
                    "refused": entry.refused,
                    "interval": dataclasses.asdict(entry.interval) if entry.interval else None,
                    "score": entry.score.to_json(),
                }
                for entry in self.entries
            ],
        }


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
    """Scores a run's candidates and its last state, then the best of them with other truncations.

    All are drawn from the same latents, which are not those of `images.zip`: the chosen one was not chosen for them.

    Args:
        run: a run folder.
        prepared: the set.
        features: see `kit.scoring.features.build`.
        reference: what of the set to score against.
        split: which side of its hold-out.
        count: pictures of each; None: `enough`.
        truncations: thresholds for the best one; none: no sweep.
        cache: folder for what was computed about the set.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (entries done, entries in all).

    Raises:
        KitError: not a run, a damaged candidate, a truncation that is not above 0, or fewer than two pictures.
    """
    count = enough(features.dim) if count is None else count
    if count < 2:
        raise KitError(f"--count {count}: two pictures are the least", "thousands are better")
    record = read_run(run)
    where = device.choose().kind
    references = References(prepared, features, Cache(cache))
    files = {**candidate_files(run), record.pictures: generator_file(run, pictures=record.pictures)}
    total, entries = len(files) + len(truncations), []

    def entry(pictures: int, truncation: float | None) -> Entry:
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
        )
        generated = features.extract((picture for batch in batches for picture in batch), total=count)
        score = judge(generated, references, reference=reference, split=split, began=began)
        real = references.gaussian(reference, split)
        try:
            interval = fid_interval(generated, real)
        except ValueError:
            interval = None
        return Entry(pictures, truncation, score, interval)

    for done, pictures in enumerate(files, 1):
        entries.append(entry(pictures, None))
        progress(done, total)
    best = min(entries, key=lambda one: key(one.score))
    for done, truncation in enumerate(truncations, len(files) + 1):
        entries.append(entry(best.pictures, truncation))
        progress(done, total)
    return Comparison(sorted(entries, key=lambda one: key(one.score)))


def rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The comparison as a table: its columns, and a row for each entry."""
    columns = ("pictures", "truncation", "MiFID", "FID", "95 % interval", "distance", "margin", "")
    best = comparison.recommended
    table: list[tuple[object, ...]] = []
    for one in comparison.entries:
        score = one.score
        remark = "recommended" if one is best else "refused: too near to the training set" if one.refused else ""
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
    """What to do about it, in lines."""
    best = comparison.recommended
    if best is None:
        return ["none is recommended: all lie too near to the training set, or below its threshold"]
    lines = []
    if comparison.entries and best.score.epsilon is None:
        lines.append(f"no threshold for the memorization distance ({best.score.epsilon_origin}): none was refused")
    if rivals := comparison.rivals:
        lines.append(
            f"{len(rivals)} other{'s' * (len(rivals) > 1)} cannot be told apart from it with {best.score.count:,} "
            "pictures: give a larger --count to be surer"
        )
    count = read_run(run).count
    threshold = "" if best.truncation is None else f" --truncation {best.truncation:g}"
    lines.append(f"kit sample {run} --candidate {best.pictures}{threshold} --count {count} --out images.zip")
    return lines
