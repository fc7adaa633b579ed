"""How a budget is divided: what this machine needs to train and to finish is measured, not assumed."""

from __future__ import annotations

import contextlib
import dataclasses
import math

from kit.core.errors import KitError
from kit.report import artifacts
from kit.run import budget, images_zip, schedules
from kit.run.context import RunContext
from kit.scoring.periodic import PeriodicScorer, ScoringStoppedError
from kit.training import memory
from kit.training.run_record import PlanRecord

TRIAL = 256
"""Pictures generated, packed and checked to learn what the real ones will cost."""

WARM_UP = 64
"""Pictures of a trial before, which starts threads and fills caches."""

CORRECTIONS = (0.25, 0.5, 0.75)
"""Shares of the budget after which reserve and speed are measured again, in case the machine has changed."""

MISSED = 0.9
"""They are measured again, too, when less than this of the plan's pictures will be seen: schedules would not end."""

PATIENCE = 0.1
"""Share of the budget over which a plan is watched before it is called missed."""


def prepare_scores(work: RunContext) -> None:
    """Makes ready to score candidates where that was asked for, unless a signal comes; leaves training as it is.

    Raises:
        KitError: the share of the time that scores may take is too small, and they are not optional.
    """
    job = work.job
    if job.scores is None:
        return
    scorer = PeriodicScorer(
        job.scores,
        work.prepared,
        work.recipe,
        seed=job.seed,
        device=work.device,
        budget_s=job.budget_s,
        should_stop=lambda: work.stop.signal is not None,
    )
    try:
        scorer.prepare(work.state.ema.module)
    except KitError as error:
        if not job.scores.optional:
            raise
        work.say(error.problem)
        return
    except ScoringStoppedError:
        return
    work.score_with(scorer)


def make_plan(work: RunContext) -> None:
    """Measures this machine and divides the budget, unless a signal comes; leaves training as it is.

    Raises:
        KitError: the budget leaves no time to train, or the recipe does not fit into the memory.
    """
    work.session.thrift = schedules.thrift(work)
    if work.job.budget_s is not None:
        with contextlib.suppress(images_zip.AbandonedError):
            _divide(work, work.job.budget_s)


def _divide(work: RunContext, budget_s: float) -> None:
    images_zip.time_trial(work, min(work.count, WARM_UP))
    began = work.clock.seconds()
    reserve_s, artifacts_s = _measure_reserve(work)
    now = work.clock.seconds()
    if not work.used_s:  # a run that goes on with no time left to train comes to its end with what it has
        budget.require_enough(budget_s, started_s=now, reserve_s=reserve_s, count=work.count)
    rate = _measure_rate(work)
    plan = PlanRecord(
        at=work.state.pictures,
        budget_s=budget_s,
        started_s=now,
        reserve_s=reserve_s,
        total_images=0,
        spare_s=work.spare_s,
        artifacts_s=artifacts_s,
        measuring_s=now - began,
    )
    _plan_rest(work, plan, rate)


def correct(work: RunContext, plan: PlanRecord, rate: float) -> None:
    """Plans the rest anew, as the machine is now, unless a signal comes.

    Args:
        work: whose plan is replaced.
        plan: that held so far.
        rate: pictures a second that training sees now.
    """
    with contextlib.suppress(images_zip.AbandonedError):
        began = work.clock.seconds()
        reserve_s, artifacts_s = _measure_reserve(work, whole_s=_last_zip_s(work))
        took_s = work.clock.seconds() - began
        plan = dataclasses.replace(plan, reserve_s=reserve_s, artifacts_s=artifacts_s, measuring_s=took_s)
        _plan_rest(work, plan, rate)
        work.run.save()  # before there is a checkpoint that was trained under it: a replay has to know of it


class Corrections:
    """When a plan is to be made anew: at fixed moments, and once it will be missed because the machine is slower.

    Args:
        budget_s: seconds in all; None where there is no plan.
    """

    def __init__(self, budget_s: float | None) -> None:
        self._moments = [share * budget_s for share in CORRECTIONS] if budget_s else []
        self._since_s, self._since = 0.0, 0

    def begin(self, now_s: float, pictures: int) -> None:
        """From here on a new plan holds."""
        self._since_s, self._since = now_s, pictures

    def look(self, plan: PlanRecord, now_s: float, pictures: int, rate: float) -> float | None:
        """The pictures a second that the rest is to be planned with; None where the plan stays.

        Args:
            plan: that holds.
            now_s: seconds of the run.
            pictures: seen.
            rate: pictures a second since the last tick.
        """
        left_s, watched_s = plan.deadline_s - now_s, now_s - self._since_s
        if left_s <= plan.measuring_s:
            return None
        if self._moments and now_s >= self._moments[0]:
            self._moments = [moment for moment in self._moments if moment > now_s]
            return rate
        if watched_s < PATIENCE * plan.budget_s:
            return None
        average = (pictures - self._since) / watched_s
        return average if pictures + average * left_s < MISSED * plan.total_images else None


def _plan_rest(work: RunContext, plan: PlanRecord, rate: float) -> None:
    """Plans the pictures that the rest of the time allows."""
    left = max(plan.deadline_s - work.clock.seconds(), 0.0)
    seen = work.state.pictures
    work.plan = dataclasses.replace(plan, at=seen, total_images=seen + round(rate * left), rate=rate)
    schedules.note_plan(work)


def _measure_reserve(work: RunContext, *, whole_s: float = 0.0) -> tuple[float, float]:
    """Seconds to keep back, and those of them that are for film and page; `whole_s` is what a whole zip took.

    Raises:
        AbandonedError: a signal asks for the end, and there is a zip.
    """
    trial = min(work.count, TRIAL)
    once_s, trial_s = images_zip.time_trial(work, trial)
    once_s += work.selection.reserve_s
    finish_s = budget.reserve(
        trial_s, trial=trial, count=work.count, once_s=once_s, whole_s=whole_s, spare_s=work.spare_s
    )
    budget_s, side = work.job.budget_s or 0.0, images_zip.GRID_COLUMNS * work.shape.size
    ticks = math.ceil(budget_s / budget.tick_seconds(budget_s)) if budget_s else 0
    needed_s = artifacts.needed_seconds((side, side), frames=ticks + 1)
    artifacts_s = budget.keepsakes(budget_s, needed_s=needed_s)
    return finish_s + artifacts_s, artifacts_s


def _last_zip_s(work: RunContext) -> float:
    """Seconds that the last whole zip of this process took; 0: there was none."""
    begun = work.run.record.parts[-1].start
    return next((taken.seconds for taken in reversed(work.run.record.interim_zips) if taken.at >= begun), 0.0)


def _measure_rate(work: RunContext) -> float:
    """Pictures a second of training, with what is given up for want of memory."""
    while True:
        try:
            return work.session.rate(work.clock)
        except (MemoryError, RuntimeError) as error:
            if work.session.crew.size > 1 or not memory.ran_out(error):
                raise
        memory.free()
        if not work.session.economise():
            raise KitError(
                f"{work.recipe.model} does not fit into the memory of {work.device.name}, in parts neither",
                "take a smaller --set batch or --set width",
            )
