"""The training loop: one page, the same for every model of the zoo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from kit.data.batches import Batches
from kit.models.recipe import Recipe
from kit.training.augment import augment
from kit.training.device import Device
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.losses import LOSSES
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.penalties import PENALTIES, DOutputs
from kit.training.random import BatchSlice, SlicedGenerator, latents, randomness
from kit.training.schedule import behind, scale
from kit.training.train_state import TrainState


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


class DStepOutputs(NamedTuple):
    """What D's step leaves to G's, of a part of the batch."""

    part: BatchSlice
    own: BatchSlice
    z: Tensor
    y: Tensor
    real_seen: Tensor
    fake: Tensor  # with its graph, if the batch has one part
    real_logits: Tensor
    fake_logits: Tensor
    loss_D: Tensor


def train(
    players: TrainState,
    batches: Batches,
    recipe: Recipe,
    *,
    seed: int,
    device: Device,
    tick_due: Callable[[int], bool],
    done: Callable[[int], bool],
    plan: int | None = None,
    crew: Distributed = SINGLE_PROCESS,
    thrift: MemoryPolicy = DEFAULT,
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
        thrift: how steps save memory.

    Yields:
        A Tick, at least one unless `done` is true from the start; the last one ends with the last step.
    """
    G, D, opt_G, opt_D = players.G.train(), players.D.train(), players.opt_G, players.opt_D
    loss, penalty = LOSSES[recipe.loss], PENALTIES[recipe.penalty]
    weights_D = list(D.parameters())
    parts = BatchSlice(0, recipe.batch, recipe.batch).split(thrift.accumulation_steps)
    meter = RunningMean()

    while not crew.broadcast(done(players.pictures)):
        share = behind(players.pictures, plan)
        rate = scale(recipe.schedule, share, end=recipe.lr_end)
        set_rates((opt_D, recipe.lr_d * rate), (opt_G, recipe.lr_g * rate))
        penalty_weight = recipe.penalty_weight * scale(recipe.schedule, share, end=recipe.penalty_end)
        noise = recipe.instance_noise * (1 - share)

        # D: real pictures up, generated ones down. The last step keeps G's graph for G's own step below.
        D.requires_grad_(True)
        for step in range(recipe.d_steps):
            position = players.pictures + step * recipe.batch
            keep_graph = step == recipe.d_steps - 1 and len(parts) == 1
            opt_D.zero_grad(set_to_none=True)
            seen: list[DStepOutputs] = []
            for part in parts:  # one, unless memory is short
                own = crew.local(part)
                random = randomness(seed, "critic", position, device.kind, own)
                x, y = batches.draw(position + own.first, len(own))
                z = latents(seed, position, own, recipe.latent, device.kind)
                with once_a_step(part, G, D), thrift.activations():
                    with device.autocast():
                        with torch.set_grad_enabled(keep_graph):
                            fake = exact(G(z, y))
                        pictures = [disguise(shown.detach(), recipe, noise, random) for shown in (x, fake)]
                    real_seen, fake_seen = (shown.requires_grad_(penalty.of_logits) for shown in pictures)
                    with device.autocast_twice() if penalty.of_logits else device.autocast():
                        logits = [exact(D(shown, y)) for shown in (real_seen, fake_seen)]
                    with device.autocast_twice():
                        steepness = penalty.cost(DOutputs(D, real_seen, fake_seen, y, *logits), random)
                    real_logits, fake_logits = (crew.gather(own_logits, part) for own_logits in logits)
                    loss_D = part.weight * loss.critic(real_logits, fake_logits, recipe.real_label)
                    loss_D = loss_D + penalty_weight * own.weight * steepness
                players.scaler_D.scale(loss_D).backward(inputs=weights_D)
                said = (t.detach() for t in (real_logits, fake_logits, loss_D))
                seen.append(DStepOutputs(part, own, z, y, real_seen.detach(), fake, *said))
            norm_D = descend(D, opt_D, players.scaler_D, recipe.max_grad_norm, crew)
            if recipe.weight_clip:
                clip_weights(D, recipe.weight_clip)

        # G: the same pictures, judged by the D that has just learned. D's own gradients are not needed.
        D.requires_grad_(False)
        opt_G.zero_grad(set_to_none=True)
        figures: list[Tensor] = []
        for part, own, z, y, real_seen, fake, real_logits, fake_logits, loss_D in seen:
            random = randomness(seed, "generator", players.pictures, device.kind, own)
            with once_a_step(part, D), thrift.activations(), device.autocast():
                if len(parts) > 1:
                    with still(G):
                        fake = exact(G(z, y))  # once more: the graphs of all parts would not have had room
                compared = crew.gather(exact(D(real_seen, y)), part) if loss.relativistic else real_logits
                judged = crew.gather(exact(D(disguise(fake, recipe, noise, random), y)), part)
            loss_G = part.weight * loss.generator(judged, compared.detach())
            players.scaler_G.scale(loss_G).backward()
            d_real, d_fake = (part.weight * logits.sigmoid().mean() for logits in (compared, fake_logits))
            figures.append(torch.stack([loss_D, loss_G, d_real, d_fake]).detach())
        norm_G = descend(G, opt_G, players.scaler_G, recipe.max_grad_norm, crew)

        players.pictures += recipe.pictures_per_iteration
        players.ema.update(G, pictures=players.pictures)
        meter.add(*torch.stack(figures).sum(0), norm_D, norm_G)
        if crew.broadcast(tick_due(players.pictures)):
            yield Tick(players.pictures, *meter.read(), *rates(opt_D, opt_G))

    if meter.steps:
        yield Tick(players.pictures, *meter.read(), *rates(opt_D, opt_G))


def exact(x: Tensor) -> Tensor:
    """What a network gives, in fp32 where it ran in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def disguise(x: Tensor, recipe: Recipe, noise: float, random: SlicedGenerator) -> Tensor:
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


@contextlib.contextmanager
def once_a_step(part: BatchSlice, *networks: nn.Module) -> Iterator[None]:
    """In here spectral norm makes one power iteration, in the step's first part, however often a network is called."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(parametrize.cached())
        if part.first:
            for network in networks:
                stack.enter_context(still(network))
        yield


@contextlib.contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """In here spectral norm keeps its singular vectors as they are."""
    norms = [cast(nn.Module, m.parametrizations) for m in network.modules() if parametrize.is_parametrized(m)]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def descend(
    network: nn.Module, optimizer: Optimizer, scaler: GradScaler, max_grad_norm: float, crew: Distributed
) -> Tensor:
    """One step down the gradient, shortened to `max_grad_norm` if it is longer (0: never).

    In fp16 the scaler leaves a step out whose gradient is too large for it; in other precisions it does nothing.

    Returns:
        The gradient's norm over all weights, before it was shortened; it stays on the device.
    """
    crew.sum_gradients(list(network.parameters()))
    scaler.unscale_(optimizer)
    if max_grad_norm:
        norm = nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
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


class RunningMean:
    """Running sums that stay on the device: reading them is the only synchronisation of a tick."""

    def __init__(self) -> None:
        self.steps = 0.0
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
