"""Scores in the middle of training: of the generator's average, on fixed latents, in a stated share of the time."""

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
from kit.data.dataset import PreparedSet
from kit.generation.generate import generate
from kit.models.recipe import Recipe
from kit.scoring import features as feature_sets
from kit.scoring.cache import Cache, default_cache
from kit.scoring.compute_score import Score, judge
from kit.scoring.reference import References
from kit.training.device import Device

SHARE = 0.05
"""Of the time, where only an interval was asked for."""

OWN_SHARE = 0.02
"""Of a budget, for teaching the feature set `own` where no network of the set is kept yet."""

COUNT = 1000
"""Pictures of a score: fewer rank too roughly, more take too long."""

TRIAL = 32
"""Pictures that the feature network is timed on."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `--score-every` and its companions asked for."""

    share: float = SHARE  # of the budget (of the time so far, where there is none) that scores may take
    interval_s: float = 0.0  # at least so long between two scores
    features: str = "own"
    weights: Path | None = None
    count: int = COUNT  # pictures
    optional: bool = False  # where the share is too small for them, train without them


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


class GivenUpError(Exception):
    """A score was given up, as a signal asked for the end."""


class Watch:
    """Scores a run's candidates like for like: the same latents, features and reference each time.

    Training is left as it is: the latents have a random stream of their own, and a copy or the average is drawn from.

    Args:
        asked: how often, on which features.
        prepared: the set.
        recipe: of the run; says how its generator is drawn from.
        seed: of the run.
        device: of the run.
        budget_s: seconds in all; None where there is no budget.
        told_to_stop: asked at every picture; true gives the score up.

    Raises:
        KitError: the features cannot be had.
    """

    def __init__(
        self,
        asked: Asked,
        prepared: PreparedSet,
        recipe: Recipe,
        *,
        seed: int,
        device: Device,
        budget_s: float | None,
        told_to_stop: Callable[[], bool],
    ) -> None:
        began = time.perf_counter()
        self._told_to_stop = told_to_stop
        self.asked, self.recipe, self.device, self.budget_s = asked, recipe, device, budget_s
        self.seed = derive(seed, "candidates")
        self.features = feature_sets.build(
            asked.features,
            weights=asked.weights,
            device=device.kind,
            prepared=prepared,
            seconds=None if budget_s is None else min(OWN_SHARE, asked.share) * budget_s,
        )
        self.references = References(prepared, self.features, Cache(default_cache(prepared)))
        self.setup_s = time.perf_counter() - began
        self.spent_s = 0.0  # on scores, without what is paid once
        self.cost_s = 0.0  # of the last score
        self._last_s = 0.0

    def prepare(self, generator: nn.Module) -> None:
        """Works the reference through where it is not known yet, and takes a first score to learn what one costs.

        Raises:
            KitError: that alone would take more than the share of the budget.
            GivenUpError: told to stop.
        """
        began = time.perf_counter()
        prepared = self.references.prepared
        per_picture = self.features.seconds_per_picture(np.array(prepared.images[:TRIAL]))
        pictures = sum(self.references.count(kind) for kind in self.references.pending("whole"))
        expected = self.setup_s + per_picture * (pictures + 2 * self.asked.count)
        if self.budget_s is not None and expected > self.asked.share * self.budget_s:
            raise KitError(
                f"no scores during training: the features of {pictures:,} real pictures and two scores take about "
                f"{show_duration(max(1, expected))}, more than {self.asked.share:.1%} of the budget",
                "give a larger share, or run `kit score` on this set once, which keeps them",
            )
        self.references.gaussian("whole", "all")
        self.references.epsilon()
        self.setup_s += time.perf_counter() - began
        self.score(generator)
        self.spent_s = 0.0
        self.setup_s += self.cost_s

    def due(self, now_s: float) -> bool:
        """Whether there is time for a score at `now_s` seconds of the run, and for the one at its end."""
        total = self.budget_s or now_s
        allowed = (self.asked.share * total - self.setup_s) * now_s / total if total else 0.0
        if now_s - self._last_s < self.asked.interval_s or self.spent_s + 2 * self.cost_s > allowed:
            return False
        self._last_s = now_s
        return True

    def score(self, generator: nn.Module) -> Score:
        """A score of a generator's average, which is left as it is.

        Raises:
            GivenUpError: told to stop.
        """
        began = time.perf_counter()
        generated = self.features.extract(self._pictures(generator), total=self.asked.count)
        result = judge(generated, self.references, began=began)
        self.cost_s = time.perf_counter() - began
        self.spent_s += self.cost_s
        return result

    def _pictures(self, generator: nn.Module) -> Iterator[NDArray[np.uint8]]:
        batches = generate(
            generator,
            self.recipe,
            count=self.asked.count,
            size=self.references.prepared.size,
            seed=self.seed,
            device=self.device.kind,
            precision=self.device.precision,
        )
        for batch in batches:
            for picture in batch:
                if self._told_to_stop():
                    raise GivenUpError
                yield picture
