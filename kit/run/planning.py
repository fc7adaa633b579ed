"""How a budget is divided: what this machine needs to train and to finish is measured, not assumed.

Also what holds from which picture on: plans, learning rate scales, ways to save memory. All is recorded, and replayed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from kit.core import threads
from kit.core.errors import KitError
from kit.core.threads import ROUNDS, ThreadTuner
from kit.models.recipe import TaskName
from kit.report import films
from kit.run import budget, images_zip
from kit.run.context import RunContext
from kit.run.trainer import CALIBRATION_S
from kit.scoring.candidates import PeriodicScorer, ScoringStoppedError
from kit.training import memory
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.run_record import MemoryChange, PlanRecord, RunRecord, ThreadsChange

log = logging.getLogger(__name__)

Value = TypeVar("Value")


TRIAL: dict[TaskName, int] = {"generation": 256, "translation": 16}
"""Pictures generated, packed and checked to learn what the real ones will cost."""

WARM_UP: dict[TaskName, int] = {"generation": 64, "translation": 8}
"""Pictures of the trials before, which start threads, fill caches, and show how many threads generate fastest."""

THREADS_SHARE = 0.02
"""Share of the budget after which numbers of threads that were all measured once are not measured again."""

CORRECTIONS = (0.25, 0.5, 0.75)
"""Shares of the budget after which reserve and speed are measured again, in case the machine has changed."""

MISSED = 0.9
"""They are measured again, too, when less than this of the plan's pictures will be seen: schedules would not end."""

PATIENCE = 0.1
"""Share of the budget over which a plan is watched before it is called missed."""


def prepare_scores(context: RunContext) -> None:
    """Makes ready to score candidates where that was asked for, unless a signal comes; leaves training as it is.

    Raises:
        KitError: the share of the time that scores may take is too small, and they are not optional.
    """
    config = context.config
    if config.scores is None:
        return
    scorer = PeriodicScorer(
        config.scores,
        context.prepared,
        context.recipe,
        seed=config.seed,
        device=context.device,
        budget_s=config.budget_s,
        should_stop=lambda: context.stop.signal is not None,
    )
    try:
        scorer.prepare(context.state.ema.module)
    except KitError as error:
        if not config.scores.optional:
            raise
        log.warning("%s", error.problem)
        return
    except ScoringStoppedError:
        return
    context.snapshots.scorer = scorer


def make_plan(context: RunContext) -> None:
    """Measures this machine and divides the budget, unless a signal comes; leaves training as it is.

    Raises:
        KitError: the budget leaves no time to train, or the recipe does not fit into the memory.
    """
    context.trainer.memory = memory_policy(context)
    if context.config.budget_s is not None:
        with contextlib.suppress(images_zip.AbandonedError):
            _divide(context, context.config.budget_s)


def _divide(context: RunContext, budget_s: float) -> None:
    began = context.clock.seconds()
    _choose_generation_threads(context)
    reserve_s, artifacts_s = measure_reserve(context)
    now = context.clock.seconds()
    if not context.used_s:  # a run that goes on with no time left to train comes to its end with what it has
        budget.require_enough(budget_s, started_s=now, reserve_s=reserve_s, count=context.count)
    rate = _measure_rate(context)
    plan = PlanRecord(
        at=context.state.pictures,
        budget_s=budget_s,
        started_s=now,
        reserve_s=reserve_s,
        total_images=0,
        spare_s=context.spare_s,
        artifacts_s=artifacts_s,
        measuring_s=now - began,
    )
    _plan_rest(context, plan, rate)


def correct(context: RunContext, plan: PlanRecord, rate: float) -> None:
    """Plans the rest anew, as the machine is now, unless a signal comes.

    Args:
        context: whose plan is replaced.
        plan: that held so far.
        rate: pictures a second that training sees now.
    """
    with contextlib.suppress(images_zip.AbandonedError):
        began = context.clock.seconds()
        _choose_generation_threads(context)
        reserve_s, artifacts_s = measure_reserve(context, whole_s=_last_zip_s(context))
        took_s = context.clock.seconds() - began
        plan = dataclasses.replace(plan, reserve_s=reserve_s, artifacts_s=artifacts_s, measuring_s=took_s)
        _plan_rest(context, plan, rate)
        context.run.save()  # before there is a checkpoint that was trained under it: a replay has to know of it


