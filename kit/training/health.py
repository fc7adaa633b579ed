"""Signs of failed training: NaN, a saturated discriminator, mode collapse."""

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
"""How often training goes back to its last checkpoint with a smaller learning rate, before it ends."""

SMALLER = 0.5
"""Factor on the learning rates each time training goes back to a checkpoint."""

ALIKE = 0.05
"""Generated pictures are all alike if their diversity is below this, times that of real pictures."""

YOUNG = 10_000
"""Pictures seen before which nothing is said about diversity: an untrained generator has none."""

SATURATED = 0.01
"""D has nothing left to learn if its loss is below this; losses without a lower bound never are."""


def diversity(pictures: NDArray[np.uint8]) -> float:
    """Standard deviation between pictures, averaged over pixels, in grey levels.

    Args:
        pictures: uint8 (N, H, W, C).
    """
    return float(pictures.astype(np.float32).std(axis=0).mean())


def finite(state: TrainState) -> bool:
    """Whether every weight is a finite number: an optimizer step can spoil them after its loss was computed."""
    networks = [*state.networks.values(), *(ema.module for ema in state.ema_models.values())]
    weights = [weight.detach() for network in networks for weight in network.parameters()]
    return bool(torch.isfinite(torch.stack([norm.float() for norm in torch._foreach_norm(weights)])).all())


@dataclass
class Health:
    """Watches the ticks of one run.

    Args:
        real: the diversity of real pictures.
        bounded: whether D's loss is at least 0.
    """

    real: float
    bounded: bool
    varied: bool = False  # generated pictures were diverse at some tick

    def alarms(self, tick: Tick, spread: float) -> list[str]:
        """Warnings about a tick; `spread` is the diversity of its sample pictures."""
        found = []
        if self.bounded and tick.loss_d < SATURATED:
            found.append(f"D is saturated (its loss is {tick.loss_d:.2g}): G learns little from it")
        if tick.pictures >= YOUNG and spread < ALIKE * self.real:
            found.append(
                f"mode collapse: pictures are nearly all alike (diversity {spread:.1f}, of real ones {self.real:.0f})"
            )
        return found

    def collapsed(self, spread: float) -> bool:
        """Whether pictures that were diverse at some tick are now all alike."""
        self.varied = self.varied or spread >= 2 * ALIKE * self.real
        return self.varied and spread < ALIKE * self.real
