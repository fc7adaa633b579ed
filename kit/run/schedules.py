"""What holds from which picture on: plans, step sizes, ways to save memory. All is recorded, and replayed."""

from __future__ import annotations

import dataclasses

from kit.run.context import RunContext
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.run_record import MemoryChange, PlanRecord, RunRecord


def stretch(work: RunContext) -> tuple[int | None, int | None]:
    """The plan in pictures that schedules run over now, and the pictures at which a replay changes something."""
    job, seen = work.job, work.state.pictures
    if work.plan:
        return work.plan.total_images, None
    begun = [plan for at, plan in job.plans if at <= seen]
    to_come = [at for at, _ in (*job.plans, *job.rates, *job.thrifts) if at > seen]
    return begun[-1] if begun else job.images, min(to_come, default=None)


def steps_scale(work: RunContext) -> float:
    """The factor on the recipe's step sizes now: 1 until training has been rolled back."""
    rolled_back = [(back.resumed_at, back.lr_scale) for back in work.run.record.rollbacks]
    begun = [steps for at, steps in (*work.job.rates, *rolled_back) if at <= work.state.pictures]
    return begun[-1] if begun else 1.0


def thrift(work: RunContext) -> MemoryPolicy:
    """How steps save memory now."""
    noted = (*work.job.thrifts, *noted_thrifts(work.run.record))
    begun = [thrift for at, thrift in noted if at <= work.state.pictures]
    return begun[-1] if begun else DEFAULT


def note_plan(work: RunContext) -> None:
    """Notes the plan that holds from here on; `run.json` is written with the next change of it."""
    if work.plan:
        work.run.record.plans.append(_rounded(work.plan))


def note_thrift(work: RunContext, *, reached: int) -> None:
    """Notes how steps save memory from here on, after training had `reached` so many pictures."""
    work.run.record.memory.append(memory_change(work.session.thrift, reached=reached, resumed_at=work.state.pictures))
    work.run.save()


def forget_plans_after(work: RunContext, pictures: int) -> None:
    """Drops plans of a way that training does not take again: it goes on from `pictures`, on the present plan."""
    record = work.run.record
    plans = [plan for plan in record.plans if plan.at <= pictures]
    if work.plan and len(plans) < len(record.plans):
        plans.append(dataclasses.replace(_rounded(work.plan), at=pictures))
    record.plans = plans
    work.run.save()


def noted_thrifts(record: RunRecord) -> tuple[tuple[int, MemoryPolicy], ...]:
    """From which picture on a run saved memory, and how."""
    return tuple(
        (change.resumed_at, MemoryPolicy(change.accumulation_steps, change.offload_activations))
        for change in record.memory
    )


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
