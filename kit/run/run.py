"""A run: plan → train → generate → pack → check, under one clock.

Training ends at its deadline, on a signal, out of memory, on a full disk or at a NaN. Whatever it was, the run then
ends in the same order, with a checkpoint, a checked `images.zip` and the reason in `run.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging

import torch

from kit.core.clock import Stopwatch, show_duration
from kit.core.errors import DiskFullError, KitError
from kit.core.files import reserve_disk, sweep
from kit.core.lock import folder_lock
from kit.core.provenance import write_source
from kit.core.records import to_json
from kit.core.threads import num_threads
from kit.data import prepared_set
from kit.generation import pack
from kit.models.custom import shown
from kit.report import films
from kit.run import images_zip, planning, ticks, width
from kit.run.context import DISK_RESERVE, RunConfig, RunContext
from kit.run.trainer import Trainer
from kit.training import device, memory
from kit.training.distributed import SINGLE_PROCESS, Distributed, WorkerLostError
from kit.training.run_folder import CANDIDATES, CHECKPOINT, IMAGES, PROGRESS, RECORD, Run, read_run
from kit.training.run_record import Callback, PartRecord, RunRecord, SecondsRecord, ThreadsChange

log = logging.getLogger(__name__)

SOURCE = "source.zip"

BEFORE_RECORD = (DISK_RESERVE, SOURCE)
"""What can lie in a run's folder before its record."""

IDENTITY = ("seed", "images", "count", "competition", "kit")
GROUPS = ("recipe", "versions")
DATA = ("name", "digest", "size", "channels")
"""What of `run.json` decides the bytes of a run, beside the machine."""


def train(config: RunConfig, *, clock: Stopwatch, callback: Callback, distributed: Distributed = SINGLE_PROCESS) -> Run:
    """Trains a model and leaves a run folder with a checked `images.zip`.

    With `images` set it is a pure function of recipe, seed and data on one machine. With `budget_s` set it ends by
    itself within the budget, which counts from the start of the process and over all parts of a resumed run.

    Of several processes the first one calls this, and alone writes; the others call `worker_loop`.

    Returns:
        The run; `record.why` says why training stopped.

    Raises:
        KitError: bad input, a budget too small, a full disk, a folder in which another process works, or training that
            diverged before its first checkpoint.
        WorkerLostError, MemoryError, torch.OutOfMemoryError: of several processes, which cannot go on together then;
            see `finish_run`.
    """
    with folder_lock(config.out), num_threads(torch.get_num_threads()):
        if not config.resume and config.out.exists() and any(config.out.iterdir()):
            raise KitError(
                f"{config.out} exists already", "choose another --out, go on with --resume, or remove it first"
            )
        context = RunContext(config, clock, callback, distributed)
        if config.resume and start_or_resume(context):
            context.trainer.release_workers()
            return context.run
        with context.stop, context.device.algorithms():
            _plan(context)
            begin_part(context)
            try:
                context.callback.on_plan(context.run.record)
                why = ticks.train(context)
                _finish(context, why)
            except BaseException as error:
                context.disk_reserve.unlink(missing_ok=True)
                if _ends_all_processes(context, error):
                    raise  # the others are in the middle of a step: `finish_run` will do the rest
                with contextlib.suppress(KitError):  # a full disk; what stopped the run matters more
                    context.run.record.state, context.run.record.why = "failed", str(error) or type(error).__name__
                    context.run.save()
                raise
            _make_artifacts(context)
        return context.run


def worker_loop(config: RunConfig, *, distributed: Distributed) -> None:
    """What all of several processes but the first do; see `kit.run.trainer.Trainer.worker_loop`."""
    where = device.choose(deterministic=config.deterministic)
    if config.memory:
        memory.limit(config.memory, where.kind)
    prepared = prepared_set.load(config.data)
    with where.algorithms():
        trainer = Trainer(config.recipe, prepared, seed=config.seed, device=where, distributed=distributed)
        trainer.worker_loop()


