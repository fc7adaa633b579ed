"""`images.zip`: generated from the best average there is, packed, checked, and replaced whole."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kit.core.clock import Waited
from kit.core.errors import KitError
from kit.core.files import atomic
from kit.core.threads import num_threads
from kit.data.grid import make_grid
from kit.generation.generate import generate
from kit.generation.latents import class_labels
from kit.generation.pack import Packed, pack
from kit.generation.translate import make_pairs
from kit.generation.validate import check
from kit.run import budget
from kit.run.context import RunContext
from kit.training import checkpoint
from kit.training.run_folder import IMAGES, Candidate
from kit.training.run_record import InterimZip, ResizeRecord, ResultRecord

GRID, GRID_COLUMNS = 64, 8
"""Pictures on a tick's grid."""

GRID_PAIRS = 16
"""Inputs on a tick's grid, each with its output beside it."""

GRID_STANDING = 2
"""At most so many batches of batch norm statistics for a grid: it is drawn often, and only looked at."""


class AbandonedError(Exception):
    """A zip was given up, because there is no time for it and an earlier one exists."""


def write(context: RunContext) -> float:
    """Writes `images.zip` and its record; says how many seconds it waited for pictures.

    Raises:
        AbandonedError: a signal asked for the end meanwhile, or the budget is used up, and an earlier zip stays.
        KitError: the disk is full.
    """
    before = context.config.replayed.result if context.config.replayed else None
    generator, made_of = context.snapshots.best(Candidate(before.pictures, before.raw) if before else None)
    with num_threads(context.generation_threads):
        began = context.clock.seconds()
        waited = Waited(_sample(context, context.count, context.rules.size, generator=generator))
        once_s = context.clock.seconds() - began  # batch norm's statistics
        batches = _while_there_is_time(context, waited)
        made = _write(context, batches, context.images, context.count, show_progress=True)
    context.run.record.result = ResultRecord(
        file=IMAGES,
        pictures=made_of.pictures,
        raw=made_of.raw,
        resize=_resize(context),
        threads=context.generation_threads,
        count=made.count,
        bytes=made.bytes,
        sha256=made.sha256,
        pixels_sha256=made.pixels_sha256,
        weights_sha256=checkpoint.weights_digest(generator),
    )
    context.run.save()
    return once_s + waited.seconds


def time_trial(context: RunContext, count: int) -> tuple[float, float]:
    """Makes a zip of so many pictures in a temporary folder.

    Returns:
        Seconds before the first picture, and seconds for all of them.

    Raises:
        AbandonedError: a signal asked for the end meanwhile, and there is a zip.
    """
    with num_threads(context.generation_threads):
        began = context.clock.seconds()
        batches = _sample(context, count, context.rules.size)  # batch norm's statistics: as long for one as for all
        ready = context.clock.seconds()
        with tempfile.TemporaryDirectory(prefix="kit-trial-") as folder:
            _write(context, _unless_stopped(context, batches), Path(folder) / IMAGES, count)
        return ready - began, context.clock.seconds() - ready


def save_grid(context: RunContext) -> NDArray[np.uint8]:
    """The same latents or inputs at every tick, so that the grids can be laid over each other; returns the pictures."""
    inputs, size = context.prepared.inputs, context.shape.size
    with num_threads(context.generation_threads):
        if inputs is None:
            standing = min(context.recipe.standing_batches, GRID_STANDING)
            tiles = np.concatenate(list(_sample(context, GRID, size, standing_batches=standing)))
            grid = make_grid(tiles, columns=GRID_COLUMNS)
        else:
            inputs = inputs[:GRID_PAIRS]
            tiles = np.concatenate(list(_sample(context, len(inputs), size)))
            before, after = inputs, tiles
            if back := getattr(context.state.ema.module, "to_input", None):  # cyclegan's way back, below
                targets = context.prepared.images[:GRID_PAIRS]
                made = _sample(context, len(targets), size, generator=back, inputs=targets)
                before, after = np.concatenate([inputs, targets]), np.concatenate([tiles, *made])
            grid = make_pairs(before, after)
    with atomic(context.run.path / "samples" / f"{context.state.pictures:010d}.png") as file:
        grid.save(file, "PNG")
    return tiles


def _sample(
    context: RunContext,
    count: int,
    size: int,
    *,
    generator: nn.Module | None = None,
    standing_batches: int | None = None,
    inputs: NDArray[np.uint8] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    standing = context.recipe.standing_batches if standing_batches is None else standing_batches
    return generate(
        generator or context.state.ema.module,
        dataclasses.replace(context.recipe, standing_batches=standing),
        count=count,
        size=size,
        seed=context.config.seed,
        device=context.device.kind,
        precision=context.device.precision,
        labels=class_labels(context.recipe, context.shape, count),
        inputs=context.prepared.inputs if inputs is None else inputs,
    )


def _write(
    context: RunContext, batches: Iterator[NDArray[np.uint8]], path: Path, count: int, *, show_progress: bool = False
) -> Packed:
    """Generates, packs and checks."""

    def progress(done: int, total: int) -> None:
        if show_progress:
            context.callback.on_progress("pictures", done, total)

    names = context.prepared.input_names[:count] or None
    made = pack(batches, path, competition=context.rules, count=count, names=names, progress=progress)
    report = check(path, competition=context.rules, count=count)
    if report.errors:
        raise KitError(f"{path}: {report.errors[0]}", "this is a fault of the kit: please report it")
    return made


def _while_there_is_time(context: RunContext, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Gives up when a signal asks for the end or the budget is used up, and an earlier zip exists."""
    budget_s = context.config.budget_s
    for batch in _unless_stopped(context, batches):
        late = budget_s is not None and context.clock.seconds() > budget_s - context.spare_s / 2
        if late and context.images.exists():
            raise AbandonedError
        yield batch


def _unless_stopped(context: RunContext, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Gives up when a signal asks for the end, and a zip exists."""
    for batch in batches:
        if context.stop.signal and context.images.exists():
            raise AbandonedError
        yield batch


def _resize(context: RunContext) -> ResizeRecord | None:
    """What happens between the generator and the zip where their sizes differ."""
    if context.shape.size == context.rules.size:
        return None
    return ResizeRecord(source=context.shape.size, target=context.rules.size, filter="pillow-lanczos")


class InterimZips:
    """Writes an `images.zip` in the middle of training, whenever it is worth its time, for a run that is cut off."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._times = budget.InterimZipTimes(context.config.budget_s) if context.config.budget_s else None
        if self._times and context.images.exists():
            for made in context.run.record.interim_zips:  # by earlier parts
                self._times.took(made.ended_s, cost_s=made.seconds)

    def write_if_due(self) -> None:
        """Writes one if it is time for it.

        Raises:
            KitError: the disk is full.
        """
        context = self._context
        if not (context.plan and self._times):
            return
        now = context.clock.seconds()
        cost_s = budget.finish_seconds(context.plan)
        if now + cost_s >= context.plan.deadline_s or not self._times.due(now, cost_s=cost_s):
            return
        context.save()
        with contextlib.suppress(AbandonedError):
            write(context)
            ended = context.clock.seconds()
            self._times.took(ended, cost_s=ended - now)
            context.run.record.interim_zips.append(
                InterimZip(at=context.state.pictures, seconds=round(ended - now, 3), ended_s=round(ended, 3))
            )
            context.run.save()
