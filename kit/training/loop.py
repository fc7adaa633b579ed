"""The training loop: one page, the same for every model of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from kit.data.packed import Batches
from kit.models.recipe import Recipe
from kit.training.augment import augment
from kit.training.device import Device
from kit.training.losses import LOSSES
from kit.training.parallel import ALONE, Crew
from kit.training.penalties import PENALTIES
from kit.training.players import Players
from kit.training.schedule import behind, scale
from kit.training.streams import Share, Stream, latents, randomness


@dataclass(frozen=True)
class Tick:
    """Means over the steps since the last tick, and the step sizes of the last one."""

    pictures: int  # seen since the run began
    loss_d: float
    loss_g: float
    d_real: float  # D(x): the mean probability that D gives real pictures of being real
    d_fake: float  # D(G(z)): the same for generated ones
    grad_d: float  # norm of D's gradient over all its weights, before any clipping
    grad_g: float  # the same for G
    lr_d: float
    lr_g: float

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
    plan: int | None = None,
    crew: Crew = ALONE,
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
        tick_due: called after each step of G with the pictures seen; true hands over to the caller.
        done: called before each step of D's round with the pictures seen; true ends the training.
        plan: pictures over which schedules run; None leaves everything as it begins.
        crew: the processes that share each batch; the first one's `tick_due` and `done` hold for all.

    Yields:
        A Tick, at least one unless `done` is true from the start; the last one ends with the last step.
    """
    G, D, opt_G, opt_D = players.G.train(), players.D.train(), players.opt_G, players.opt_D
    loss, penalty = LOSSES[recipe.loss], PENALTIES[recipe.penalty]
    whole = Share(0, recipe.batch, recipe.batch)
    own = crew.own(whole)
    meter = Meter()

    while not crew.agree(done(players.pictures)):
        share = behind(players.pictures, plan)
        rate = scale(recipe.schedule, share, end=recipe.lr_end)
        set_rates((opt_D, recipe.lr_d * rate), (opt_G, recipe.lr_g * rate))
        penalty_weight = recipe.penalty_weight * scale(recipe.schedule, share, end=recipe.penalty_end)
        noise = recipe.instance_noise * (1 - share)

        # D: real pictures up, generated ones down. The last step keeps G's graph for G's own step below.
        D.requires_grad_(True)
        for step in range(recipe.critic_steps):
            position = players.pictures + step * recipe.batch
            random = randomness(seed, "critic", position, device.kind, own)
            x, y = batches.draw(position + own.first, len(own))
            z = latents(seed, position, own, recipe.latent, device.kind)
            with parametrize.cached():  # one power iteration a step, however often D looks
                with device.autocast():
                    with torch.set_grad_enabled(step == recipe.critic_steps - 1):
                        fake = exact(G(z, y))
                    real_seen = disguise(x, recipe, noise, random)
                    fake_seen = disguise(fake.detach(), recipe, noise, random)
                    real_logits, fake_logits = (
                        crew.gather(exact(D(seen, y)), own, whole) for seen in (real_seen, fake_seen)
                    )
                loss_D = loss.critic(real_logits, fake_logits, recipe.real_label)
                loss_D = loss_D + penalty_weight * own.weight * penalty(D, real_seen, fake_seen, y, random)
            norm_D = descend(loss_D, D, opt_D, players.scaler_D, recipe.grad_clip, crew)
            if recipe.weight_clip:
                clip_weights(D, recipe.weight_clip)

        # G: the same pictures, judged by the D that has just learned. D's own gradients are not needed.
        D.requires_grad_(False)
        random = randomness(seed, "generator", players.pictures, device.kind, own)
        with parametrize.cached(), device.autocast():
            if loss.relativistic:
                real_logits = crew.gather(exact(D(real_seen, y)), own, whole)
            judged = crew.gather(exact(D(disguise(fake, recipe, noise, random), y)), own, whole)
        loss_G = loss.generator(judged, real_logits.detach())
        norm_G = descend(loss_G, G, opt_G, players.scaler_G, recipe.grad_clip, crew)

        players.pictures += recipe.pictures_per_iteration
        players.ema.update(G, step=players.pictures)
        meter.add(loss_D, loss_G, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean(), norm_D, norm_G)
        if crew.agree(tick_due(players.pictures)):
            yield Tick(players.pictures, *meter.read(), *rates(opt_D, opt_G))

    if meter.steps:
        yield Tick(players.pictures, *meter.read(), *rates(opt_D, opt_G))


def exact(x: Tensor) -> Tensor:
    """What a network gives, in fp32 where it ran in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def disguise(x: Tensor, recipe: Recipe, noise: float, random: Stream) -> Tensor:
    """Pictures (B, C, H, W) as D gets to see them: with instance noise (Sønderby et al. 2017) and augmented."""
    if noise:
        x = x + noise * random.normal(*x.shape)
    return augment(x, recipe.augmentations, random)


def set_rates(*rates: tuple[Optimizer, float]) -> None:
    """Sets optimizers' step sizes."""
    for optimizer, lr in rates:
        for group in optimizer.param_groups:
            group["lr"] = lr


def rates(*optimizers: Optimizer) -> list[float]:
    """Optimizers' step sizes, as they are now."""
    return [float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers]


def descend(
    loss: Tensor, network: nn.Module, optimizer: Optimizer, scaler: GradScaler, grad_clip: float, crew: Crew
) -> Tensor:
    """One step down the loss, with the gradient shortened to `grad_clip` if it is longer (0: never).

    In fp16 the scaler leaves a step out whose gradient is too large for it; in other precisions it does nothing.

    Returns:
        The gradient's norm over all weights, before it was shortened; it stays on the device.
    """
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    crew.add_gradients(network)
    scaler.unscale_(optimizer)
    if grad_clip:
        norm = nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
    else:
        norm = nn.utils.get_total_norm([weight.grad for weight in network.parameters() if weight.grad is not None])
    scaler.step(optimizer)
    scaler.update()
    return norm


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Puts every weight back into [−limit, limit] (Arjovsky et al. 2017, algorithm 1)."""
    for weight in critic.parameters():
        weight.clamp_(-limit, limit)


class Meter:
    """Running sums that stay on the device: reading them is the only synchronisation of a tick."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: list[Tensor] = []

    @torch.no_grad()
    def add(self, *values: Tensor) -> None:
        """Adds one step's scalars; as many each time."""
        values = tuple(value.detach().float() for value in values)
        self._sums = [a + b for a, b in zip(self._sums, values, strict=True)] if self._sums else list(values)
        self.steps += 1

    def read(self) -> list[float]:
        """The means since the last reading, and a fresh start."""
        means: list[float] = (torch.stack(self._sums) / self.steps).tolist()
        self.steps, self._sums = 0, []
        return means
