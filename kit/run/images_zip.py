"""`images.zip`: generated from the best average there is, packed, checked, and replaced whole."""

from __future__ import annotations

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
from kit.data.grid import make_grid
from kit.generation.classes import class_labels
from kit.generation.generate import generate
from kit.generation.pack import Packed, pack
from kit.generation.validate import check
from kit.run.context import RunContext
from kit.training import checkpoint
from kit.training.run_folder import IMAGES
from kit.training.run_record import ResizeRecord, ResultRecord

GRID, GRID_COLUMNS = 64, 8
"""Pictures on a tick's grid."""

GRID_STANDING = 2
"""At most so many batches of standing statistics for a grid: it is drawn often, and only looked at."""


class AbandonedError(Exception):
    """A zip was given up, because there is no time for it and an older one stands."""


def deliver(work: RunContext) -> float:
    """Writes `images.zip` and its record; says how many seconds it waited for pictures.

    Raises:
        AbandonedError: a signal asked for the end meanwhile, or the budget is used up, and an earlier zip stays.
        KitError: the disk is full.
    """
    generator, pictures = work.selection.best()
    began = work.clock.seconds()
    waited = Waited(_sample(work, work.count, work.rules.size, generator=generator))
    once_s = work.clock.seconds() - began  # standing statistics
    batches = _while_there_is_time(work, waited)
    made = _write(work, batches, work.images, work.count, told=True)
    work.run.record.result = ResultRecord(
        file=IMAGES,
        pictures=pictures,
        resize=_resize(work),
        count=made.count,
        bytes=made.bytes,
        sha256=made.sha256,
        pixels_sha256=made.pixels_sha256,
        weights_sha256=checkpoint.weights_digest(generator),
    )
    work.run.save()
    return once_s + waited.seconds


def time_trial(work: RunContext, count: int) -> tuple[float, float]:
    """Makes a zip of so many pictures in a temporary folder.

    Returns:
        Seconds that are paid once, however many pictures follow, and seconds for these pictures.

    Raises:
        AbandonedError: a signal asked for the end meanwhile, and there is a zip.
    """
    began = work.clock.seconds()
    batches = _sample(work, count, work.rules.size)  # takes standing statistics: as long for one picture as for all
    ready = work.clock.seconds()
    with tempfile.TemporaryDirectory(prefix="kit-trial-") as folder:
        _write(work, _unless_stopped(work, batches), Path(folder) / IMAGES, count)
    return ready - began, work.clock.seconds() - ready


def save_grid(work: RunContext) -> NDArray[np.uint8]:
    """The same latents at every tick, so that the grids can be laid over each other; returns the pictures."""
    standing = min(work.recipe.standing_batches, GRID_STANDING)
    tiles = np.concatenate(list(_sample(work, GRID, work.shape.size, standing_batches=standing)))
    with atomic(work.run.path / "samples" / f"{work.state.pictures:010d}.png") as file:
        make_grid(tiles, columns=GRID_COLUMNS).save(file, "PNG")
    return tiles


def _sample(
    work: RunContext, count: int, size: int, *, generator: nn.Module | None = None, standing_batches: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    standing = work.recipe.standing_batches if standing_batches is None else standing_batches
    return generate(
        generator or work.state.ema.module,
        dataclasses.replace(work.recipe, standing_batches=standing),
        count=count,
        size=size,
        seed=work.job.seed,
        device=work.device.kind,
        precision=work.device.precision,
        labels=class_labels(work.recipe, work.shape, count),
    )


def _write(
    work: RunContext, batches: Iterator[NDArray[np.uint8]], path: Path, count: int, *, told: bool = False
) -> Packed:
    """Generates, packs and checks."""

    def progress(done: int, total: int) -> None:
        if told:
            work.listener.on_progress("pictures", done, total)

    made = pack(batches, path, competition=work.rules, count=count, progress=progress)
    report = check(path, competition=work.rules, count=count)
    if report.errors:
        raise KitError(f"{path}: {report.errors[0]}", "this is a fault of the kit: please report it")
    return made


def _while_there_is_time(work: RunContext, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Gives up when a signal asks for the end or the budget is used up, and an earlier zip stands to be kept."""
    budget_s = work.job.budget_s
    for batch in _unless_stopped(work, batches):
        late = budget_s is not None and work.clock.seconds() > budget_s - work.spare_s / 2
        if late and work.images.exists():
            raise AbandonedError
        yield batch


def _unless_stopped(work: RunContext, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Gives up when a signal asks for the end, and a zip stands to be kept."""
    for batch in batches:
        if work.stop.signal and work.images.exists():
            raise AbandonedError
        yield batch


def _resize(work: RunContext) -> ResizeRecord | None:
    """What happens between the generator and the zip where their sizes differ."""
    if work.shape.size == work.rules.size:
        return None
    return ResizeRecord(source=work.shape.size, target=work.rules.size, filter="pillow-lanczos")
