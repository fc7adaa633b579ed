"""The conductor: plan → train → generate → pack → check, under one clock.

Training ends at its deadline, on a signal, out of memory, on a full disk or at a NaN; whatever it was, the run then
ends in the same orderly way, with a checkpoint, a checked `images.zip` and the reason in `run.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kit import __version__, competition, provenance
from kit.clock import Stopwatch, process_age
from kit.competition import Competition
from kit.data import packed
from kit.data.contact import mosaic
from kit.errors import DiskFullError, KitError
from kit.files import atomic, set_aside, sweep
from kit.generation import classes
from kit.generation.check import check
from kit.generation.pack import Packed, pack
from kit.generation.standing import draw
from kit.models.recipe import Recipe
from kit.report import keep
from kit.runs import CHECKPOINT, IMAGES, VERSION, Run, read_run
from kit.scoring import during
from kit.selection import Selection
from kit.submission.source import write_source
from kit.training import budget, checkpoint, device, health, memory
from kit.training.losses import LOSSES
from kit.training.memory import PLENTY, Thrift
from kit.training.parallel import ALONE, Crew, LostError, join
from kit.training.session import Session
from kit.training.stopping import Stop

TRIAL = 256
"""Pictures generated, packed and checked to learn what the real ones will cost."""

CORRECTIONS = (0.25, 0.5, 0.75)
"""Shares of the budget after which reserve and speed are measured again, in case the machine has changed."""

ENDS = ("all pictures were seen", "the time to train was used")
"""Why a run that was not cut short stopped training."""

GRID, GRID_COLUMNS = 64, 8
"""Pictures on a tick's grid."""

GRID_STANDING = 2
"""At most so many batches of standing statistics for a grid: it is drawn often, and only looked at."""

BALLAST = ".set-aside"
"""A file that holds room on the disk for the end of a run, and is deleted when it comes."""

BEGUN = (BALLAST, "source.zip")
"""What lies in a run's folder before its record."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `kit train` was asked to do: its flags, and the head of `run.json`."""

    recipe: Recipe
    data: Path  # prepared set
    out: Path  # run folder
    seed: int = 0
    budget_s: float | None = None  # seconds for the whole run, or
    images: int | None = None  # real pictures to train on
    count: int | None = None  # pictures in images.zip; None: as the competition asks
    scores: during.Asked | None = None  # score candidates on the way; never changes what is trained
    resume: bool = False  # go on with the run in `out` where there is one
    deterministic: bool = False  # only algorithms that give the same bits every time, on a GPU too
    memory: int | None = None  # bytes of its GPU's memory that each process may use
    plans: tuple[tuple[int, int], ...] = ()  # to replay a budgeted run: from which picture on which plan, in pictures
    rates: tuple[tuple[int, float], ...] = ()  # to replay a rolled-back run: from which picture on which step sizes, ×
    thrifts: tuple[tuple[int, Thrift], ...] = ()  # to replay one that was short of memory: from which picture on which


