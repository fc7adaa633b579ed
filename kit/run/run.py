"""The conductor: plan → train → generate → pack → check, under one clock.

Training ends at its deadline, on a signal, out of memory, on a full disk or at a NaN; whatever it was, the run then
ends in the same orderly way, with a checkpoint, a checked `images.zip` and the reason in `run.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal

from kit.core.clock import Stopwatch
from kit.core.errors import DiskFullError, KitError
from kit.data import prepared_set
from kit.report import artifacts
from kit.run import images_zip, planning, recovery, start
from kit.run.config import Callback, RunConfig
from kit.run.context import RunContext
from kit.run.ticks import ENDS
from kit.run.trainer import Trainer
from kit.training import device, memory
from kit.training.distributed import SINGLE_PROCESS, Distributed, WorkerLostError
from kit.training.run_folder import Run
from kit.training.run_record import SecondsRecord


def train(job: RunConfig, *, clock: Stopwatch, listener: Callback, crew: Distributed = SINGLE_PROCESS) -> Run:
    """Trains a model and leaves a run folder with a checked `images.zip`.

    With `images` set it is a pure function of recipe, seed and data on one machine; with `budget_s` set it ends by
    itself within the budget, which counts from the start of the process and over all parts of a resumed run.

    In a crew the first process conducts the run and alone writes; the others are in `follow`.

    Returns:
        The run; `record.why` says why training stopped.

    Raises:
        KitError: bad input, a budget too small, a full disk, or training that diverged before its first checkpoint.
        LostError, MemoryError, torch.OutOfMemoryError: in a crew, which cannot go on then; see `conclude`.
    """
    if job.out.exists() and not job.resume:
        raise KitError(f"{job.out} exists already", "choose another --out, go on with --resume, or remove it first")
    work = RunContext(job, clock, listener, crew)
    if job.resume and start.take_up(work):
        work.session.dismiss()
        return work.run
    with work.stop, work.device.algorithms():
        planning.prepare_scores(work)
        try:
            planning.make_plan(work)
        except BaseException as error:
            if _breaks_up(work, error):
                start.begin_part(work)  # whoever started the processes goes on from its record
                work.ballast.unlink()
            raise
        start.begin_part(work)
        try:
            listener.on_plan(work.run.record)
            why = recovery.train_on(work)
            _finish(work, why)
        except BaseException as error:
            work.ballast.unlink(missing_ok=True)
            if _breaks_up(work, error):
                raise  # the others are in the midst of a step: `conclude` will do the rest
            with contextlib.suppress(KitError):  # a full disk; what stopped the run matters more
                work.run.record.state, work.run.record.why = "failed", str(error) or type(error).__name__
                work.run.save()
            raise
        _keep(work)
    return work.run


def follow(job: RunConfig, *, crew: Distributed) -> None:
    """Trains along in every process of a crew but the first; see `kit.run.trainer.Session.follow`."""
    where = device.choose(deterministic=job.deterministic)
    if job.memory:
        memory.limit(job.memory, where.kind)
    with where.algorithms():
        Trainer(job.recipe, prepared_set.load(job.data), seed=job.seed, device=where, crew=crew).follow()


def conclude(job: RunConfig, why: str, *, clock: Stopwatch, listener: Callback) -> Run:
    """Ends a run whose processes are gone: a zip made from its last checkpoint, and the reason in `run.json`.

    Raises:
        KitError: there is no checkpoint.
    """
    work = RunContext(dataclasses.replace(job, resume=True), clock, listener)
    start.take_up(work)
    if not work.checkpoint.exists():
        raise KitError(f"{job.out}: {why} before there was a checkpoint", "start it again")
    with work.stop:
        start.begin_part(work)
        _finish(work, why)
        _keep(work)
    return work.run


def _breaks_up(work: RunContext, error: BaseException) -> bool:
    """Whether an error leaves a crew that cannot go on together."""
    return work.session.crew.size > 1 and (isinstance(error, WorkerLostError) or memory.ran_out(error))


def _finish(work: RunContext, why: str) -> None:
    """The zip, unless a signal leaves no time for a better one, and the last words of `run.json`."""
    work.session.dismiss()
    work.ballast.unlink(missing_ok=True)
    stopped, generating_s = work.clock.seconds(), 0.0
    if not (work.stop.signal and work.images.exists()):
        if why in ENDS:
            work.selection.ended(stopped)
        why, generating_s = _deliver(work, why)
    work.note_part()
    # A run that was cut short can go on; one that was not has come to its end.
    record = work.run.record
    record.state, record.why = "finished" if why in ENDS else "stopped", why
    record.signal = work.stop.signal.name if work.stop.signal else None
    now = work.clock.seconds()
    record.seconds = SecondsRecord(
        finishing=round(now - stopped, 3), generating=round(generating_s, 3), in_all=round(now, 3)
    )
    work.run.save()


def _deliver(work: RunContext, why: str) -> tuple[str, float]:
    """The zip, or where it cannot be made and an earlier one stands, that one.

    Returns:
        Why the run ends then, and the seconds that went into generating.
    """
    try:
        return why, images_zip.deliver(work)
    except images_zip.AbandonedError:
        return work.stop.why or why, 0.0
    except (DiskFullError, MemoryError, RuntimeError) as error:
        if not work.images.exists() or not (isinstance(error, DiskFullError) or memory.ran_out(error)):
            raise
        why = str(error) if isinstance(error, DiskFullError) else "out of memory"
        work.say(f"{why}: the {work.images.name} that is there stays")
        return why, 0.0


def _keep(work: RunContext) -> None:
    """The film and the page, where there is time; told to stop by another program, there is none."""
    if work.stop.signal is signal.SIGTERM:
        return
    asked, began = work.stop.signal, work.clock.seconds()
    artifacts.make_artifacts(
        work.run.path,
        left_s=None if work.job.budget_s is None else work.job.budget_s - began,
        told_to_stop=lambda: work.stop.signal is not asked,
    )
    now = work.clock.seconds()
    if work.run.record.seconds:
        work.run.record.seconds = dataclasses.replace(
            work.run.record.seconds, artifacts=round(now - began, 3), in_all=round(now, 3)
        )
    with contextlib.suppress(DiskFullError):  # the run is whole without these figures
        work.run.save()
