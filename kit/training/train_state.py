"""Everything that training changes: two networks, their optimizers, the generator's average, the pictures seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Adam, Optimizer, RMSprop

from kit.core.seeds import derive
from kit.models import registry
from kit.models.recipe import OptimizerName, Recipe
from kit.training.device import Device
from kit.training.ema import PictureEma


@dataclass
class TrainState:
    """The state of a training run; what a checkpoint holds."""

    G: nn.Module
    D: nn.Module
    ema: PictureEma
    opt_G: Optimizer
    opt_D: Optimizer
    scaler_G: torch.amp.GradScaler
    scaler_D: torch.amp.GradScaler
    pictures: int = 0  # real pictures seen by D


OPTIMIZERS: dict[OptimizerName, Callable[[Iterable[nn.Parameter], float, Recipe], Optimizer]] = {
    "adam": lambda weights, lr, r: Adam(weights, lr=lr, betas=(r.beta1, r.beta2), fused=True),
    "rmsprop": lambda weights, lr, r: RMSprop(weights, lr=lr, alpha=r.beta2, momentum=r.beta1),
}


def build(recipe: Recipe, *, size: int, channels: int, classes: int, seed: int, device: Device) -> TrainState:
    """Untrained players, a pure function of their arguments.

    Args:
        recipe: what to build.
        size: side of the pictures, pixels.
        channels: 1 or 3.
        classes: classes of the set.
        seed: the run's seed.
        device: where they train, and in which precision.

    Raises:
        KitError: there is no network of that size, or the recipe needs classes and the set has none.
    """
    # Weights are drawn on the CPU, so that every device starts from the same ones.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        G, D = registry.build(recipe, size=size, channels=channels, classes=classes)
    # Convolutions are faster on channels-last memory on every device that matters.
    G, D = (network.to(device.kind).to(memory_format=torch.channels_last) for network in (G, D))
    ema = PictureEma(G, half_life=recipe.ema_half_life, ramp=recipe.ema_ramp, batch=recipe.pictures_per_iteration)
    optimizer = OPTIMIZERS[recipe.optimizer]
    return TrainState(
        G=G,
        D=D,
        ema=ema,
        opt_G=optimizer(G.parameters(), recipe.lr_g, recipe),
        opt_D=optimizer(D.parameters(), recipe.lr_d, recipe),
        scaler_G=device.scaler(),
        scaler_D=device.scaler(),
    )
