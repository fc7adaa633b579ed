"""The training loop: one page, the same for every model of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kit.data.packed import Batches
from kit.models.recipe import Recipe
from kit.seeds import derive
from kit.training.device import Device
from kit.training.losses import LOSSES
from kit.training.players import Players


@dataclass(frozen=True)
class Tick:
    """Means over the steps since the last tick."""

    pictures: int  # seen since the run began
    loss_d: float
    loss_g: float
    d_real: float  # D(x): the mean probability that D gives real pictures of being real
    d_fake: float  # D(G(z)): the same for generated ones

    @property
    def finite(self) -> bool:
        """False once a loss is NaN or infinite: the weights are lost then."""
        return bool(torch.isfinite(torch.tensor([self.loss_d, self.loss_g])).all())


def train(
    players: Players,
    batches: Batches,
    recipe: Recipe,
    *,
    seed: int,
    device: Device,
    tick_due: Callable[[int], bool],
    done: Callable[[int], bool],
) -> Iterator[Tick]:
    """Trains the players in place, and hands over to the caller at every tick.

    Everything slow or visible (logs, pictures, checkpoints, scores) is the caller's, between two ticks. It must leave
    the players as they are.

    Args:
        players: what to train; on entry as built, or as a checkpoint left them.
        batches: where real pictures come from.
        recipe: how to train.
        seed: the run's seed: what is drawn depends on it and on the pictures seen alone.
        device: where, and in which precision.
        tick_due: called after each step with the pictures seen; true hands over to the caller.
        done: called before each step with the pictures seen; true ends the training.

    Yields:
        A Tick, at least one unless `done` is true from the start; the last one ends with the last step.
    """
    G, D, opt_G, opt_D = players.G.train(), players.D.train(), players.opt_G, players.opt_D
    loss = LOSSES[recipe.loss]
    meter = Meter()

    while not done(players.pictures):
        x, y = batches.draw(players.pictures, recipe.batch)
        z = latents(seed, players.pictures, recipe.batch, recipe.latent, device.kind)

        # D: real pictures up, generated ones down. G's graph is kept for its own step below.
        D.requires_grad_(True)
        with device.autocast():
            fake = G(z, y)
            real_logits = D(x, y).float()
            fake_logits = D(fake.detach(), y).float()
            loss_D = loss.critic(real_logits, fake_logits)
        opt_D.zero_grad(set_to_none=True)
        loss_D.backward()
        opt_D.step()

        # G: the same pictures, judged by the D that has just learned. D's own gradients are not needed.
        D.requires_grad_(False)
        with device.autocast():
            loss_G = loss.generator(D(fake, y).float(), real_logits.detach())
        opt_G.zero_grad(set_to_none=True)
        loss_G.backward()
        opt_G.step()

        players.pictures += recipe.batch
        players.ema.update(G, step=players.pictures)
        meter.add(loss_D, loss_G, real_logits, fake_logits)
        if tick_due(players.pictures):
            yield meter.read(players.pictures)

    if meter.steps:
        yield meter.read(players.pictures)


def latents(seed: int, position: int, count: int, length: int, device: torch.device) -> Tensor:
    """The latents z ~ N(0, I) of one step, shape (count, length); a function of the seed and the pictures seen."""
    generator = torch.Generator(device).manual_seed(derive(seed, "latents", position))
    return torch.randn(count, length, generator=generator, device=device)


class Meter:
    """Running sums that stay on the device: reading them is the only synchronisation of a tick."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: list[Tensor] = []

    @torch.no_grad()
    def add(self, loss_D: Tensor, loss_G: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Adds one step's losses (scalars) and D's logits (B,)."""
        values = [loss_D.detach(), loss_G.detach(), real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()]
        self._sums = [a + b for a, b in zip(self._sums, values, strict=True)] if self._sums else values
        self.steps += 1

    def read(self, pictures: int) -> Tick:
        """The means since the last reading, and a fresh start."""
        means = (torch.stack(self._sums) / self.steps).tolist()
        self.steps, self._sums = 0, []
        return Tick(pictures, *means)
