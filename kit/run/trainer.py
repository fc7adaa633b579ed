"""Everything that trains one run, alike in each of its processes: networks, batches, device, and the loop."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.core.signals import ignore_signals
from kit.core.threads import num_threads
from kit.data import prepared_set
from kit.data.batches import Batches
from kit.models import registry
from kit.models.recipe import Recipe, TaskName
from kit.training import checkpoint, distributed, loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.device import Device
from kit.training.distributed import SINGLE_PROCESS, Distributed, convert_sync_batch_norm
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.translation import CUT, CycleGAN

CALIBRATION_S = 1.0
"""Seconds of training on a copy to learn its speed: a first guess, as plans are made anew on the way."""

OBJECTIVES: dict[str, type[CycleGAN] | type[CUT]] = {"cyclegan": CycleGAN, "cut": CUT}
"""What an architecture learns, where that is not the plain adversarial objective."""


class Trainer:
    """The networks on their device, with their batches.

    Each of several processes has one. The first process calls its methods; the others, in `worker_loop`, do the same.

    Args:
        recipe: what trains.
        prepared: on what.
        seed: the run's.
        device: where.
        distributed: with which other processes.

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
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        require_fit(recipe, prepared, device)
        self.seed, self.device, self.distributed = seed, device, distributed
        self.shape = checkpoint.Shape(
            prepared.size, prepared.channels, tuple(prepared.classes), tuple(prepared.class_counts("train"))
        )
        self.memory: MemoryPolicy = DEFAULT
        self._others_in_loop = False
        self._batches = Batches(prepared, seed=seed, device=device.kind, flip=recipe.flip and prepared.mirror)
        self._build(recipe)

    def _build(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.state = train_state.build(
            recipe,
            size=self.shape.size,
            channels=self.shape.channels,
            classes=len(self.shape.classes),
            seed=self.seed,
            device=self.device,
        )
        if self.distributed.size > 1:
            for network in (self.state.G, self.state.D):
                convert_sync_batch_norm(network)
        objective = OBJECTIVES.get(recipe.architecture, Adversarial)
        self._objective = objective(recipe, self._batches, self.seed, self.device, self.distributed)

    def use_recipe(self, recipe: Recipe) -> None:
        """Begins anew with another width, untrained, and with what goes along with it."""
        if recipe != self.recipe:
            self._send_order({"do": "build", "recipe": dataclasses.asdict(recipe)})
            self._build(recipe)

    def steps(
        self,
        *,
        done: Callable[[int], bool],
        tick_due: Callable[[int], bool],
        total_images: int | None = None,
        lr_scale: float = 1.0,
    ) -> Generator[loop.Tick]:
        """Trains, see `kit.training.loop.train`.

        Args:
            done: asked before each step.
            tick_due: asked after each step.
            total_images: pictures over which schedules run.
            lr_scale: factor on the recipe's learning rates.
        """
        self._send_order(
            {
                "do": "train",
                "total_images": total_images,
                "lr_scale": lr_scale,
                "memory": dataclasses.asdict(self.memory),
            }
        )
        self._others_in_loop = True
        yield from self._loop(self.state, done=done, tick_due=tick_due, total_images=total_images, lr_scale=lr_scale)
        self._others_in_loop = False

    def rate(self, clock: Stopwatch, *, threads: int | None = None, seconds: float = CALIBRATION_S) -> float:
        """Pictures a second of training, measured on a copy of the networks.

        Args:
            clock: of the run.
            threads: of a step; None: as many as now.
            seconds: to measure over; at least one step is.
        """
        self._send_order({"do": "measure", "memory": dataclasses.asdict(self.memory)})
        with num_threads(threads or torch.get_num_threads()):
            return self._rate(clock, seconds)

    def reduce_memory(self) -> bool:
        """Goes over to needing less memory, from the next steps on; false if there is no way left."""
        processes, where = self.distributed.size, self.device.kind
        wanted = self.memory.reduce_memory(batch=self.recipe.batch, processes=processes, device=where)
        self.memory = wanted or self.memory
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
        self._send_order({"do": "load", "path": str(path)})
        checkpoint.load(path, self.state, self.recipe, self.shape)

    def release_workers(self) -> None:
        """Ends the other processes: from here on this one is enough."""
        if self.distributed.size > 1:
            self._send_order(None)
            distributed.destroy()
            self.distributed = SINGLE_PROCESS

    def worker_loop(self) -> None:
        """Does what the first process says, until it says nothing more. Signals are left to the first process.

        Raises:
            WorkerLostError: it is gone.
        """
        ignore_signals()
        while order := self.distributed.broadcast():
            if order["do"] == "load":
                checkpoint.load(Path(order["path"]), self.state, self.recipe, self.shape)
                continue
            if order["do"] == "build":
                self._build(Recipe(**order["recipe"]))
                continue
            self.memory = MemoryPolicy(**order["memory"])
            if order["do"] == "measure":
                self._rate(Stopwatch(), CALIBRATION_S)
            else:
                for _ in self._loop(
                    self.state,
                    done=_never,
                    tick_due=_never,
                    total_images=order["total_images"],
                    lr_scale=order["lr_scale"],
                ):
                    pass

    def _send_order(self, order: dict[str, Any] | None) -> None:
        """Tells the others, who are still in the training loop if the first process left it between two steps."""
        if self._others_in_loop:
            self.distributed.broadcast(True)
            self._others_in_loop = False
        self.distributed.broadcast(order)

    def _loop(
        self,
        state: train_state.TrainState,
        *,
        done: Callable[[int], bool],
        tick_due: Callable[[int], bool],
        total_images: int | None = None,
        lr_scale: float = 1.0,
    ) -> Iterator[loop.Tick]:
        return loop.train(
            state,
            self._objective,
            tick_due=tick_due,
            done=done,
            total_images=total_images,
            lr_scale=lr_scale,
            memory=self.memory,
        )

    def _rate(self, clock: Stopwatch, seconds: float) -> float:
        copied = copy.deepcopy(self.state)
        for _ in self._loop(copied, tick_due=_never, done=lambda n: n > self.state.pictures):
            pass  # the first step also chooses kernels and fills caches
        began, first = clock.seconds(), copied.pictures
        for _ in self._loop(copied, tick_due=_never, done=lambda n: n > first and clock.seconds() - began >= seconds):
            pass
        return (copied.pictures - first) / (clock.seconds() - began)


def require_fit(recipe: Recipe, prepared: prepared_set.PreparedSet, device: Device) -> None:
    """Makes sure that a model and a set are for the same task, and that the device can train it as asked.

    Raises:
        KitError: one is for translation and the other is not (the rows that fit are named), or a translation is to be
            deterministic on a GPU, where torch has no such gradient of the reflected borders.
    """
    task: TaskName = "generation" if prepared.inputs is None else "translation"
    if recipe.task == task:
        if task == "translation" and device.deterministic and device.kind.type == "cuda":
            raise KitError(
                f"--deterministic: torch cannot train {recipe.model} so on a GPU", "leave it out, or train on the CPU"
            )
        return
    fitting = ", ".join(registry.of_task(task))
    if task == "translation":
        raise KitError(
            f"{recipe.model} draws pictures from noise, and {prepared.path} has pictures to translate",
            f"take a model that translates: {fitting}",
        )
    raise KitError(
        f"{recipe.model} translates pictures, and {prepared.path} has none to translate",
        f"prepare some with `kit data --from TARGETS --inputs INPUTS`, or take one of {fitting}",
    )


def _never(pictures: int) -> bool:
    """For questions that only the first process answers."""
    return False
