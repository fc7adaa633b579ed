"""How a budget is divided: what this machine needs to train and to finish is measured, not assumed."""

from __future__ import annotations

import dataclasses

from kit.errors import KitError
from kit.pipeline import delivery, schedules
from kit.pipeline.work import Work
from kit.report import keep
from kit.scoring import during
from kit.training import budget, memory

TRIAL = 256
"""Pictures generated, packed and checked to learn what the real ones will cost."""

CORRECTIONS = (0.25, 0.5, 0.75)
"""Shares of the budget after which reserve and speed are measured again, in case the machine has changed."""


def prepare_scores(work: Work) -> None:
    """Makes ready to score candidates where that was asked for; leaves training as it is.

    Raises:
        KitError: the share of the time that scores may take is too small, and they are not optional.
    """
    job = work.job
    if job.scores is None:
        return
    watch = during.Watch(
        job.scores, work.prepared, work.recipe, seed=job.seed, device=work.device, budget_s=job.budget_s
    )
    try:
        watch.prepare(work.state.ema.module)
    except KitError as error:
        if not job.scores.optional:
            raise
        work.say(error.problem)
        return
    work.score_with(watch)


def make_plan(work: Work) -> None:
    """Measures this machine and divides the budget; leaves training as it is.

    Raises:
        KitError: the budget leaves no time to train, or the recipe does not fit into the memory.
    """
    work.session.thrift = schedules.thrift(work)
    budget_s = work.job.budget_s
    if budget_s is None:
        return
    _measure_reserve(work)  # the first trial also warms up threads and caches
    reserve_s, keepsakes_s = _measure_reserve(work)
    now = work.clock.seconds()
    if not work.used_s:  # a run that goes on with no time left to train comes to its end with what it has
        budget.require_enough(budget_s, started_s=now, reserve_s=reserve_s, count=work.count)
    rate = _measure_rate(work)
    plan = budget.Plan(budget_s, now, reserve_s, pictures=0, spare_s=work.spare_s, keepsakes_s=keepsakes_s)
    _plan_rest(work, plan, rate)


def correct(work: Work, plan: budget.Plan, rate: float) -> None:
    """Plans the rest anew, as the machine is now.

    Args:
        work: whose plan is replaced.
        plan: that held so far.
        rate: pictures a second that training sees now.
    """
    reserve_s, keepsakes_s = _measure_reserve(work, whole_s=_last_zip_s(work))
    _plan_rest(work, dataclasses.replace(plan, reserve_s=reserve_s, keepsakes_s=keepsakes_s), rate)


def _plan_rest(work: Work, plan: budget.Plan, rate: float) -> None:
    """Plans the pictures that the rest of the time allows."""
    left = max(plan.deadline_s - work.clock.seconds(), 0.0)
    work.plan = dataclasses.replace(plan, pictures=work.state.pictures + round(rate * left), rate=rate)
    schedules.note_plan(work)


def _measure_reserve(work: Work, *, whole_s: float = 0.0) -> tuple[float, float]:
    """Seconds to keep back, and those of them that are for film and page; `whole_s` is what a whole zip took."""
    trial = min(work.count, TRIAL)
    once_s, trial_s = delivery.time_trial(work, trial)
    once_s += work.selection.reserve_s
    finish_s = budget.reserve(
        trial_s, trial=trial, count=work.count, once_s=once_s, whole_s=whole_s, spare_s=work.spare_s
    )
    keepsakes_s = keep.reserve(work.job.budget_s or 0.0, tile=work.shape.size, columns=delivery.GRID_COLUMNS)
    return finish_s + keepsakes_s, keepsakes_s


def _last_zip_s(work: Work) -> float:
    """Seconds that the last whole zip of this process took; 0: there was none."""
    begun = work.run.record["parts"][-1]["from"]
    return next((taken["seconds"] for taken in reversed(work.run.record["rescues"]) if taken["at"] >= begun), 0.0)


def _measure_rate(work: Work) -> float:
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