class Listener(Protocol):
    """Who watches a run; the command line draws it on the screen."""

    def planned(self, record: dict[str, Any]) -> None:
        """Training is about to begin; this is its `run.json`."""

    def ticked(self, line: dict[str, Any]) -> None:
        """A tick has passed; the same line goes to `progress.jsonl`."""

    def happened(self, text: str) -> None:
        """Something out of the ordinary."""

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Generating and packing go on."""


def train(job: Job, *, clock: Stopwatch, listener: Listener, crew: Crew = ALONE) -> Run:
    """Trains a model and leaves a run folder with a checked `images.zip`.

    With `images` set it is a pure function of recipe, seed and data on one machine; with `budget_s` set it ends by
    itself within the budget, which counts from the start of the process and over all parts of a resumed run.

    In a crew the first process conducts the run and alone writes; the others are in `follow`.

    Returns:
        The run; `record["why"]` says why training stopped.

    Raises:
        KitError: bad input, a budget too small, a full disk, or training that diverged before its first checkpoint.
        LostError, MemoryError, torch.OutOfMemoryError: in a crew, which cannot go on then; see `conclude`.
    """
    if job.out.exists() and not job.resume:
        raise KitError(f"{job.out} exists already", "choose another --out, go on with --resume, or remove it first")
    return _Conductor(job, clock, listener, crew).train()


def follow(job: Job, *, crew: Crew) -> None:
    """Trains along in every process of a crew but the first; see `kit.training.session.Session.follow`."""
    where = device.choose(deterministic=job.deterministic)
    if job.memory:
        memory.limit(job.memory, where.kind)
    with where.algorithms():
        Session(job.recipe, packed.load(job.data), seed=job.seed, device=where, crew=crew).follow()


def conclude(job: Job, why: str, *, clock: Stopwatch, listener: Listener) -> Run:
    """Ends a run whose processes are gone: a zip made from its last checkpoint, and the reason in `run.json`.

    Raises:
        KitError: there is no checkpoint.
    """
    return _Conductor(dataclasses.replace(job, resume=True), clock, listener, ALONE).conclude(why)


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
        thrifts=_thrifts(record),
    )
    crew = join()
    if not crew.leads:
        follow(job, crew=crew)
        return Run(out)
    return train(job, clock=clock, listener=listener, crew=crew)


class _Conductor:
    """One process's work on one run; `train` is its only door."""

    def __init__(self, job: Job, clock: Stopwatch, listener: Listener, crew: Crew) -> None:
        self.job, self.clock, self.listener = job, clock, listener
        # A clock may have begun before the process, or after it.
        self.spare_s = budget.spare(min(clock.seconds(), process_age()))
        self.recipe = job.recipe
        self.prepared = packed.load(job.data)
        self.rules: Competition = competition.get(self.prepared.competition)
        self.count = self.rules.count if job.count is None else job.count
        self.device = device.choose(deterministic=job.deterministic)
        if job.memory:
            memory.limit(job.memory, self.device.kind)
        self.session = Session(self.recipe, self.prepared, seed=job.seed, device=self.device, crew=crew)
        self.state, self.shape = self.session.state, self.session.shape
        self.run = Run(job.out)
        self.plan: budget.Plan | None = None
        self.rescues = budget.Rescues(job.budget_s) if job.budget_s else None
        self.health = health.Health(
            real=health.diversity(self.prepared.images[self.prepared.rows("train")[:GRID]]),
            bounded=LOSSES[self.recipe.loss].bounded,
        )
        self.freed = False  # whether unused memory was given back already, when there was too little
        self.alarms: list[str] = []  # to be said with the next tick
        self.selection = self._selection(watch=None)
        self.used_s = 0.0  # by earlier processes
        self.stop = Stop()

    def train(self) -> Run:
        if self.job.resume and self._take_up():
            self.session.dismiss()
            return self.run
        with self.stop, self.device.algorithms():
            self._prepare_scores()
            self._make_plan()
            self._open()
            try:
                why = self._train()
                self._finish(why)
            except BaseException as error:
                self._ballast.unlink(missing_ok=True)
                if self.session.crew.size > 1 and (isinstance(error, LostError) or memory.ran_out(error)):
                    raise  # the others are in the midst of a step: `conclude` will do the rest
                with contextlib.suppress(KitError):  # a full disk; what stopped the run matters more
                    self.run.update(state="failed", why=str(error) or type(error).__name__)
                raise
            self._keep()
        return self.run

    def conclude(self, why: str) -> Run:
        self._take_up()
        if not self._checkpoint.exists():
            raise KitError(f"{self.job.out}: {why} before there was a checkpoint", "start it again")
        with self.stop:
            self._open()
            self._finish(why)
        return self.run

    # ---- before training

    def _take_up(self) -> bool:
        """Goes back to where an earlier process left the run; true if there is nothing left to do."""
        sweep(self.job.out)
        if all(
            path.name in BEGUN for path in self.job.out.glob("*")
        ):  # killed before there was a record, or never begun
            self.listener.happened(f"{self.job.out}: no run there yet, so it starts anew")
            return False
        self.run.record = record = read_run(self.job.out)
        if record["state"] == "finished":
            self.listener.happened(f"{self.job.out}: finished already, nothing was changed")
            return True
        self._require_same(record)
        if self._checkpoint.exists():
            self.session.load(self._checkpoint)
            self.listener.happened(f"{self.job.out}: goes on from {self.state.pictures:,} pictures")
        else:
            self.listener.happened(f"{self.job.out}: no checkpoint yet, so training starts anew")
        self.run.forget_after(self.state.pictures)
        self.selection.forget_after(self.state.pictures)
        self.used_s = sum(part["seconds"] for part in record["parts"])
        self.clock.add(self.used_s)
        return False

    def _require_same(self, record: dict[str, Any]) -> None:
        """Refuses to go on with a run that was another one, and shows the difference."""
        for key, ours in self._identity().items():
            theirs = record.get(key)
            if not isinstance(ours, dict):
                ours, theirs = {key: ours}, {key: theirs}
            different = [
                f"{name} {_short(_get(theirs, name))} → {_short(value)}"
                for name, value in ours.items()
                if _get(theirs, name) != value
            ]
            if different:
                raise KitError(
                    f"{self.job.out} cannot go on as another run ({', '.join(different)})",
                    "give the same flags, data and versions as before, or start a new run",
                )

    def _identity(self) -> dict[str, Any]:
        """What decides the bytes of a run, beside the machine."""
        return {
            "recipe": dataclasses.asdict(self.job.recipe),
            "seed": self.job.seed,
            "images": self.job.images,
            "count": self.count,
            "competition": self.rules.slug,
            "data": {
                "name": self.prepared.name,
                "digest": self.prepared.digest,
                "size": self.prepared.size,
                "channels": self.prepared.channels,
            },
            "kit": __version__,
            "versions": provenance.versions(),
        }

    def _selection(self, watch: during.Watch | None) -> Selection:
        return Selection(
            self.run, self.state, self.recipe, self.shape, watch=watch, say=lambda text: self.listener.happened(text)
        )

    def _prepare_scores(self) -> None:
        """Makes ready to score candidates where that was asked for; leaves training as it is."""
        if self.job.scores is None:
            return
        watch = during.Watch(
            self.job.scores,
            self.prepared,
            self.recipe,
            seed=self.job.seed,
            device=self.device,
            budget_s=self.job.budget_s,
        )
        try:
            watch.prepare(self.state.ema.module)
        except KitError as error:
            if not self.job.scores.optional:
                raise
            self.listener.happened(error.problem)
            return
        self.selection = self._selection(watch)

    def _make_plan(self) -> None:
        """Measures this machine and divides the budget; leaves training as it is."""
        self.session.thrift = self._thrift()
        if self.job.budget_s is None:
            return
        self._measure_reserve()  # the first trial also warms up threads and caches
        reserve_s = self._measure_reserve()
        now = self.clock.seconds()
        if not self.used_s:  # a run that goes on with no time left to train comes to its end with what it has
            budget.require_enough(self.job.budget_s, started_s=now, reserve_s=reserve_s, count=self.count)
        rate = self._measure_rate()
        self._plan_rest(budget.Plan(self.job.budget_s, now, reserve_s, pictures=0, spare_s=self.spare_s), rate)

    def _measure_rate(self) -> float:
        """Pictures a second of training, with what is given up for want of memory."""
        while True:
            try:
                return self.session.rate(self.clock)
            except (MemoryError, RuntimeError) as error:
                if self.session.crew.size > 1 or not memory.ran_out(error):
                    raise
            memory.free()
            if not self.session.economise():
                raise KitError(
                    f"{self.recipe.model} does not fit into the memory of {self.device.name}, in parts neither",
                    "take a smaller --set batch or --set width",
                )

    def _plan_rest(self, plan: budget.Plan, rate: float) -> None:
        """Plans the pictures that the rest of the time allows, and notes it: a replay needs no clock."""
        left = max(plan.deadline_s - self.clock.seconds(), 0.0)
        self.plan = dataclasses.replace(plan, pictures=self.state.pictures + round(rate * left), rate=rate)
        noted = {"at": self.state.pictures, **_rounded(self.plan)}
        self.run.record["plans"] = [*self.run.record.get("plans", []), noted]

    def _measure_reserve(self) -> float:
        """Seconds to keep back, from a trial in a temporary folder."""
        trial = min(self.count, TRIAL)
        began = self.clock.seconds()
        batches = self._sample(trial, self.rules.size)  # takes standing statistics: as long for one picture as for all
        ready = self.clock.seconds()
        with tempfile.TemporaryDirectory(prefix="kit-trial-") as folder:
            self._write_images(batches, Path(folder) / IMAGES, trial)
        once_s = ready - began + self.selection.reserve_s
        trial_s = self.clock.seconds() - ready
        finish_s = budget.reserve(trial_s, trial=trial, count=self.count, once_s=once_s, spare_s=self.spare_s)
        return finish_s + budget.keepsakes(self.job.budget_s or 0.0)

    def _open(self) -> None:
        """Makes the run folder, or the next part of one, and sets room aside for its end."""
        weights = sum(p.numel() * p.element_size() for net in (self.state.G, self.state.D) for p in net.parameters())
        # Checkpoint: weights, average and two moments of Adam. Zip: no PNG or JPEG is larger than its pixels.
        self._checkpoint_bytes, zip_bytes = 4 * weights, self.count * self.rules.size**2 * len(self.rules.mode)
        set_aside(self._ballast, self._checkpoint_bytes + zip_bytes)
        source = provenance.source_tree()
        parts = self.run.record.get("parts", [])
        if not parts:
            write_source(self.run.path / "source.zip")
        self.run.update(
            version=VERSION,
            name=self.job.out.name,
            state="running",
            why="",
            signal=None,
            **self._identity(),
            budget_s=self.job.budget_s,
            device=self.device.record(),
            commit=source.commit,
            dirty=source.dirty,
            tree=source.digest,
            plans=self.run.record.get("plans", []),
            rescues=self.run.record.get("rescues", []),
            rollbacks=self.run.record.get("rollbacks", []),
            memory=self.run.record.get("memory", []),
            candidates=self.run.record.get("candidates", []),
            pictures=self.state.pictures,
            parts=[*parts, self._part()],
            result=self.run.record.get("result"),
        )
        self.run.record["data"]["path"] = str(self.job.data)
        if self.session.thrift != self._thrift():
            self._note_thrift(self.state.pictures)

    def _part(self) -> dict[str, Any]:
        """The record of this process's work, and of those that train with it, as it begins."""
        pictures, processes = self.state.pictures, self.session.crew.size
        return {"from": pictures, "to": pictures, "seconds": 0.0, "processes": processes}

    # ---- training

    def _train(self) -> str:
        """Trains until something says stop, and says what; the players are then fit to generate."""
        self.listener.planned(self.run.record)
        self._save()
        self._save_grid()
        while True:
            short = False
            try:
                return self._ticks()
            except (MemoryError, RuntimeError) as error:
                if self.session.crew.size > 1 or not memory.ran_out(error):
                    raise
                why, short = "out of memory", True
            except DiskFullError as error:
                self._ballast.unlink(missing_ok=True)
                why = str(error)
            except _DivergedError as error:
                why = str(error)
                if len(self.run.record["rollbacks"]) < health.ROLLBACKS:
                    self._roll_back(why)
                    continue
            if short and self._economise():  # here, as the error held on to the tensors of its step
                continue
            # A step may have been cut in two: go back to the last state that was whole.
            self.session.load(self._checkpoint)
            self.listener.happened(f"{why}: finishing with the checkpoint of {self.state.pictures:,} pictures")
            return why

    def _roll_back(self, why: str) -> None:
        """Goes back to the last checkpoint and on from there with smaller steps; a replay will do so, too."""
        steps = self._steps_scale() * health.SMALLER
        reached, back_to = self._go_back()
        self.run.update(
            rollbacks=[*self.run.record["rollbacks"], {"from": reached, "to": back_to, "steps": steps, "why": why}]
        )
        self.alarms = [f"{why}: back to {back_to:,} pictures, with {steps:g} × the step sizes"]
        self.listener.happened(self.alarms[0])

    def _economise(self) -> bool:
        """Goes back to the last checkpoint and on from there with less memory; false if there is no way left."""
        memory.free()
        if self.freed and not self.session.economise():
            return False
        reached, back_to = self._go_back()
        if self.freed:
            self._note_thrift(reached)
        self.freed = True
        self.alarms = [f"out of memory: back to {back_to:,} pictures, {self.session.thrift}"]
        self.listener.happened(self.alarms[0])
        return True

    def _go_back(self) -> tuple[int, int]:
        """To the last checkpoint, as if what came after it had never been; says from and to which pictures."""
        reached = self.state.pictures
        self.session.load(self._checkpoint)
        back_to = self.state.pictures
        self.run.forget_after(back_to)
        self.selection.forget_after(back_to)
        plans = [plan for plan in self.run.record["plans"] if plan["at"] <= back_to]
        if self.plan and len(plans) < len(self.run.record["plans"]):
            plans.append({"at": back_to, **_rounded(self.plan)})  # the present plan holds from here on
        self.run.update(plans=plans)
        return reached, back_to

    def _note_thrift(self, reached: int) -> None:
        """Notes how steps save memory from here on; a replay will do so, too."""
        noted = {"from": reached, "to": self.state.pictures, **dataclasses.asdict(self.session.thrift)}
        self.run.update(memory=[*self.run.record["memory"], noted])

    def _ticks(self) -> str:
        """What happens once a tick, in one place."""
        job, clock = self.job, self.clock
        pace = budget.Pace(
            clock,
            tick_s=budget.tick_seconds(job.budget_s),
            deadline_s=self.plan.deadline_s if self.plan else None,
            pictures=job.images,
        )
        save = budget.Every(budget.checkpoint_seconds(job.budget_s), now=clock.seconds())
        corrections = [share * job.budget_s for share in CORRECTIONS] if job.budget_s else []
        seconds, pictures = clock.seconds(), self.state.pictures
        going = True
        while going:  # a stretch of training under one plan
            going = False
            plan, until = self._stretch()
            steps = self._steps_scale()
            self.session.thrift = self._thrift()

            def done(n: int, until: int | None = until) -> bool:
                return self.stop.signal is not None or pace.done(n) or (until is not None and n >= until)

            for tick in self.session.steps(
                plan=plan,
                lr_scale=steps,
                done=done,
                tick_due=lambda n: self.stop.signal is not None or pace.tick_due(n),
            ):
                now = clock.seconds()
                rate = (tick.pictures - pictures) / max(now - seconds, 1e-9)
                if not (tick.finite and health.finite(self.state)):
                    raise _DivergedError(f"training diverged before {tick.pictures:,} pictures (not finite any more)")
                spread = health.diversity(self._save_grid())
                if self.health.collapsed(spread):
                    raise _DivergedError(
                        f"the pictures of {tick.pictures:,} are all alike (they differ by {spread:.1f})"
                    )
                alarms, self.alarms = [*self.alarms, *self.health.alarms(tick, spread)], []
                line = dataclasses.asdict(tick) | {
                    "seconds": round(now, 3),
                    "pictures_per_s": round(rate, 1),
                    "diversity": round(spread, 2),
                    **({"alarms": alarms} if alarms else {}),
                }
                line |= self._budget_use(now)
                self.run.log(line)
                self.listener.ticked(line)
                if save.due(now):
                    self._save()
                self.selection.ticked(now, self._share())
                self._rescue_if_due()
                seconds, pictures = clock.seconds(), tick.pictures
                if self.plan and corrections and now >= corrections[0]:
                    corrections = [moment for moment in corrections if moment > now]
                    self._plan_rest(dataclasses.replace(self.plan, reserve_s=self._measure_reserve()), rate)
                    pace.deadline_s = self.plan.deadline_s
                    going = True
                    break
                if self.plan:
                    pace.deadline_s = self.plan.deadline_at(rate)
            going = going or (until is not None and not done(self.state.pictures, None))
        self._save()
        if self.stop.why:
            return self.stop.why
        return ENDS[0] if job.images is not None else ENDS[1]

    def _budget_use(self, now: float) -> dict[str, float]:
        """How much of the budget is used, and how much of it is kept back, as shares."""
        if not self.plan:
            return {}
        whole = self.plan.budget_s
        return {"budget_used": round(now / whole, 4), "budget_reserve": round(self.plan.reserve_s / whole, 4)}

    def _stretch(self) -> tuple[int | None, int | None]:
        """The plan in pictures that schedules run over now, and the pictures at which a replay changes it."""
        if self.plan:
            return self.plan.pictures, None
        begun = [plan for at, plan in self.job.plans if at <= self.state.pictures]
        to_come = [at for at, _ in (*self.job.plans, *self.job.rates, *self.job.thrifts) if at > self.state.pictures]
        return begun[-1] if begun else self.job.images, min(to_come, default=None)

    def _share(self) -> float:
        """Of the training, how much is done: 0 to 1."""
        if self.job.images is not None:
            return self.state.pictures / max(self.job.images, 1)
        return self.clock.seconds() / self.plan.deadline_s if self.plan else 0.0

    def _steps_scale(self) -> float:
        """The factor on the recipe's step sizes now: 1 until training has been rolled back."""
        rolled_back = [(back["to"], back["steps"]) for back in self.run.record["rollbacks"]]
        begun = [steps for at, steps in (*self.job.rates, *rolled_back) if at <= self.state.pictures]
        return begun[-1] if begun else 1.0

    def _thrift(self) -> Thrift:
        """How steps save memory now."""
        begun = [thrift for at, thrift in (*self.job.thrifts, *_thrifts(self.run.record)) if at <= self.state.pictures]
        return begun[-1] if begun else PLENTY

    def _save(self) -> None:
        """A checkpoint, and how far this part has come."""
        self.session.save(self._checkpoint)
        self._note_part()

    def _note_part(self) -> None:
        *earlier, part = self.run.record["parts"]
        seconds = round(self.clock.seconds() - self.used_s, 3)
        part |= {"to": self.state.pictures, "seconds": seconds}
        self.run.update(pictures=self.state.pictures, parts=[*earlier, part])

    def _save_grid(self) -> NDArray[np.uint8]:
        """The same latents at every tick, so that the grids can be laid over each other; returns the pictures."""
        standing = min(self.recipe.standing_batches, GRID_STANDING)
        tiles = np.concatenate(list(self._sample(GRID, self.shape.size, standing_batches=standing)))
        with atomic(self.run.path / "samples" / f"{self.state.pictures:010d}.png") as file:
            mosaic(tiles, columns=GRID_COLUMNS).save(file, "PNG")
        return tiles

    def _rescue_if_due(self) -> None:
        """Writes `images.zip` in the middle of training when that is worth its time."""
        if not (self.plan and self.rescues):
            return
        now = self.clock.seconds()
        cost_s = self.plan.finish_s
        if now + cost_s >= self.plan.deadline_s or not self.rescues.due(now, cost_s=cost_s):
            return
        self._save()
        with contextlib.suppress(_AbandonedError):
            self._deliver()
            took = self.clock.seconds() - now
            self.rescues.took(self.clock.seconds(), cost_s=took)
            rescue = {"at": self.state.pictures, "seconds": round(took, 3)}
            self.run.update(rescues=[*self.run.record["rescues"], rescue])

    # ---- after training

    def _finish(self, why: str) -> None:
        """The zip, unless a signal leaves no time for a better one, and the last words of `run.json`."""
        self.session.dismiss()
        self._ballast.unlink(missing_ok=True)
        stopped = self.clock.seconds()
        kept = self.stop.signal and (self.run.path / IMAGES).exists()
        if not kept:
            if why in ENDS:
                self.selection.ended(stopped)
            with contextlib.suppress(_AbandonedError):
                self._deliver()
        self._note_part()
        # A run that was cut short can go on; one that was not has come to its end.
        cut_short = why not in ENDS
        self.run.update(
            state="stopped" if cut_short else "finished",
            why=why,
            signal=self.stop.signal.name if self.stop.signal else None,
            seconds={"finishing": round(self.clock.seconds() - stopped, 3), "in_all": round(self.clock.seconds(), 3)},
        )

    def _keep(self) -> None:
        """The film and the page, where there is time; told to stop by another program, there is none."""
        if self.stop.signal is signal.SIGTERM:
            return
        asked, began = self.stop.signal, self.clock.seconds()
        keep.keep(
            self.run.path,
            left_s=None if self.job.budget_s is None else self.job.budget_s - began,
            told_to_stop=lambda: self.stop.signal is not asked,
            tell=self.listener.happened,
        )
        now = self.clock.seconds()
        seconds = {**self.run.record["seconds"], "keeping": round(now - began, 3), "in_all": round(now, 3)}
        self.run.update(seconds=seconds)

    def _deliver(self) -> None:
        """`images.zip` from the best average there is, replaced whole, and its record."""
        generator, pictures = self.selection.best()
        batches = self._while_there_is_time(self._sample(self.count, self.rules.size, generator=generator))
        made = self._write_images(batches, self.run.path / IMAGES, self.count, told=True)
        self.run.update(
            result={
                "file": IMAGES,
                "pictures": pictures,
                "resize": self._resize(),
                "count": made.count,
                "bytes": made.bytes,
                "sha256": made.sha256,
                "pixels_sha256": made.pixels_sha256,
                "weights_sha256": checkpoint.weights_digest(generator),
            }
        )

    def _resize(self) -> dict[str, Any] | None:
        """What happens between the generator and the zip where their sizes differ."""
        if self.shape.size == self.rules.size:
            return None
        return {"from": self.shape.size, "to": self.rules.size, "filter": "pillow-lanczos"}

    def _write_images(
        self, batches: Iterator[NDArray[np.uint8]], path: Path, count: int, *, told: bool = False
    ) -> Packed:
        """Generates, packs and checks."""

        def progress(done: int, total: int) -> None:
            if told:
                self.listener.finishing("pictures", done, total)

        made = pack(batches, path, competition=self.rules, count=count, progress=progress)
        report = check(path, competition=self.rules, count=count)
        if report.errors:
            raise KitError(f"{path}: {report.errors[0]}", "this is a fault of the kit: please report it")
        return made

    def _sample(
        self, count: int, size: int, *, generator: nn.Module | None = None, standing_batches: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        standing = self.recipe.standing_batches if standing_batches is None else standing_batches
        return draw(
            generator or self.state.ema.module,
            dataclasses.replace(self.recipe, standing_batches=standing),
            count=count,
            size=size,
            seed=self.job.seed,
            device=self.device.kind,
            precision=self.device.precision,
            labels=classes.labels(self.recipe, self.shape, count),
        )

    def _while_there_is_time(self, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Gives up when a signal asks for the end or the budget is used up, and an earlier zip stands to be kept."""
        asked = self.stop.signal
        for batch in batches:
            late = self.job.budget_s is not None and self.clock.seconds() > self.job.budget_s - self.spare_s / 2
            if (late or self.stop.signal is not asked) and (self.run.path / IMAGES).exists():
                raise _AbandonedError
            yield batch

    @property
    def _checkpoint(self) -> Path:
        return self.run.path / CHECKPOINT

    @property
    def _ballast(self) -> Path:
        return self.run.path / BALLAST


class _DivergedError(Exception):
    """A loss or a weight is no number any more, or all pictures have become alike."""


class _AbandonedError(Exception):
    """A zip was given up, because there is no time for it and an older one stands."""


def _get(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None


def _short(value: object) -> str:
    """A value as a message can show it: a model file is given by its digest."""
    text = str(value)
    return text if "\n" not in text else f"a file with digest {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _thrifts(record: dict[str, Any]) -> tuple[tuple[int, Thrift], ...]:
    """From which picture on a run saved memory, and how."""
    return tuple((noted["to"], Thrift(noted["parts"], noted["on_host"])) for noted in record.get("memory", []))


def economise(job: Job, *, processes: int) -> bool:
    """Notes in the `run.json` of a run whose processes ran out of memory that it goes on with less; false if it cannot.

    Args:
        job: the run.
        processes: that will share each batch.
    """
    run = Run(job.out, read_run(job.out))
    before = _thrifts(run.record)[-1][1] if _thrifts(run.record) else PLENTY
    kind = torch.device(run.record["device"]["type"])
    wanted = before.next(batch=job.recipe.batch, processes=processes, device=kind)
    if wanted is None:
        return False
    noted = {"from": run.record["pictures"], "to": run.record["pictures"], **dataclasses.asdict(wanted)}
    run.update(memory=[*run.record["memory"], noted])
    return True


def _rounded(plan: budget.Plan) -> dict[str, float]:
    return {key: round(value, 3) for key, value in dataclasses.asdict(plan).items()}