def finish_run(config: RunConfig, why: str, *, clock: Stopwatch, callback: Callback) -> Run:
    """Ends a run whose processes are gone: a zip made from its last checkpoint, and the reason in `run.json`.

    Raises:
        KitError: there is no checkpoint.
    """
    with folder_lock(config.out):
        context = RunContext(dataclasses.replace(config, resume=True), clock, callback)
        start_or_resume(context)
        if not context.checkpoint.exists():
            raise KitError(f"{config.out}: {why} before there was a checkpoint", "start it again")
        with context.stop:
            begin_part(context)
            _finish(context, why)
            _make_artifacts(context)
        return context.run


# ---- beginning, or going on


def start_or_resume(context: RunContext) -> bool:
    """Goes back to where an earlier process left the run; true if there is nothing left to do.

    Raises:
        KitError: the folder is no run's, or that of another run; the message shows the difference.
    """
    out, ours = context.config.out, context.run.record
    sweep(out, rf"{RECORD}|{PROGRESS}|{CHECKPOINT}|{IMAGES}|{SOURCE}|score\.json|film\.(gif|mp4)|report\.html")
    sweep(out / "samples", r"[0-9]{10}\.png")
    sweep(out / CANDIDATES, r"[0-9]{10}\.pt")
    if all(path.name in BEFORE_RECORD for path in out.glob("*")):  # killed before there was a record, or never begun
        log.info("%s: no run there yet, so it starts anew", out)
        return False
    context.run.record = record = read_run(out)
    if record.state == "finished":
        log.info("%s: finished already, nothing was changed", out)
        return True
    if record.width:
        _keep_width(context, record, ours)
    _require_same(record, ours)
    if record.device.threads != ours.device.threads and not any(change.at == 0 for change in record.threads):
        record.threads.insert(0, ThreadsChange(at=0, threads=record.device.threads))
    record.budget_s, record.device, record.data = ours.budget_s, ours.device, ours.data
    record.commit, record.dirty, record.tree = ours.commit, ours.dirty, ours.tree
    if context.checkpoint.exists():
        context.trainer.load(context.checkpoint)
        log.info("%s: goes on from %s pictures", out, f"{context.state.pictures:,}")
    else:
        log.info("%s: no checkpoint yet, so training starts anew", out)
    context.run.forget_after(context.state.pictures)
    context.snapshots.forget_after(context.state.pictures)
    record.threads = [change for change in record.threads if change.at <= context.state.pictures]
    context.used_s = sum(part.seconds for part in record.parts)
    context.clock.add(context.used_s)
    context.trainer.memory = planning.memory_policy(context)
    return False


def begin_part(context: RunContext) -> None:
    """Makes the run's folder, or the next part of one, and keeps space on the disk for its end.

    Raises:
        KitError: there is not enough.
    """
    weights = sum(p.numel() * p.element_size() for net in (context.state.G, context.state.D) for p in net.parameters())
    context.disk_reserve.unlink(missing_ok=True)  # of a part that was killed
    # The checkpoint holds weights, average and two moments of Adam.
    reserve_disk(context.disk_reserve, 4 * weights + pack.most_bytes(context.rules, context.count))
    record, pictures = context.run.record, context.state.pictures
    if not record.parts:
        write_source(context.run.path / SOURCE)
    record.name, record.state, record.why, record.signal = context.config.out.name, "running", "", None
    record.pictures = pictures
    processes = context.trainer.distributed.size
    record.parts.append(PartRecord(start=pictures, stop=pictures, seconds=0.0, processes=processes))
    if context.trainer.memory != planning.memory_policy(context):
        planning.record_memory(context, reached=pictures)
    context.run.save()


def _plan(context: RunContext) -> None:
    try:
        width.choose_width(context)
        planning.prepare_scores(context)
        planning.make_plan(context)
    except BaseException as error:
        if _ends_all_processes(context, error):
            begin_part(context)  # the process that started them goes on from its record
            context.disk_reserve.unlink()
        raise


def _ends_all_processes(context: RunContext, error: BaseException) -> bool:
    """Whether an error leaves several processes that cannot go on together."""
    return context.trainer.distributed.size > 1 and (isinstance(error, WorkerLostError) or memory.ran_out(error))


