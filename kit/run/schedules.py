"""What holds from which picture on: plans, step sizes, ways to save memory. All is recorded, and replayed."""

from __future__ import annotations

import dataclasses
from typing import Any

from kit.run import budget
from kit.run.context import RunContext
from kit.training.memory import PLENTY, MemoryPolicy


def stretch(work: RunContext) -> tuple[int | None, int | None]:
    """The plan in pictures that schedules run over now, and the pictures at which a replay changes something."""
    job, seen = work.job, work.state.pictures
    if work.plan:
        return work.plan.pictures, None
    begun = [plan for at, plan in job.plans if at <= seen]
    to_come = [at for at, _ in (*job.plans, *job.rates, *job.thrifts) if at > seen]
    return begun[-1] if begun else job.images, min(to_come, default=None)


def steps_scale(work: RunContext) -> float:
    """The factor on the recipe's step sizes now: 1 until training has been rolled back."""
    rolled_back = [(back["to"], back["steps"]) for back in work.run.record["rollbacks"]]
    begun = [steps for at, steps in (*work.job.rates, *rolled_back) if at <= work.state.pictures]
    return begun[-1] if begun else 1.0


def thrift(work: RunContext) -> MemoryPolicy:
    """How steps save memory now."""
    noted = (*work.job.thrifts, *noted_thrifts(work.run.record))
    begun = [thrift for at, thrift in noted if at <= work.state.pictures]
    return begun[-1] if begun else PLENTY


def note_plan(work: RunContext) -> None:
    """Notes the plan that holds from here on; `run.json` is written with the next change of it."""
    if work.plan:
        noted = {"at": work.state.pictures, **_rounded(work.plan)}
        work.run.record["plans"] = [*work.run.record.get("plans", []), noted]


def note_thrift(work: RunContext, *, reached: int) -> None:
    """Notes how steps save memory from here on, after training had `reached` so many pictures."""
    noted = {"from": reached, "to": work.state.pictures, **dataclasses.asdict(work.session.thrift)}
    work.run.update(memory=[*work.run.record["memory"], noted])


def forget_plans_after(work: RunContext, pictures: int) -> None:
    """Drops plans of a way that training does not take again: it goes on from `pictures`, on the present plan."""
    plans = [plan for plan in work.run.record["plans"] if plan["at"] <= pictures]
    if work.plan and len(plans) < len(work.run.record["plans"]):
        plans.append({"at": pictures, **_rounded(work.plan)})
    work.run.update(plans=plans)


def noted_thrifts(record: dict[str, Any]) -> tuple[tuple[int, MemoryPolicy], ...]:
    """From which picture on a run saved memory, and how."""
    return tuple((noted["to"], MemoryPolicy(noted["parts"], noted["on_host"])) for noted in record.get("memory", []))


def _rounded(plan: budget.Plan) -> dict[str, float]:
    return {key: round(value, 3) for key, value in dataclasses.asdict(plan).items()}