class Corrections:
    """When a plan is to be made anew: at fixed moments, and once it will be missed because the machine is slower.

    Args:
        budget_s: seconds in all; None where there is no plan.
    """

    def __init__(self, budget_s: float | None) -> None:
        self._moments = [fraction * budget_s for fraction in CORRECTIONS] if budget_s else []
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


def _plan_rest(context: RunContext, plan: PlanRecord, rate: float) -> None:
    """Plans the pictures that the rest of the time allows."""
    left = max(plan.deadline_s - context.clock.seconds(), 0.0)
    seen = context.state.pictures
    context.plan = dataclasses.replace(plan, at=seen, total_images=seen + round(rate * left), rate=rate)
    record_plan(context)


def measure_reserve(context: RunContext, *, whole_s: float = 0.0, trial: int | None = None) -> tuple[float, float]:
    """Measures what is kept of the budget for the end.

    Args:
        context: of the run.
        whole_s: seconds that a whole zip took; 0: not known.
        trial: pictures of the trial; None: those of `TRIAL`.

    Returns:
        Seconds to keep back, and those of them that are for film and page.

    Raises:
        AbandonedError: a signal asks for the end, and there is a zip.
    """
    trial = min(context.count, trial or TRIAL[context.recipe.task])
    once_s, trial_s = images_zip.time_trial(context, trial)
    once_s += context.snapshots.reserve_s
    finish_s = budget.reserve(
        trial_s, trial=trial, count=context.count, once_s=once_s, whole_s=whole_s, spare_s=context.spare_s
    )
    budget_s, side = context.config.budget_s or 0.0, images_zip.GRID_COLUMNS * context.shape.size
    grids = 1 + math.ceil(budget_s / budget.tick_seconds(budget_s))
    artifacts_s = min(budget.ARTIFACTS_SHARE * budget_s, films.needed_seconds((side, side), frames=grids))
    return finish_s + artifacts_s, artifacts_s


def _last_zip_s(context: RunContext) -> float:
    """Seconds that the last whole zip of this process took; 0: there was none."""
    begun = context.run.record.parts[-1].start
    return next((made.seconds for made in reversed(context.run.record.interim_zips) if made.at >= begun), 0.0)


def chooses_threads(context: RunContext) -> bool:
    """Whether the numbers of threads are the kit's to choose.

    A run of a given number of pictures keeps its number, so that two such runs give the same bytes.
    """
    return context.config.images is None and context.device.kind.type == "cpu" and not threads.is_set_by_user()


def _fastest(context: RunContext, measure: Callable[[int], float]) -> tuple[int, float]:
    most_s = THREADS_SHARE * (context.config.budget_s or 0.0)
    return threads.fastest(measure, context.available_threads, most_s=most_s, seconds=context.clock.seconds)


def _choose_generation_threads(context: RunContext) -> None:
    """Takes the number of threads with which a whole zip is made fastest here and now."""
    trial, before = min(context.count, WARM_UP[context.recipe.task]), context.generation_threads

    def zips_a_second(number: int) -> float:
        context.generation_threads = number
        once_s, trial_s = images_zip.time_trial(context, trial)
        return 1 / max(once_s + trial_s * context.count / trial, 1e-9)

    if not chooses_threads(context):
        zips_a_second(context.generation_threads)
        return
    context.generation_threads, _ = _fastest(context, zips_a_second)
    if context.generation_threads != before:
        of = context.available_threads
        log.info(
            "pictures are generated with %s of %s threads: the fastest here and now", context.generation_threads, of
        )


def _measure_rate(context: RunContext) -> float:
    """Pictures a second of training, with the number of threads that is fastest now."""
    number = context.available_threads
    if chooses_threads(context):
        number, rate = _fastest(context, lambda tried: _rate(context, tried, CALIBRATION_S / ROUNDS))
    else:
        rate = _rate(context, number, CALIBRATION_S)
    use_threads(context, number)
    return rate


def _rate(context: RunContext, number: int, seconds: float) -> float:
    """Pictures a second with so many threads; where memory is short, with the first policy that suffices."""
    while True:
        try:
            return context.trainer.rate(context.clock, threads=number, seconds=seconds)
        except (MemoryError, RuntimeError) as error:
            if context.trainer.distributed.size > 1 or not memory.ran_out(error):
                raise
        memory.free()
        if not context.trainer.reduce_memory():
            raise KitError(
                f"{context.recipe.model} does not fit into the memory of {context.device.name}",
                "take a smaller --set batch or --set width",
            )


