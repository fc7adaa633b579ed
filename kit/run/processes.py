"""A training run in this process, or in several that this one starts and waits for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

import kit.run
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.run import launch
from kit.training import distributed, memory
from kit.training.run_folder import CHECKPOINT, RECORD, read_run
from kit.training.run_record import RunRecord

Watching = Callable[[Stopwatch], AbstractContextManager[kit.run.Callback]]
"""Makes who watches a run, in the process that conducts it, from the run's clock."""


def train(
    job: kit.run.RunConfig,
    *,
    gpus: str | None,
    clock: Stopwatch,
    arguments: Sequence[str],
    watching: Watching,
    module: str = "kit",
) -> RunRecord | None:
    """Trains, and ends the run in order even if one of its processes dies.

    Args:
        job: what to train.
        gpus: "all", a number, or None: one process.
        clock: the run's.
        arguments: of the command line that asked for it: what other processes are started with.
        watching: makes who watches the run.
        module: what those arguments are the command line of; it also has to take --out, --started-at and --resume.

    Returns:
        The run's `run.json`; None in one of several processes, as the one that started them has the last word.

    Raises:
        KitError: what `kit.run.train` raises, in the process that has to say it.
        SystemExit: the processes could not begin, and have said why.
    """
    if distributed.started_by_torchrun():
        _take_part(job, clock, watching)
        return None
    count = launch.processes(gpus)
    if count > 1:
        return _launch(job, count, clock, arguments, watching, module)
    with watching(clock) as listener:
        return kit.run.train(job, clock=clock, listener=listener).record


def _take_part(job: kit.run.RunConfig, clock: Stopwatch, watching: Watching) -> None:
    """One of several processes."""
    crew = distributed.init()
    try:
        if crew.is_main:
            with watching(clock) as listener:
                kit.run.train(job, clock=clock, listener=listener, crew=crew)
        else:
            kit.run.follow(job, crew=crew)
    except distributed.WorkerLostError:
        _leave(distributed.LOST)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        _leave(launch.OUT_OF_MEMORY)
    except KitError:
        if crew.is_main:
            raise
        _leave(1)  # the first process says the same


def _leave(code: int) -> NoReturn:
    """Ends this process at once: an ordinary exit would wait for others that are in the midst of a step."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _launch(
    job: kit.run.RunConfig, count: int, clock: Stopwatch, arguments: Sequence[str], watching: Watching, module: str
) -> RunRecord:
    """Several processes; should they leave the run unfinished, this one ends it."""
    before = _record(job)
    parts = len(before.parts) if before else 0
    began, started = clock.started_at, clock.started_at
    arguments = [*arguments, "--out", str(job.out)]
    while True:
        ended = launch.launch([*arguments, "--started-at", repr(started)], count, module=module)
        record = _record(job)
        if record is None or (ended.early and record == before) or record.state == "failed":
            if ended.code == launch.OUT_OF_MEMORY:
                raise _no_room()
            sys.exit(130 if ended.signal == signal.SIGINT else 1)
        if record.state != "running":
            return record
        # What these processes used counts already, up to their last checkpoint.
        started = began + sum(part.seconds for part in record.parts[parts:])
        if ended.code != launch.OUT_OF_MEMORY:
            break
        if not kit.run.economise(job, processes=count):
            if not (job.out / CHECKPOINT).exists():
                raise _no_room()
            break
        arguments = [word for word in arguments if word != "--resume"] + ["--resume"]
        before = record
    clock = Stopwatch(started)
    with watching(clock) as listener:
        return kit.run.conclude(job, ended.why, clock=clock, listener=listener).record


def _no_room() -> KitError:
    return KitError("out of memory before training began", "take a smaller --set batch, or --set width")


def _record(job: kit.run.RunConfig) -> RunRecord | None:
    return read_run(job.out) if (job.out / RECORD).is_file() else None
