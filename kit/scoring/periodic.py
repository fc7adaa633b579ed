"""Scores during training: of the averaged generator, on fixed latents, in a given fraction of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kit.core.clock import parse_duration, show_duration
from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.prepared_set import PreparedSet
from kit.generation.generate import generate
from kit.models.recipe import Recipe
from kit.scoring import features as feature_sets
from kit.scoring.compute_score import compute_score
from kit.scoring.reference import Cache, References, default_cache
from kit.scoring.score_record import Score
from kit.training.device import Device

SHARE = 0.05
"""Fraction of the time for scores where only an interval is given."""

OWN_SHARE = 0.02
"""Fraction of a budget for training the feature set `own` where no network of the set is kept yet."""

COUNT = 1000
"""Pictures of a score."""

TRIAL = 32
"""Pictures that the speed of the feature network is measured on."""


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
        self.config, self.recipe, self.device, self.budget_s = config, recipe, device, budget_s
        self.seed = derive(seed, "candidates")
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
        prepared = self.references.prepared
        per_picture = self.features.seconds_per_picture(np.array(prepared.images[:TRIAL]))
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
        generated = self.features.extract(self._pictures(generator), total=self.config.count)
        result = compute_score(generated, self.references, began=began)
        self.cost_s = time.perf_counter() - began
        self.spent_s += self.cost_s
        return result

    def _pictures(self, generator: nn.Module) -> Iterator[NDArray[np.uint8]]:
        batches = generate(
            generator,
            self.recipe,
            count=self.config.count,
            size=self.references.prepared.size,
            seed=self.seed,
            device=self.device.kind,
            precision=self.device.precision,
            inputs=self.references.prepared.inputs,
        )
        for batch in batches:
            for picture in batch:
                if self._should_stop():
                    raise ScoringStoppedError
                yield picture