def _keep_width(context: RunContext, theirs: RunRecord, ours: RunRecord) -> None:
    """Goes on with the width that was chosen when the run began, whatever the budget is now."""
    if any(theirs.recipe == recipe for _, recipe in context.config.ladder):
        context.use_recipe(theirs.recipe)
        ours.recipe = theirs.recipe
    if theirs.width and theirs.width.chosen and ours.budget_s not in (None, theirs.width.budget_s):
        log.info(
            "width %d stays: it was chosen for a budget of %s",
            theirs.width.chosen,
            show_duration(theirs.width.budget_s),
        )


def _require_same(theirs: RunRecord, ours: RunRecord) -> None:
    """Refuses to go on with a run that was another one, and shows the difference."""
    before, now = (to_json(record) for record in (theirs, ours))
    pairs = [(key, before[key], now[key]) for key in IDENTITY]
    pairs += [(key, before[group].get(key), now[group].get(key)) for group in GROUPS for key in now[group]]
    pairs += [(f"data {key}", before["data"][key], now["data"][key]) for key in DATA]
    if ours.images is not None:  # of a budgeted run they are chosen anew
        pairs += [("threads", theirs.device.threads, ours.device.threads)]
    pairs += [("deterministic", theirs.device.deterministic, ours.device.deterministic)]
    different = [f"{name} {_short(name, old)} → {_short(name, new)}" for name, old, new in pairs if old != new]
    if different:
        raise KitError(
            f"the run {theirs.name} cannot go on as another run ({', '.join(different)})",
            "give the same flags, data and versions as before, or start a new run",
        )


def _short(name: str, value: object) -> str:
    """A value for a message: of digests the beginning."""
    return shown(value)[:12] if name.endswith("digest") else shown(value)


# ---- the end


def _finish(context: RunContext, why: str) -> None:
    """The zip, unless a signal leaves no time for a better one, and the last words of `run.json`."""
    context.trainer.release_workers()
    context.disk_reserve.unlink(missing_ok=True)
    stopped, generating_s = context.clock.seconds(), 0.0
    if not (context.stop.signal and context.images.exists()):
        if why in ticks.ENDS:
            context.snapshots.finish(stopped)
        why, generating_s = _make_zip(context, why)
    context.note_part()
    # A run that was cut short can go on; one that was not has come to its end.
    record = context.run.record
    record.state, record.why = "finished" if why in ticks.ENDS else "stopped", why
    record.signal = context.stop.signal.name if context.stop.signal else None
    now = context.clock.seconds()
    record.seconds = SecondsRecord(
        finishing=round(now - stopped, 3), generating=round(generating_s, 3), in_all=round(now, 3)
    )
    context.run.save()


def _make_zip(context: RunContext, why: str) -> tuple[str, float]:
    """The zip, or where it cannot be made and an earlier one exists, that one.

    Returns:
        Why the run ends then, and the seconds that went into generating.
    """
    try:
        return why, images_zip.write(context)
    except images_zip.AbandonedError:
        return context.stop.why or why, 0.0
    except (DiskFullError, MemoryError, RuntimeError) as error:
        if not context.images.exists() or not (isinstance(error, DiskFullError) or memory.ran_out(error)):
            raise
        why = str(error) if isinstance(error, DiskFullError) else "out of memory"
        log.warning("%s: the earlier %s stays", why, context.images.name)
        return why, 0.0


def _make_artifacts(context: RunContext) -> None:
    """The film and the page, where there is time; where another program told this one to end, there is none."""
    if context.stop.at_once:
        return
    asked, began = context.stop.signal, context.clock.seconds()
    films.make_artifacts(
        context.run.path,
        left_s=None if context.config.budget_s is None else context.config.budget_s - began,
        told_to_stop=lambda: context.stop.signal is not asked,
    )
    now, record = context.clock.seconds(), context.run.record
    if record.seconds:
        record.seconds = dataclasses.replace(record.seconds, artifacts=round(now - began, 3), in_all=round(now, 3))
    with contextlib.suppress(DiskFullError):  # the run is whole without these figures
        context.run.save()
