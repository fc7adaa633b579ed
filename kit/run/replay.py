"""A run made again from its record."""

from __future__ import annotations

from pathlib import Path

from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.data import prepared_set
from kit.run.context import RunConfig
from kit.run.run import train, worker_loop
from kit.training.distributed import init
from kit.training.run_folder import Run
from kit.training.run_record import Callback, RunRecord


def replay(record: RunRecord, *, data: Path, out: Path, clock: Stopwatch, callback: Callback) -> Run | None:
    """Makes a run again from its `run.json`: the same plans at the same pictures, up to those its zip was made of.

    Where the run was made by a model file, its code is run: ask before (`kit.models.custom.trusted`). What several
    processes trained is made again by as many: where torchrun started this one, all of them call this.

    Args:
        record: the run's `run.json`.
        data: the prepared set; its digest is compared with the recorded one.
        out: a new run folder.
        clock: the process's time.
        callback: is told of plan, ticks and progress.

    Returns:
        The run; None in a process that is not the first.

    Raises:
        KitError: another set, or a record without a result.
    """
    digest = prepared_set.load(data).digest
    if digest != record.data.digest:
        raise KitError(f"{data}: another set (digest {digest[:12]}, not {record.data.digest[:12]})", "")
    if record.result is None:
        raise KitError(f"{record.name}: this run made no images.zip")
    config = RunConfig(
        recipe=record.recipe,
        data=data,
        out=out,
        seed=record.seed,
        images=record.result.pictures,
        count=record.count,
        deterministic=record.device.deterministic,
        replayed=record,
    )
    distributed = init()
    if not distributed.is_main:
        worker_loop(config, distributed=distributed)
        return None
    return train(config, clock=clock, callback=callback, distributed=distributed)
