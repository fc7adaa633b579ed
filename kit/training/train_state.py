"""Everything that training changes: networks, optimizers and their schedule, moving averages, the pictures seen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import parametrize
from torch.optim import Adam, Optimizer, RMSprop
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kit.core.seeds import derive
from kit.models import registry
from kit.models.recipe import OptimizerName, Recipe, ScheduleName
from kit.training.device import Device

Player = Literal["G", "D"]
"""The two sides of the game; each has one optimizer over the weights of all its networks."""


class PictureEma(nn.Module):
    """An exponential moving average whose half-life is counted in pictures, not in steps.

    A half-life in pictures keeps its meaning when the batch size changes (Karras et al. 2020, StyleGAN2, appendix B).
    Early in training it is limited to a fraction of the pictures seen: otherwise the average of a short run would still
    contain much of its random first weights. Batch norm's buffers are averaged with the weights; spectral norm's
    singular vectors are copied, as an average of unit vectors is not a unit vector.

    Args:
        generator: the network to follow; the average starts as its copy.
        half_life: pictures after which the weight of an old value has halved; 0: no averaging.
        ramp: upper limit of the half-life, × the pictures seen so far; 0: no limit.
        batch: pictures between two updates.
    """

    def __init__(self, generator: nn.Module, *, half_life: int, ramp: float, batch: int) -> None:
        super().__init__()
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.half_life, self.ramp, self.batch = half_life, ramp, batch

    @torch.no_grad()
    def update(self, generator: nn.Module, *, pictures: int) -> None:
        """Averages in the network as it is after so many pictures."""
        pairs = list(zip(self.module.state_dict().values(), generator.state_dict().values(), strict=True))
        # torch's own AveragedModel would ask the device, in every step, whether it is the first.
        average = get_ema_multi_avg_fn(self.decay(pictures))
        average(*([pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1)), None)
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        vectors = zip(_singular_vectors(self.module), _singular_vectors(generator), strict=True)
        for ours, theirs in (*counts, *vectors):
            ours.copy_(theirs)

    def decay(self, pictures: int) -> float:
        """The weight of the old average in an update after so many pictures, 0 to 1."""
        half_life = min(self.half_life, self.ramp * pictures) if self.ramp else self.half_life
        return 0.5 ** (self.batch / half_life) if half_life > 0 else 0.0


def _singular_vectors(network: nn.Module) -> list[torch.Tensor]:
    """The buffers of all parametrizations, which are spectral norm's."""
    return [
        buffer
        for module in network.modules()
        if parametrize.is_parametrized(module)
        for buffer in cast(nn.Module, module.parametrizations).buffers()
    ]


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


SCHEDULES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}
"""From the progress of training, 0 to 1, to the way from the first value to the last, 0 to 1.

Progress is counted in planned pictures, so that batch size and devices may change.
"""


def train_progress(pictures: int, total_images: int | None) -> float:
    """How much of the planned training is done, 0 to 1; 0 where nothing is planned.

    Args:
        pictures: seen so far.
        total_images: planned in all.
    """
    return min(pictures / total_images, 1.0) if total_images else 0.0


def scale(schedule: ScheduleName, progress: float, *, end: float, start: float = 0.0) -> float:
    """The factor on a scheduled value: 1 until progress reaches `start`, `end` at the end of training."""
    progress = max(0.0, progress - start) / (1 - start)
    return 1 + (end - 1) * SCHEDULES[schedule](progress)


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
