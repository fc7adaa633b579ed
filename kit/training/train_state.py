"""Everything that training changes: networks, optimizers, moving averages, and the pictures seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Adam, Optimizer, RMSprop

from kit.core.seeds import derive
from kit.models import registry
from kit.models.recipe import OptimizerName, Recipe
from kit.training.device import Device
from kit.training.ema import PictureEma

Player = Literal["G", "D"]
"""The two sides of the game; each has one optimizer over the weights of all its networks."""


@dataclass
class TrainState:
    """The state of a training run; what a checkpoint holds.

    A GAN that draws from noise has the networks "G" and "D". A translation has more of them, such as the generator of
    the way back; "G" is always the generator whose pictures are wanted, and "D" the discriminator of these.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[Player, Optimizer]  # over all generators, and over all discriminators
    scalers: dict[Player, GradScaler]  # loss scaling in fp16
    ema_models: dict[str, PictureEma]  # averages of generators, under the names of their networks
    extra: dict[str, Tensor] = field(default_factory=dict)  # what else a step remembers, such as an image buffer
    pictures: int = 0  # real pictures seen by D

    @property
    def G(self) -> nn.Module:  # noqa: N802 (as in papers)
        """The generator."""
        return self.networks["G"]

    @property
    def D(self) -> nn.Module:  # noqa: N802
        """Its discriminator."""
        return self.networks["D"]

    @property
    def ema(self) -> PictureEma:
        """The generator's average, which samples are drawn from."""
        return self.ema_models["G"]

    def weights(self, player: Player) -> list[nn.Parameter]:
        """All that a player's optimizer trains."""
        return [weight for group in self.optimizers[player].param_groups for weight in group["params"]]


OPTIMIZERS: dict[OptimizerName, Callable[[Iterable[nn.Parameter], Recipe], Optimizer]] = {
    "adam": lambda weights, recipe: Adam(weights, betas=(recipe.beta1, recipe.beta2), fused=True),
    "rmsprop": lambda weights, recipe: RMSprop(weights, alpha=recipe.beta2, momentum=recipe.beta1),
}
"""Without their learning rate, which the training loop sets in every iteration."""


def build(recipe: Recipe, *, size: int, channels: int, classes: int, seed: int, device: Device) -> TrainState:
    """An untrained state, a pure function of the arguments.

    Args:
        recipe: what to build.
        size: side of the pictures, pixels.
        channels: 1 or 3.
        classes: classes of the set.
        seed: the run's seed.
        device: where it trains, and in which precision.

    Raises:
        KitError: there is no network of that size, or the recipe needs classes and the set has none.
    """
    # Weights are drawn on the CPU, so that every device starts from the same ones.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        G, D = registry.build(recipe, size=size, channels=channels, classes=classes)
    # Convolutions are faster in channels-last memory on every device that matters.
    G, D = (network.to(device.kind).to(memory_format=torch.channels_last) for network in (G, D))
    ema = PictureEma(G, half_life=recipe.ema_half_life, ramp=recipe.ema_ramp, batch=recipe.pictures_per_iteration)
    optimizer = OPTIMIZERS[recipe.optimizer]
    return TrainState(
        networks={"G": G, "D": D},
        optimizers={"G": optimizer(G.parameters(), recipe), "D": optimizer(D.parameters(), recipe)},
        scalers={"G": device.scaler(), "D": device.scaler()},
        ema_models={"G": ema},
    )
