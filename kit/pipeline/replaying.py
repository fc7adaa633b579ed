"""A run made again from its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.clock import Stopwatch
from kit.data import packed
from kit.errors import KitError
from kit.models.recipe import Recipe
from kit.pipeline.conductor import follow, train
from kit.pipeline.job import Job, Listener
from kit.pipeline.schedules import noted_thrifts
from kit.runs import Run
from kit.training.parallel import join


def replay(record: dict[str, Any], *, data: Path, out: Path, clock: Stopwatch, listener: Listener) -> Run:
    """Makes a run again from its `run.json`: the same plans at the same pictures, up to those its zip was made of.

    Where the run was made by a model file, its code is run: ask before (`kit.models.outside.trusted`). What several
    processes trained is made again by as many: where torchrun started this one, all of them call this.

    Args:
        record: the content of `run.json`.
        data: the prepared set; its digest is compared with the recorded one.
        out: a new run folder.
        clock: the process's time.
        listener: who watches.

    Raises:
        KitError: another set, or a record without a result.
    """
    digest = packed.load(data).digest
    if digest != record["data"]["digest"]:
        raise KitError(f"{data}: another set (digest {digest[:12]}, not {record['data']['digest'][:12]})", "")
    job = Job(
        recipe=Recipe(**record["recipe"]),
        data=data,
        out=out,
        seed=record["seed"],
        images=record["result"]["pictures"],
        count=record["count"],
        deterministic=record["device"].get("deterministic", False),
        # A run without a budget has one plan: the pictures it was to see, be its zip of an earlier state.
        plans=tuple((plan["at"], plan["pictures"]) for plan in record["plans"]) or ((0, record["images"]),),
        rates=tuple((back["to"], back["steps"]) for back in record.get("rollbacks", [])),
        thrifts=noted_thrifts(record),
    )
    crew = join()
    if not crew.leads:
        follow(job, crew=crew)
        return Run(out)
    return train(job, clock=clock, listener=listener, crew=crew)
