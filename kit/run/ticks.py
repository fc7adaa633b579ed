"""Training from tick to tick; what happens once a tick happens here, in one place."""

from __future__ import annotations

import dataclasses

from kit.run import budget, images_zip, planning, schedules
from kit.run.context import RunContext
from kit.run.interim import Rescuer
from kit.training import health
from kit.training.loop import Tick
from kit.training.losses import LOSSES
from kit.training.run_record import TickRecord

ENDS = ("all pictures were seen", "the time to train was used")
"""Why a run that was not cut short stopped training."""


class DivergedError(Exception):
    """A loss or a weight is no number any more, or all pictures have become alike."""


class Training:
    """One run's training; its `go` may be called again after training went back to a checkpoint."""

    def __init__(self, work: RunContext) -> None:
        self._work = work
        self._rescuer = Rescuer(work)
        self._health = health.Health(
            real=health.diversity(work.prepared.images[work.prepared.rows("train")[: images_zip.GRID]]),
            bounded=LOSSES[work.recipe.loss].bounded,
        )

    def go(self) -> str:
        """Trains until the plan, the pictures or a signal end it, and says which. It begins and ends with a checkpoint.

        Raises:
            DivergedError: the networks are lost, or their pictures are all alike.
            KitError: the disk is full.
        """
        work, job, clock = self._work, self._work.job, self._work.clock
        work.save()
        images_zip.save_grid(work)
        tick_s = budget.tick_seconds(job.budget_s)
        deadline_s = work.plan.deadline_s if work.plan else None
        pace = budget.Pace(clock, tick_s=tick_s, deadline_s=deadline_s, pictures=job.images)
        save = budget.Every(budget.checkpoint_seconds(job.budget_s), now=clock.seconds(), until_next_s=tick_s)
        corrections = planning.Corrections(job.budget_s)
        seconds, pictures = clock.seconds(), work.state.pictures
        going = True
        while going:  # a stretch of training under one plan
            going = False
            corrections.begin(clock.seconds(), work.state.pictures)
            plan, until = schedules.stretch(work)
            work.session.thrift = schedules.thrift(work)

            def done(n: int, until: int | None = until) -> bool:
                return work.stop.signal is not None or pace.done(n) or (until is not None and n >= until)

            for tick in work.session.steps(
                plan=plan,
                lr_scale=schedules.steps_scale(work),
                done=done,
                tick_due=lambda n: work.stop.signal is not None or pace.tick_due(n),
            ):
                now = clock.seconds()
                rate = (tick.pictures - pictures) / max(now - seconds, 1e-9)
                self._report(tick, now, rate)
                if work.stop.signal:
                    continue  # it ends the loop at once
                if save.due(now):
                    work.save()
                work.selection.ticked(now, self._share())
                self._rescuer.look()
                seconds, pictures = clock.seconds(), tick.pictures
                if work.stop.signal:
                    continue
                expected = corrections.look(work.plan, now, tick.pictures, rate) if work.plan else None
                if work.plan and expected is not None:
                    planning.correct(work, work.plan, expected)
                    seconds = clock.seconds()  # what measuring took was no training
                    pace.deadline_s = work.plan.deadline_s
                    going = True
                    break
                if work.plan:
                    pace.deadline_s = budget.deadline(work.plan, rate)
            going = going or (until is not None and not done(work.state.pictures, None))
        work.save()
        if work.stop.why:
            return work.stop.why
        return ENDS[0] if job.images is not None else ENDS[1]

    def _report(self, tick: Tick, now: float, rate: float) -> None:
        """Looks whether training is healthy, draws its grid, and writes its line."""
        work = self._work
        if not (tick.finite and health.finite(work.state)):
            raise DivergedError(f"training diverged before {tick.pictures:,} pictures (not finite any more)")
        spread = health.diversity(images_zip.save_grid(work))
        if self._health.collapsed(spread):
            raise DivergedError(f"the pictures of {tick.pictures:,} are all alike (they differ by {spread:.1f})")
        alarms, work.alarms = [*work.alarms, *self._health.alarms(tick, spread)], []
        line = TickRecord(
            **dataclasses.asdict(tick),
            seconds=round(now, 3),
            pictures_per_s=round(rate, 1),
            diversity=round(spread, 2),
            budget_used=round(now / work.plan.budget_s, 4) if work.plan else None,
            budget_reserve=round(work.plan.reserve_s / work.plan.budget_s, 4) if work.plan else None,
            alarms=alarms,
        )
        work.run.log(line)
        work.listener.on_tick(line)

    def _share(self) -> float:
        """Of the training, how much is done: 0 to 1."""
        work = self._work
        if work.job.images is not None:
            return work.state.pictures / max(work.job.images, 1)
        return work.clock.seconds() / work.plan.deadline_s if work.plan else 0.0
