"""Scores of a run's candidates: while it trains (`--score-every`), and of all afterwards (`kit score RUN --all`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kit.core.clock import parse_duration, show_duration
from kit.core.errors import KitError
from kit.core.progress import Progress, no_progress
from kit.core.records import Record, to_json
from kit.core.seeds import derive
from kit.data.prepared_set import PreparedSet, Split
from kit.generation.generate import generate
from kit.models.recipe import Recipe
from kit.scoring import features as feature_sets
from kit.scoring.compute_score import compute_score
from kit.scoring.extract import FeatureSet
from kit.scoring.interval import intervals
from kit.scoring.reference import Cache, References, default_cache
from kit.scoring.score_record import Interval, Kind, Score
from kit.training import checkpoint, device
from kit.training.device import Device
from kit.training.run_folder import Candidate, candidate_files, generator_file, read_run

SHARE = 0.05
"""Fraction of the time for scores during training where only an interval is given."""

OWN_SHARE = 0.02
"""Fraction of a budget for training the feature set `own` where no network of the set is kept yet."""

COUNT = 1000
"""Pictures of a score during training."""

TRIAL = 32
"""Pictures that the speed of the feature network is measured on."""

COMPARED = 2000
"""Pictures of each candidate afterwards, unless `--count` is given or an interval needs more."""

TRUNCATIONS = (0.7, 1.0, 1.5)
"""Truncations that the best candidate is also sampled with."""


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """`--score-every` and the flags that belong to it."""

    share: float = SHARE  # fraction of the budget (or of the time so far, where there is none) that scores may take
    interval_s: float = 0.0  # at least so long between two scores
    features: str = "own"
    weights: Path | None = None
    count: int = COUNT  # pictures
    optional: bool = False  # train without scores where the share is too small for them


def parse_every(text: str) -> tuple[float, float]:
    """The share and the interval in "5%", "0.05" (a share) or "10m" (an interval).

    Returns:
        (share of the time, seconds between two scores).

    Raises:
        KitError: neither of these.
    """
    number, percent = text.strip().rstrip("%"), text.strip().endswith("%")
    wrong = KitError(
        f"--score-every {text}: neither a share of the time nor an interval",
        "write a share like 5% or 0.05, or an interval with its unit, like 10m",
    )
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        try:
            return SHARE, parse_duration(text)
        except KitError:
            raise wrong from None
    if not 0 < share < 1:
        raise wrong
    return share, 0.0


class ScoringStoppedError(Exception):
    """A signal stopped the computation of a score."""


class PeriodicScorer:
    """Scores the candidates of a run, always with the same latents, features and reference.

    Training is not changed: the latents have a random stream of their own, and a copy of the average is sampled.

    Args:
        config: how often, on which features.
        prepared: the set.
        recipe: of the run; says how its generator is sampled.
        seed: of the run.
        device: of the run.
        budget_s: seconds in all; None where there is no budget.
        should_stop: called for every picture; True stops the score.

    Raises:
        KitError: the features cannot be had.
    """

    def __init__(
        self,
        config: ScoringConfig,
        prepared: PreparedSet,
        recipe: Recipe,
        *,
        seed: int,
        device: Device,
        budget_s: float | None,
        should_stop: Callable[[], bool],
    ) -> None:
        began = time.perf_counter()
        self._should_stop = should_stop
        self.config, self.recipe, self.seed, self.device, self.budget_s = config, recipe, seed, device, budget_s
        self.features = feature_sets.build(
            config.features,
            weights=config.weights,
            device=device.kind,
            prepared=prepared,
            seconds=None if budget_s is None else min(OWN_SHARE, config.share) * budget_s,
        )
        self.references = References(prepared, self.features, Cache(default_cache(prepared)))
        self.setup_s = time.perf_counter() - began
        self.spent_s = 0.0  # on scores, without the setup
        self.cost_s = 0.0  # of the latest score
        self._last_s = 0.0

    def prepare(self, generator: nn.Module) -> None:
        """Extracts the features of the reference where they are not kept, and measures what a score costs.

        Raises:
            KitError: this alone would take more than the share of the budget.
            ScoringStoppedError: `should_stop` was True.
        """
        began = time.perf_counter()
        per_picture = self.features.seconds_per_picture(np.array(self.references.prepared.images[:TRIAL]))
        pictures = self.references.pending_count("whole")
        expected = self.setup_s + per_picture * (pictures + 2 * self.config.count)
        if self.budget_s is not None and expected > self.config.share * self.budget_s:
            raise KitError(
                f"no scores during training: the features of {pictures:,} real pictures and two scores take about "
                f"{show_duration(max(1, expected))}, more than {self.config.share:.1%} of the budget",
                "give a larger share, or run `kit score` with this set once, which keeps the features",
            )
        self.references.gaussian("whole", "all")
        self.references.epsilon()
        self.setup_s += time.perf_counter() - began
        self.score(generator)
        self.spent_s = 0.0
        self.setup_s += self.cost_s

    def due(self, now_s: float) -> bool:
        """Whether there is time for a score at `now_s` seconds of the run and for the one at its end."""
        total = self.budget_s or now_s
        allowed = (self.config.share * total - self.setup_s) * now_s / total if total else 0.0
        if now_s - self._last_s < self.config.interval_s or self.spent_s + 2 * self.cost_s > allowed:
            return False
        self._last_s = now_s
        return True

    def score(self, generator: nn.Module) -> Score:
        """The score of an averaged generator, which is not changed.

        Raises:
            ScoringStoppedError: `should_stop` was True.
        """
        began = time.perf_counter()
        generated = _sample_features(
            generator,
            self.recipe,
            self.references,
            count=self.config.count,
            size=self.references.prepared.size,
            seed=self.seed,
            device=self.device.kind,
            precision=self.device.precision,
            should_stop=self._should_stop,
        )
        result = compute_score(generated, self.references, began=began)
        self.cost_s = time.perf_counter() - began
        self.spent_s += self.cost_s
        return result


def _sample_features(
    generator: nn.Module,
    recipe: Recipe,
    references: References,
    *,
    count: int,
    size: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    truncation: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float32]:
    """The features of generated pictures, (count, dim); of a translation at most one for each input.

    All candidates of a run are sampled from the same latents. These are not the latents of `images.zip`, so its score
    is not biased by the choice.
    """
    inputs = references.prepared.inputs
    count = count if inputs is None else min(count, len(inputs))
    batches = generate(
        generator,
        recipe,
        count=count,
        size=size,
        seed=derive(seed, "candidates"),
        device=device,
        truncation=truncation,
        precision=precision,
        inputs=inputs,
    )

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for batch in batches:
            for picture in batch:
                if should_stop():
                    raise ScoringStoppedError
                yield picture

    return references.features.extract(pictures(), total=count)


def enough(dim: int) -> int:
    """Pictures of each candidate: more than the dimensions of the features, even without a group of the jackknife."""
    return max(COMPARED, 5 * dim // 4)


@dataclass(frozen=True, kw_only=True)
class ScoredCandidate:
    """A candidate with a truncation, and its score."""

    pictures: int  # that the generator had seen
    raw: bool = False  # G itself, not its average
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
        others = (one for one in self.entries if one is not best and not one.score.too_near)
        return [one for one in others if one.interval and one.interval.low <= best.interval.high]

    def to_json(self) -> dict[str, Any]:
        """The comparison for a script, with the recommended one on top."""
        best = self.recommended
        chosen = {"pictures": best.pictures, "raw": best.raw, "truncation": best.truncation} if best else None
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
    files = {**candidate_files(run), Candidate(record.pictures): generator_file(run, pictures=record.pictures)}
    entries: list[ScoredCandidate] = []
    if record.recipe.task == "translation":  # it has no z
        truncations = ()
    expected = len(files) + len(truncations)

    def add(candidate: Candidate, truncation: float | None) -> None:
        began = time.perf_counter()
        generator, recipe, shape, _ = checkpoint.load_generator(files[candidate], trust=trust)
        generated = _sample_features(
            generator.to(where),
            recipe,
            references,
            count=count,
            size=shape.size,
            seed=record.seed,
            device=where,
            precision=getattr(torch, record.device.precision),
            truncation=truncation,
        )
        score = compute_score(generated, references, reference=reference, split=split, began=began)
        interval, _ = intervals(generated, references.gaussian(reference, split))
        entries.append(ScoredCandidate(**candidate._asdict(), truncation=truncation, score=score, interval=interval))
        progress(len(entries), expected)

    for candidate in files:
        add(candidate, None)
    best = min(entries, key=lambda one: one.score.rank_key)
    for truncation in truncations:
        add(Candidate(best.pictures, best.raw), truncation)
    return Comparison(entries=tuple(sorted(entries, key=lambda one: one.score.rank_key)))


def rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The comparison as a table: columns and rows."""
    columns = ("pictures", "truncation", "MiFID", "FID", "95 % interval", "distance", "margin", "")
    best = comparison.recommended
    table: list[tuple[object, ...]] = []
    for one in comparison.entries:
        score = one.score
        remarks = ["without the average"] * one.raw
        remarks += ["recommended"] if one is best else ["too near to the training set"] * score.too_near
        table.append(
            (
                one.pictures,
                "recipe's" if one.truncation is None else f"{one.truncation:g}",
                None if score.mifid is None else round(score.mifid, 2),
                round(score.fid, 2),
                "–" if one.interval is None else f"{one.interval.low:.2f}–{one.interval.high:.2f}",
                round(score.distance, 4),
                "–" if score.margin is None else f"{score.margin:+.0%}",
                ", ".join(remarks),
            )
        )
    return columns, table


def verdict(run: Path, comparison: Comparison) -> list[str]:
    """The recommendation, in lines."""
    best = comparison.recommended
    if best is None:
        return ["none is recommended: the memorization distance of each is below ε, or hardly above it"]
    lines = []
    if best.score.epsilon is None:
        lines.append(f"no threshold for the memorization distance ({best.score.epsilon_origin}): it was not considered")
    if rivals := comparison.rivals:
        lines.append(
            f"{len(rivals)} other{'s' * (len(rivals) > 1)} may be as good: their intervals overlap with "
            f"{best.score.count:,} pictures; a larger --count makes them smaller"
        )
    threshold = "" if best.truncation is None else f" --truncation {best.truncation:g}"
    count = read_run(run).count
    lines.append(
        f"kit sample {run} --candidate {best.pictures}{' --raw' * best.raw}{threshold} --count {count} --out images.zip"
    )
    return lines
