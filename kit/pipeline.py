"""The conductor: plan → train → generate → pack → check, under one clock."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from kit import __version__, competition, provenance
from kit.clock import Stopwatch
from kit.competition import Competition
from kit.data import packed
from kit.data.contact import mosaic
from kit.errors import KitError
from kit.files import atomic, require_space, write_json
from kit.generation.check import check
from kit.generation.pack import Packed, pack
from kit.generation.sampling import sample
from kit.models.recipe import Recipe
from kit.submission.source import write_source
from kit.training import checkpoint, device, loop, players
from kit.training.budget import Pace, Plan, plan, reserve, tick_seconds

TRIAL = 400
"""Pictures generated, packed and checked to learn what the real ones will cost."""

CORRECTIONS = (0.25, 0.5, 0.75)
"""Shares of the budget after which the reserve is measured again, in case the machine has slowed."""

GRID = 64
"""Pictures on a tick's grid."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `kit train` was asked to do: its flags, and the head of `run.json`."""

    recipe: Recipe
    data: Path  # prepared set
    out: Path  # run folder, must not exist
    seed: int = 0
    budget_s: float | None = None  # seconds for the whole process, or
    images: int | None = None  # real pictures to train on
    count: int | None = None  # pictures in images.zip; None: as the competition asks


class Listener(Protocol):
    """Who watches a run; the command line draws it on the screen."""

    def planned(self, facts: dict[str, Any]) -> None:
        """Training is about to begin."""

    def ticked(self, line: dict[str, Any]) -> None:
        """A tick has passed; the same line goes to `progress.jsonl`."""

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Generating and packing go on."""


@dataclass
class Run:
    """A run folder and its `run.json`, kept up to date on disk."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    def update(self, **changes: object) -> None:
        """Changes the record and writes it."""
        self.record |= changes
        write_json(self.path / "run.json", self.record)

    def log(self, line: dict[str, Any]) -> None:
        """Appends a line to `progress.jsonl`."""
        with (self.path / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def train(job: Job, *, clock: Stopwatch, listener: Listener) -> Run:
    """Trains a model and leaves a run folder with a checked `images.zip`.

    With `images` set it is a pure function of recipe, seed and data on one machine; with `budget_s` set it ends by
    itself within the budget, which counts from the start of the process.

    Raises:
        KitError: bad input, a budget too small, a full disk, or training that diverged.
    """
    if job.out.exists():
        raise KitError(f"{job.out} exists already", "choose another --out, or remove it first")
    prepared = packed.load(job.data)
    rules = competition.get(prepared.competition)
    count = rules.count if job.count is None else job.count
    where = device.choose()
    batches = packed.Batches(prepared, seed=job.seed, device=where.kind, flip=job.recipe.flip)
    shape = checkpoint.Shape(prepared.size, prepared.channels, tuple(prepared.classes))
    state = players.build(
        job.recipe,
        size=shape.size,
        channels=shape.channels,
        classes=len(shape.classes),
        seed=job.seed,
        device=where.kind,
    )
    generator = state.ema.module

    def measure_reserve() -> float:
        seconds = _try_finish(generator, job, rules, min(count, TRIAL), where.kind, clock)
        return reserve(seconds, trial=min(count, TRIAL), count=count)

    planned: Plan | None = None
    if job.budget_s is not None:
        measure_reserve()  # the first one also warms up threads and caches
        reserve_s = measure_reserve()
        planned = plan(job.budget_s, started_s=clock.seconds(), reserve_s=reserve_s, count=count)
    require_space(job.out, _bytes_needed(state, count, shape.size))

    run = _open(job, prepared, rules, count, where, planned)
    listener.planned(run.record)
    pace = Pace(
        clock,
        deadline_s=planned.deadline_s if planned else None,
        pictures=job.images,
        tick_s=tick_seconds(job.budget_s),
    )
    corrections = [share * job.budget_s for share in CORRECTIONS] if job.budget_s else []
    began = clock.seconds()
    last_seconds, last_pictures = began, 0
    _save_grid(run, generator, job, 0, where.kind)
    try:
        for tick in loop.train(
            state, batches, job.recipe, seed=job.seed, device=where, tick_due=pace.tick_due, done=pace.done
        ):
            now = clock.seconds()
            line = dataclasses.asdict(tick) | {
                "seconds": round(now, 3),
                "pictures_per_s": round((tick.pictures - last_pictures) / (now - last_seconds), 1),
            }
            if not tick.finite:
                raise KitError(
                    f"training diverged after {tick.pictures:,} pictures (a loss is not finite)",
                    "lower the learning rates, for example --set lr_g=1e-4 --set lr_d=1e-4",
                )
            run.log(line)
            listener.ticked(line)
            _save_grid(run, generator, job, tick.pictures, where.kind)
            checkpoint.save(run.path / "checkpoint.pt", state, job.recipe, shape)
            if planned and corrections and now >= corrections[0]:
                corrections = [moment for moment in corrections if moment > now]
                planned = dataclasses.replace(planned, reserve_s=measure_reserve())
                pace.deadline_s = planned.deadline_s
                run.update(plan=_plan_record(planned))
            last_seconds, last_pictures = clock.seconds(), tick.pictures

        checkpoint.save(run.path / "checkpoint.pt", state, job.recipe, shape)
        stopped = clock.seconds()
        result = _finish(run, generator, job, rules, count, where.kind, listener)
    except BaseException as error:
        run.update(state="failed", why=str(error) or type(error).__name__, pictures=state.pictures)
        raise
    run.update(
        state="finished",
        why="the budget's training time was used" if planned else "all pictures were seen",
        pictures=state.pictures,
        parts=[{"from": 0, "to": state.pictures}],
        seconds={
            "before": round(began, 3),
            "training": round(stopped - began, 3),
            "finishing": round(clock.seconds() - stopped, 3),
        },
        result={
            "file": result.path.name,
            "count": result.count,
            "bytes": result.bytes,
            "sha256": result.sha256,
            "pixels_sha256": result.pixels_sha256,
            "weights_sha256": checkpoint.weights_digest(generator),
        },
    )
    return run


def _finish(
    run: Run,
    generator: nn.Module,
    job: Job,
    rules: Competition,
    count: int,
    where: torch.device,
    listener: Listener,
) -> Packed:
    """Generates, packs and checks the run's `images.zip`."""
    result = pack(
        sample(generator, count=count, size=rules.size, seed=job.seed, device=where),
        run.path / "images.zip",
        competition=rules,
        count=count,
        progress=lambda done, total: listener.finishing("pictures", done, total),
    )
    report = check(result.path, competition=rules, count=count)
    if report.errors:
        finding = report.errors[0]
        raise KitError(f"{result.path}: {finding.entry}: {finding.problem}", "this is a fault of the kit: report it")
    return result


def _try_finish(
    generator: nn.Module, job: Job, rules: Competition, trial: int, where: torch.device, clock: Stopwatch
) -> float:
    """Seconds to generate, pack and check a few pictures; leaves no trace."""
    began = clock.seconds()
    with tempfile.TemporaryDirectory(prefix="kit-trial-") as folder:
        archive = Path(folder) / "images.zip"
        pack(sample(generator, count=trial, size=rules.size, seed=job.seed, device=where), archive, competition=rules)
        check(archive, competition=rules, count=trial)
    return clock.seconds() - began


def _save_grid(run: Run, generator: nn.Module, job: Job, pictures: int, where: torch.device) -> None:
    """The same latents at every tick, so that the grids can be laid over each other."""
    side = int(run.record["data"]["size"])
    (tiles,) = sample(generator, count=GRID, size=side, seed=job.seed, device=where, batch=GRID)
    with atomic(run.path / "samples" / f"{pictures:010d}.png") as file:
        mosaic(tiles, columns=8).save(file, "PNG")


def _open(
    job: Job,
    prepared: packed.PreparedSet,
    rules: Competition,
    count: int,
    where: device.Device,
    planned: Plan | None,
) -> Run:
    """Makes the run folder with the record of everything that decides the run."""
    source = provenance.source_tree()
    run = Run(job.out)
    write_source(run.path / "source.zip")
    run.update(
        version=1,
        kit=__version__,
        name=job.out.name,
        state="running",
        why="",
        recipe=dataclasses.asdict(job.recipe),
        seed=job.seed,
        competition=rules.slug,
        count=count,
        budget_s=job.budget_s,
        images=job.images,
        data={
            "path": str(job.data),
            "name": prepared.name,
            "digest": prepared.digest,
            "competition": rules.slug,
            "size": prepared.size,
            "channels": prepared.channels,
        },
        device=where.record(),
        versions=provenance.versions(),
        commit=source.commit,
        dirty=source.dirty,
        tree=source.digest,
        plan=_plan_record(planned) if planned else None,
        pictures=0,
        parts=[],
    )
    return run


def _plan_record(planned: Plan) -> dict[str, float]:
    return {key: round(value, 3) for key, value in dataclasses.asdict(planned).items()}


def _bytes_needed(state: players.Players, count: int, size: int) -> int:
    """What a run writes at most: two checkpoints (the old one stands until the new one is whole) and the zip."""
    weights = sum(p.numel() * p.element_size() for network in (state.G, state.D) for p in network.parameters())
    return 2 * 4 * weights + count * size * size * 3


def default_run(model: str, data: Path, root: Path = Path("runs")) -> Path:
    """The first free `runs/MODEL-SET-N`."""
    return next(path for n in range(1, 1_000_000) if not (path := root / f"{model}-{data.name}-{n}").exists())
