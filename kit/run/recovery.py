"""What goes on after something went wrong: training, from the last checkpoint, with smaller steps or less memory."""

from __future__ import annotations

import torch

from kit.core.errors import DiskFullError
from kit.run import schedules
from kit.run.config import RunConfig
from kit.run.context import RunContext
from kit.run.ticks import DivergedError, Training
from kit.training import health, memory
from kit.training.memory import DEFAULT
from kit.training.run_folder import Run, read_run
from kit.training.run_record import Rollback


def train_on(work: RunContext) -> str:
    """Trains until something says stop, and says what; the players are then fit to generate.

    Raises:
        MemoryError, torch.OutOfMemoryError: in a crew, which cannot go on then.
        LostError: another process is gone.
        KitError: the disk is full, and the room that was set aside is not enough.
    """
    training = Training(work)
    freed = False  # whether unused memory was given back already, when there was too little
    while True:
        short = False
        try:
            return training.go()
        except (MemoryError, RuntimeError) as error:
            if work.session.crew.size > 1 or not memory.ran_out(error):
                raise
            why, short = "out of memory", True
        except DiskFullError as error:
            work.ballast.unlink(missing_ok=True)
            why = str(error)
        except DivergedError as error:
            why = str(error)
            if len(work.run.record.rollbacks) < health.ROLLBACKS:
                _roll_back(work, why)
                continue
        if short:  # here, as the error held on to the tensors of its step
            memory.free()
            if not freed or work.session.economise():
                _go_on_with_less(work, note=freed)
                freed = True
                continue
        if work.checkpoint.exists():
            work.session.load(work.checkpoint)  # a step may have been cut in two: this was the last whole state
        else:
            work.save()  # the disk was full before the first one: nothing is trained yet
        work.say(f"{why}: finishing with the checkpoint of {work.state.pictures:,} pictures")
        return why


def economise(job: RunConfig, *, processes: int) -> bool:
    """Notes in the `run.json` of a run whose processes ran out of memory that it goes on with less; false if it cannot.

    Args:
        job: the run.
        processes: that will share each batch.
    """
    run = Run(job.out, read_run(job.out))
    noted = schedules.noted_thrifts(run.record)
    before = noted[-1][1] if noted else DEFAULT
    kind = torch.device(run.record.device.type)
    wanted = before.reduce_memory(batch=job.recipe.batch, processes=processes, device=kind)
    if wanted is None:
        return False
    seen = run.record.pictures
    run.record.memory.append(schedules.memory_change(wanted, reached=seen, resumed_at=seen))
    run.save()
    return True


def _roll_back(work: RunContext, why: str) -> None:
    """Goes back to the last checkpoint and on from there with smaller steps; a replay will do so, too."""
    steps = schedules.steps_scale(work) * health.SMALLER
    reached, back_to = _go_back(work)
    work.run.record.rollbacks.append(Rollback(reached=reached, resumed_at=back_to, lr_scale=steps, why=why))
    work.run.save()
    _warn(work, f"{why}: back to {back_to:,} pictures, with {steps:g} × the step sizes")


def _go_on_with_less(work: RunContext, *, note: bool) -> None:
    """Goes back to the last checkpoint and on from there with less memory; `note`: by another way than before."""
    reached, back_to = _go_back(work)
    if note:
        schedules.note_thrift(work, reached=reached)
    _warn(work, f"out of memory: back to {back_to:,} pictures, {work.session.thrift}")


def _go_back(work: RunContext) -> tuple[int, int]:
    """To the last checkpoint, as if what came after it had never been; says from and to which pictures."""
    reached = work.state.pictures
    work.session.load(work.checkpoint)
    back_to = work.state.pictures
    work.run.forget_after(back_to)
    work.selection.forget_after(back_to)
    schedules.forget_plans_after(work, back_to)
    return reached, back_to


def _warn(work: RunContext, alarm: str) -> None:
    """Says it at once, and with the next tick."""
    work.alarms = [alarm]
    work.say(alarm)
