"""Is training still healthy? What each tick is asked, and what it says when something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kit.training.train_state import TrainState

if TYPE_CHECKING:
    from kit.training.loop import Tick

ROLLBACKS = 3
"""So many times training goes back to its last checkpoint with smaller steps; then it has to end."""

SMALLER = 0.5
"""What the step sizes are multiplied by after each time."""

ALIKE = 0.05
"""Pictures count as all alike when they differ from each other by less than this share of what real ones do."""

YOUNG = 10_000
"""Pictures seen before which it is no surprise that generated ones are alike: an untrained generator's are."""

SATURATED = 0.01
"""D has nothing left to learn when its loss is below this; losses without a lower end never are."""


def diversity(pictures: NDArray[np.uint8]) -> float:
    """How much pictures differ from each other: the standard deviation over them, meant over pixels, in grey levels.

    Args:
        pictures: uint8 (N, H, W, C).
    """
    return float(pictures.astype(np.float32).std(axis=0).mean())


def finite(players: TrainState) -> bool:
    """Whether every weight is a finite number: a last step can spoil them after its loss was taken."""
    weights = [
        weight.detach() for network in (players.G, players.D, players.ema.module) for weight in network.parameters()
    ]
    return bool(torch.isfinite(torch.stack([norm.float() for norm in torch._foreach_norm(weights)])).all())


@dataclass
class Health:
    """Watches one run's ticks.

    Args:
        real: the diversity of real pictures.
        bounded: whether D's loss has a lower end, 0.
    """

    real: float
    bounded: bool
    varied: bool = False  # the pictures have once differed well enough

    def alarms(self, tick: Tick, spread: float) -> list[str]:
        """What there is to be said of a tick whose sample pictures have the diversity `spread`."""
        found = []
        if self.bounded and tick.loss_d < SATURATED:
            found.append(f"D tells every picture apart (its loss is {tick.loss_d:.2g}): G learns little from it")
        if tick.pictures >= YOUNG and spread < ALIKE * self.real:
            found.append(
                f"the pictures are nearly all alike (they differ by {spread:.1f} of 255, real ones by {self.real:.0f})"
            )
        return found

    def collapsed(self, spread: float) -> bool:
        """Whether pictures that once differed are now all alike. An untrained generator's are alike, too."""
        self.varied = self.varied or spread >= 2 * ALIKE * self.real
        return self.varied and spread < ALIKE * self.real
