"""Training from tick to tick, and what goes on after something went wrong."""

from __future__ import annotations

import dataclasses
import logging

import torch

from kit.core.errors import DiskFullError
from kit.run import budget, images_zip, planning
from kit.run.context import RunContext
from kit.run.images_zip import InterimZips
from kit.training import health, memory
from kit.training.loop import Tick
from kit.training.losses import LOSSES
from kit.training.run_record import Rollback, TickRecord

log = logging.getLogger(__name__)


ENDS = ("all pictures were seen", "the time to train was used")
"""Why a run ends that was not cut short."""


class DivergedError(Exception):
    """A loss or a weight is not finite any more, or all pictures have become alike."""


class Training:
    """One run's training; its `go` may be called again after training went back to a checkpoint."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._interim_zips = InterimZips(context)
        self._health = health.Health(
            real=health.diversity(context.prepared.images[context.prepared.rows("train")[: images_zip.GRID]]),
            bounded=LOSSES[context.recipe.loss].bounded,
        )

    def go(self) -> str:
        """Trains until the plan, the pictures or a signal end it, and says which. It begins and ends with a checkpoint.

        Raises:
            DivergedError: the networks are lost, or their pictures are all alike.
            KitError: the disk is full.
        """
        context, config, clock = self._context, self._context.config, self._context.clock
        context.save()
        images_zip.save_grid(context)
        tick_s = budget.tick_seconds(config.budget_s)
        deadline_s = context.plan.deadline_s if context.plan else None
        pace = budget.Pace(clock, tick_s=tick_s, deadline_s=deadline_s, pictures=config.images)
        save = budget.Every(budget.checkpoint_seconds(config.budget_s), now=clock.seconds(), until_next_s=tick_s)
        corrections = planning.Corrections(config.budget_s)
        tuner = planning.thread_tuner(context)
        seconds, pictures = clock.seconds(), context.state.pictures
        going = True
        while going:  # a stretch of training under one plan
            going = False
            corrections.begin(clock.seconds(), context.state.pictures)
            total_images, until = planning.stretch(context)
            context.trainer.memory = planning.memory_policy(context)
            torch.set_num_threads(planning.threads_now(context))

            def done(n: int, until: int | None = until) -> bool:
                return context.stop.signal is not None or pace.done(n) or (until is not None and n >= until)

            for tick in context.trainer.steps(
                total_images=total_images,
                lr_scale=planning.lr_scale_now(context),
                done=done,
                tick_due=lambda n: context.stop.signal is not None or pace.tick_due(n),
            ):
                now = clock.seconds()
                rate = (tick.pictures - pictures) / max(now - seconds, 1e-9)
                self._report(tick, now, rate)
                if context.stop.signal:
                    continue  # it ends the loop at once
                if save.due(now):
                    context.save()
                context.snapshots.ticked(now, self._progress())
                self._interim_zips.write_if_due()
                seconds, pictures = clock.seconds(), tick.pictures
                if context.stop.signal:
                    continue
                expected = corrections.look(context.plan, now, tick.pictures, rate) if context.plan else None
                left_s, batch = pace.deadline_s - now if pace.deadline_s else 0.0, context.recipe.batch
                if tuner and (others := tuner.to_try(now, rate, left_s=left_s, batch=batch)):
                    measured = {number: context.trainer.rate(clock, threads=number) for number in others}
                    if tuner.tried(measured, clock.seconds()):
                        planning.use_threads(context, tuner.threads)
                        expected = measured[tuner.threads]
                    seconds = clock.seconds()  # no training
                if context.plan and expected is not None:
                    planning.correct(context, context.plan, expected)
                    seconds = clock.seconds()  # what measuring took was no training
                    pace.deadline_s = context.plan.deadline_s
                    going = True
                    break
                if context.plan:
                    pace.deadline_s = budget.deadline(context.plan, rate)
            going = going or (until is not None and not done(context.state.pictures, None))
        context.save()
        if context.stop.why:
            return context.stop.why
        return ENDS[0] if config.images is not None else ENDS[1]

    def _report(self, tick: Tick, now: float, rate: float) -> None:
        """Looks whether training is healthy, draws its grid, and writes its line."""
        context = self._context
        if not (tick.finite and health.finite(context.state)):
            raise DivergedError(f"training diverged before {tick.pictures:,} pictures (not finite any more)")
        spread = health.diversity(images_zip.save_grid(context))
        if self._health.collapsed(spread):
            raise DivergedError(f"the pictures of {tick.pictures:,} are all alike (they differ by {spread:.1f})")
        alarms, context.alarms = [*context.alarms, *self._health.alarms(tick, spread)], []
        line = TickRecord(
            **dataclasses.asdict(tick),
            seconds=round(now, 3),
            pictures_per_s=round(rate, 1),
            diversity=round(spread, 2),
            budget_used=round(now / context.plan.budget_s, 4) if context.plan else None,
            budget_reserve=round(context.plan.reserve_s / context.plan.budget_s, 4) if context.plan else None,
            alarms=alarms,
        )
        context.run.log(line)
        context.callback.on_tick(line)

    def _progress(self) -> float:
        """Of the training, how much is done: 0 to 1."""
        context = self._context
        if context.config.images is not None:
            return context.state.pictures / max(context.config.images, 1)
        return context.clock.seconds() / context.plan.deadline_s if context.plan else 0.0


def train(context: RunContext) -> str:
    """Trains until something ends it, and says what; the networks are then fit to generate.

    Raises:
        MemoryError, torch.OutOfMemoryError, WorkerLostError: of several processes, which cannot go on together then.
        KitError: the disk is full, and the disk reserve is not enough.
    """
    training = Training(context)
    freed = False  # whether unused memory was given back already, when there was too little
    while True:
        short = False
        try:
            return training.go()
        except (MemoryError, RuntimeError) as error:
            if context.trainer.distributed.size > 1 or not memory.ran_out(error):
                raise
            why, short = "out of memory", True
        except DiskFullError as error:
            context.disk_reserve.unlink(missing_ok=True)
            why = str(error)
        except DivergedError as error:
            why = str(error)
            if len(context.run.record.rollbacks) < health.ROLLBACKS:
                _roll_back(context, why)
                continue
        if short:  # here, as the error held on to the tensors of its step
            memory.free()
            if not freed or context.trainer.reduce_memory():
                _go_on_with_less(context, changed=freed)
                freed = True
                continue
        if context.checkpoint.exists():
            context.trainer.load(context.checkpoint)  # a step may have been cut in two: this was the last whole state
        else:
            context.save()  # the disk was full before the first one: nothing is trained yet
        log.warning("%s: finishing with the checkpoint of %s pictures", why, f"{context.state.pictures:,}")
        return why


def _roll_back(context: RunContext, why: str) -> None:
    """Goes back to the last checkpoint and on from there with smaller learning rates; so does a replay."""
    scale = planning.lr_scale_now(context) * health.SMALLER
    reached, back_to = _go_back(context)
    context.run.record.rollbacks.append(Rollback(reached=reached, resumed_at=back_to, lr_scale=scale, why=why))
    context.run.save()
    _warn(context, f"{why}: back to {back_to:,} pictures, with {scale:g} × the learning rates")


def _go_on_with_less(context: RunContext, *, changed: bool) -> None:
    """Goes back to the last checkpoint and on from there with less memory; `changed`: by another policy."""
    reached, back_to = _go_back(context)
    if changed:
        planning.record_memory(context, reached=reached)
    _warn(context, f"out of memory: back to {back_to:,} pictures, {context.trainer.memory}")


def _go_back(context: RunContext) -> tuple[int, int]:
    """To the last checkpoint; what came after it is forgotten. Returns from and to which pictures."""
    reached = context.state.pictures
    context.trainer.load(context.checkpoint)
    back_to = context.state.pictures
    context.run.forget_after(back_to)
    context.snapshots.forget_after(back_to)
    planning.forget_plans_after(context, back_to)
    return reached, back_to


def _warn(context: RunContext, alarm: str) -> None:
    """Says it at once, and with the next tick."""
    context.alarms = [alarm]
    log.warning("%s", alarm)
