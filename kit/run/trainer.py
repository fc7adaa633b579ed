"""Everything that trains one run, alike in each of its processes: players, batches, device, and the loop over them."""

from __future__ import annotations

import copy
import dataclasses
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.core.clock import Stopwatch
from kit.data import prepared_set
from kit.models.recipe import Recipe
from kit.training import checkpoint, distributed, loop, train_state
from kit.training.batch_norm import synchronise
from kit.training.device import Device
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.memory import PLENTY, MemoryPolicy

CALIBRATION_S = 1.0
"""Seconds of training on a copy to learn its speed: a first guess, as plans are made anew on the way."""


class Trainer:
    """The players on their device, with their batches.

    In a crew of several processes each has one. The first process calls its methods, and tells the others, which are
    in `follow`, to do the same.

    Args:
        recipe: what trains.
        prepared: on what.
        seed: the run's.
        device: where.
        crew: with which other processes.

    Raises:
        KitError: the recipe does not fit the set, or the batch cannot be shared by so many processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: prepared_set.PreparedSet,
        *,
        seed: int,
        device: Device,
        crew: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.recipe, self.seed, self.device, self.crew = recipe, seed, device, crew
        self.shape = checkpoint.Shape(
            prepared.size, prepared.channels, tuple(prepared.classes), tuple(prepared.class_counts("train"))
        )
        self.state = train_state.build(
            recipe,
            size=prepared.size,
            channels=prepared.channels,
            classes=len(prepared.classes),
            seed=seed,
            device=device,
        )
        if crew.size > 1:
            for network in (self.state.G, self.state.D):
                synchronise(network)
        flip = recipe.flip and prepared.mirror
        self.thrift = PLENTY
        self._others_in_loop = False
        self._batches = prepared_set.Batches(prepared, seed=seed, device=device.kind, flip=flip)

    def steps(
        self,
        *,
        done: Callable[[int], bool],
        tick_due: Callable[[int], bool],
        plan: int | None = None,
        lr_scale: float = 1.0,
    ) -> Generator[loop.Tick]:
        """Trains, see `kit.training.loop.train`.

        Args:
            done: asked before each step.
            tick_due: asked after each step.
            plan: pictures over which schedules run.
            lr_scale: factor on the recipe's step sizes.
        """
        self._tell(_Steps(plan, lr_scale, self.thrift))
        self._others_in_loop = True
        yield from self._loop(self.state, done=done, tick_due=tick_due, plan=plan, lr_scale=lr_scale)
        self._others_in_loop = False

    def rate(self, clock: Stopwatch) -> float:
        """Pictures a second of training, measured on a copy of the players."""
        self._tell(_Rate(self.thrift))
        return self._rate(clock)

    def economise(self) -> bool:
        """Goes over to needing less memory, from the next steps on; false if there is no way left."""
        wanted = self.thrift.next(batch=self.recipe.batch, processes=self.crew.size, device=self.device.kind)
        self.thrift = wanted or self.thrift
        return wanted is not None

    def save(self, path: Path) -> None:
        """Writes a checkpoint.

        Raises:
            KitError: the disk is full.
        """
        checkpoint.save(path, self.state, self.recipe, self.shape)

    def load(self, path: Path) -> None:
        """Goes back, or on, to a checkpoint.

        Raises:
            KitError: no such file, a damaged one, or one of another recipe or version.
        """
        self._tell(_Load(str(path)))
        checkpoint.load_players(path, self.state, self.recipe, self.shape)

    def dismiss(self) -> None:
        """Sends the other processes home: from here on this one is enough."""
        if self.crew.size > 1:
            self._tell(None)
            distributed.leave()
            self.crew = SINGLE_PROCESS

    def follow(self) -> None:
        """What the other processes do: what the first one tells them, until it has no more for them.

        Signals are the first one's to answer.

        Raises:
            LostError: it is gone.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        while order := self.crew.tell(None):
            match order:
                case _Steps(plan, lr_scale, thrift):
                    self.thrift = thrift
                    for _ in self._loop(self.state, done=_never, tick_due=_never, plan=plan, lr_scale=lr_scale):
                        pass
                case _Rate(thrift):
                    self.thrift = thrift
                    self._rate(Stopwatch())
                case _Load(path):
                    checkpoint.load_players(Path(path), self.state, self.recipe, self.shape)

    def _tell(self, order: object) -> None:
        """Tells the others, who are still in the training loop if the first process left it between two steps."""
        if self._others_in_loop:
            self.crew.agree(True)
            self._others_in_loop = False
        self.crew.tell(order)

    def _loop(
        self,
        state: train_state.TrainState,
        *,
        done: Callable[[int], bool],
        tick_due: Callable[[int], bool],
        plan: int | None = None,
        lr_scale: float = 1.0,
    ) -> Iterator[loop.Tick]:
        recipe = self.recipe
        return loop.train(
            state,
            self._batches,
            dataclasses.replace(recipe, lr_g=recipe.lr_g * lr_scale, lr_d=recipe.lr_d * lr_scale),
            seed=self.seed,
            device=self.device,
            tick_due=tick_due,
            done=done,
            plan=plan,
            crew=self.crew,
            thrift=self.thrift,
        )

    def _rate(self, clock: Stopwatch) -> float:
        copied = copy.deepcopy(self.state)
        for _ in self._loop(copied, tick_due=_never, done=lambda n: n > self.state.pictures):
            pass  # the first step also chooses kernels and fills caches
        began, first = clock.seconds(), copied.pictures
        for _ in self._loop(
            copied, tick_due=_never, done=lambda n: n > first and clock.seconds() - began >= CALIBRATION_S
        ):
            pass
        return (copied.pictures - first) / (clock.seconds() - began)


@dataclass(frozen=True)
class _Steps:
    """The first process's word to the others that it trains now."""

    plan: int | None
    lr_scale: float
    thrift: MemoryPolicy


@dataclass(frozen=True)
class _Rate:
    """That it measures its speed."""

    thrift: MemoryPolicy


@dataclass(frozen=True)
class _Load:
    """That it goes back to a checkpoint."""

    path: str


def _never(pictures: int) -> bool:
    """For questions that only the first process answers."""
    return False
