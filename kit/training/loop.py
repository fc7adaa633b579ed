"""The training loop: one page for every model.

What a D step and a G step compute is the objective's: see `kit.training.adversarial`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from kit.models.recipe import Recipe
from kit.training.distributed import Distributed
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.random import BatchSlice
from kit.training.train_state import Player, TrainState, scale, train_progress

DStepOutputs = TypeVar("DStepOutputs")


class Objective(Protocol[DStepOutputs]):
    """What the networks learn: the forward and backward passes of a D step and of a G step.

    Both methods are called once for each slice of the batch, and add to the gradients of their player's weights.
    """

    @property
    def recipe(self) -> Recipe:
        """How to train."""

    @property
    def distributed(self) -> Distributed:
        """The processes that share each batch."""

    def d_step(
        self, state: TrainState, batch_slice: BatchSlice, *, position: int, progress: float, keep_graph: bool
    ) -> DStepOutputs:
        """Adds this slice's part to the gradients of D's loss.

        Args:
            state: what is trained.
            batch_slice: rows of the batch.
            position: pictures seen before this batch; randomness is a function of it.
            progress: of the planned training, 0 to 1.
            keep_graph: whether a G step with the same batch follows that may use the graph of the generated pictures.

        Returns:
            What the G step of the same slice needs.
        """

    def g_step(
        self, state: TrainState, outputs: DStepOutputs, *, position: int, progress: float
    ) -> Mapping[str, Tensor]:
        """Adds a slice's part to the gradients of G's loss.

        Args:
            state: what is trained.
            outputs: of the last D step for the same slice.
            position: pictures seen before this iteration.
            progress: of the planned training, 0 to 1.

        Returns:
            Scalars of both steps, by the names of `Tick`; those of the slices add up to those of the batch.
        """


@dataclass(frozen=True)
class Tick:
    """Means over the iterations since the last tick, and the last learning rates."""

    pictures: int  # seen since the run began
    loss_d: float
    loss_g: float
    d_real: float  # D(x): the mean probability of being real that D gives to real pictures
    d_fake: float  # D(G(z)): the same for generated ones
    grad_d: float  # norm of D's gradient over all its weights, before clipping
    grad_g: float  # the same for G
    lr_d: float
    lr_g: float

    @property
    def finite(self) -> bool:
        """False once a loss is NaN or infinite: the weights are lost then."""
        return bool(torch.isfinite(torch.tensor([self.loss_d, self.loss_g])).all())


def train(
    state: TrainState,
    objective: Objective[Any],
    *,
    tick_due: Callable[[int], bool],
    done: Callable[[int], bool],
    total_images: int | None = None,
    lr_scale: float = 1.0,
    memory: MemoryPolicy = DEFAULT,
) -> Iterator[Tick]:
    """Trains in place, and hands control to the caller at every tick.

    Everything slow or visible (logs, pictures, checkpoints, scores) is done by the caller between two ticks. It must
    leave the state as it is.

    Args:
        state: what to train; as built, or as a checkpoint left it.
        objective: what the networks learn, and from which data.
        tick_due: called after each iteration with the pictures seen; true hands control to the caller.
        done: called before each iteration with the pictures seen; true ends the training. Of several processes, the
            first one's `tick_due` and `done` hold for all.
        total_images: planned pictures, over which schedules run; None: everything stays as it begins.
        lr_scale: factor on the learning rates.
        memory: how steps save memory.

    Yields:
        A Tick, at least one unless `done` is true from the start; the last one ends with the last iteration.
    """
    recipe, distributed = objective.recipe, objective.distributed
    for network in state.networks.values():
        network.train()
    # Slices of the batch, over which gradients accumulate: one, unless memory is short.
    slices = BatchSlice(0, recipe.batch, recipe.batch).split(memory.accumulation_steps)
    means = RunningMean()

    while not distributed.broadcast(done(state.pictures)):
        # Schedule
        progress = train_progress(state.pictures, total_images)
        lr_factor = lr_scale * scale(recipe.schedule, progress, end=recipe.lr_end, start=recipe.schedule_start)
        lr: dict[Player, float] = {"D": recipe.lr_d * lr_factor, "G": recipe.lr_g * lr_factor}
        for player, optimizer in state.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = lr[player]

        # D steps
        require_grad(state, "D", True)
        for step in range(recipe.d_steps):
            position = state.pictures + step * recipe.batch
            state.optimizers["D"].zero_grad()
            keep_graph = step == recipe.d_steps - 1 and len(slices) == 1
            with memory.activations():
                outputs = [
                    objective.d_step(state, part, position=position, progress=progress, keep_graph=keep_graph)
                    for part in slices
                ]
            grad_d = optimizer_step(state, "D", recipe, distributed)
            if recipe.weight_clip:
                clip_weights(state, "D", recipe.weight_clip)

        # G step
        require_grad(state, "D", False)
        state.optimizers["G"].zero_grad()
        with memory.activations():
            figures = [
                objective.g_step(state, output, position=state.pictures, progress=progress) for output in outputs
            ]
        grad_g = optimizer_step(state, "G", recipe, distributed)

        # EMA
        state.pictures += recipe.pictures_per_iteration
        for name, ema in state.ema_models.items():
            ema.update(state.networks[name], pictures=state.pictures)

        # Tick
        sums = {name: torch.stack([part[name] for part in figures]).sum(0) for name in figures[0]}
        means.add({**sums, "grad_d": grad_d, "grad_g": grad_g})
        if distributed.broadcast(tick_due(state.pictures)):
            yield Tick(state.pictures, lr_d=lr["D"], lr_g=lr["G"], **means.read())

    if means.count:
        yield Tick(state.pictures, lr_d=lr["D"], lr_g=lr["G"], **means.read())


def require_grad(state: TrainState, player: Player, wanted: bool) -> None:
    """Whether backward passes compute gradients of a player's weights."""
    for weight in state.weights(player):
        weight.requires_grad_(wanted)


def optimizer_step(state: TrainState, player: Player, recipe: Recipe, distributed: Distributed) -> Tensor:
    """One step of a player's optimizer with the accumulated gradients.

    In fp16 the scaler skips a step whose gradient is not finite; in other precisions it does nothing.

    Returns:
        The norm of the gradient over all weights, before clipping; it stays on the device.
    """
    optimizer, scaler, weights = state.optimizers[player], state.scalers[player], state.weights(player)
    distributed.sum_gradients(weights)
    scaler.unscale_(optimizer)
    if recipe.max_grad_norm:
        norm = nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
    else:
        norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    scaler.step(optimizer)
    scaler.update()
    return norm


@torch.no_grad()
def clip_weights(state: TrainState, player: Player, limit: float) -> None:
    """Puts every weight back into [−limit, limit] (Arjovsky et al. 2017, algorithm 1)."""
    for weight in state.weights(player):
        weight.clamp_(-limit, limit)


class RunningMean:
    """Means of scalars by name. The sums stay on the device: reading them is the only synchronization of a tick."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one iteration's scalars, under the same names each time."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if self.count else value
        self.count += 1

    def read(self) -> dict[str, float]:
        """The means since the last reading, and a fresh start."""
        means = (torch.stack(list(self._sums.values())) / self.count).tolist()
        names, self.count = list(self._sums), 0
        return dict(zip(names, means, strict=True))