def thread_tuner(context: RunContext) -> ThreadTuner | None:
    """What tries other numbers of threads while a budgeted run trains; None where the number stays."""
    if context.plan is None or not chooses_threads(context):
        return None
    number, now = threads_now(context), context.clock.seconds()
    return ThreadTuner(context.available_threads, threads=number, rate=context.plan.rate, now_s=now)


def stretch(context: RunContext) -> tuple[int | None, int | None]:
    """The pictures that schedules run over now, and those at which a replay changes something next."""
    replayed, seen = context.config.replayed, context.state.pictures
    if context.plan:
        return context.plan.total_images, None
    if not replayed:
        return context.config.images, None
    # A run without a budget has one plan: the pictures it was to see, be its zip of an earlier state.
    plans = [(plan.at, plan.total_images) for plan in replayed.plans] or [(0, replayed.images or 0)]
    changes: list[Sequence[tuple[int, object]]] = [
        plans,
        _lr_scales(replayed),
        memory_policies(replayed),
        _threads(replayed),
    ]
    to_come = [at for noted in changes for at, _ in noted if at > seen]
    return [total for at, total in plans if at <= seen][-1], min(to_come, default=None)


def lr_scale_now(context: RunContext) -> float:
    """The factor on the recipe's learning rates now: 1 until training has been rolled back."""
    return _now(context, _lr_scales, 1.0)


def memory_policy(context: RunContext) -> MemoryPolicy:
    """How steps save memory now."""
    return _now(context, memory_policies, DEFAULT)


def threads_now(context: RunContext) -> int:
    """How many threads a training step uses now."""
    return _now(context, _threads, context.available_threads)


def _now(context: RunContext, noted: Callable[[RunRecord], Sequence[tuple[int, Value]]], otherwise: Value) -> Value:
    """What holds now: what this run has noted, else what the one that it replays has."""
    begun = [otherwise]
    for record in filter(None, (context.config.replayed, context.run.record)):
        begun += [value for at, value in noted(record) if at <= context.state.pictures]
    return begun[-1]


def _lr_scales(record: RunRecord) -> list[tuple[int, float]]:
    return [(back.resumed_at, back.lr_scale) for back in record.rollbacks]


def _threads(record: RunRecord) -> list[tuple[int, int]]:
    return [(change.at, change.threads) for change in record.threads]


def memory_policies(record: RunRecord) -> list[tuple[int, MemoryPolicy]]:
    """From which picture on a run saved memory, and how."""
    return [
        (change.resumed_at, MemoryPolicy(change.accumulation_steps, change.offload_activations))
        for change in record.memory
    ]


def use_threads(context: RunContext, number: int) -> None:
    """Trains with so many threads from here on, and records it where they are others than before."""
    before = threads_now(context)
    torch.set_num_threads(number)
    if number != before:
        context.run.record.threads.append(ThreadsChange(at=context.state.pictures, threads=number))
        of = context.available_threads
        log.info("%s of %s threads: the fastest here and now", number, of) if number < of else None


def record_plan(context: RunContext) -> None:
    """Records the plan that holds from here on; `run.json` is written with its next change."""
    if context.plan:
        context.run.record.plans.append(_rounded(context.plan))


def record_memory(context: RunContext, *, reached: int) -> None:
    """Records how steps save memory from here on, after training had `reached` so many pictures."""
    change = memory_change(context.trainer.memory, reached=reached, resumed_at=context.state.pictures)
    context.run.record.memory.append(change)
    context.run.save()


def forget_plans_after(context: RunContext, pictures: int) -> None:
    """Drops the plans and thread numbers of later pictures: training goes on from there, on the present plan."""
    record = context.run.record
    record.threads = [change for change in record.threads if change.at <= pictures]
    plans = [plan for plan in record.plans if plan.at <= pictures]
    if context.plan and len(plans) < len(record.plans):
        plans.append(dataclasses.replace(_rounded(context.plan), at=pictures))
    record.plans = plans
    context.run.save()


def memory_change(policy: MemoryPolicy, *, reached: int, resumed_at: int) -> MemoryChange:
    """A way to save memory, as `run.json` keeps it."""
    return MemoryChange(
        reached=reached,
        resumed_at=resumed_at,
        accumulation_steps=policy.accumulation_steps,
        offload_activations=policy.offload_activations,
    )


def _rounded(plan: PlanRecord) -> PlanRecord:
    return PlanRecord(**{key: round(value, 3) for key, value in dataclasses.asdict(plan).items()})
