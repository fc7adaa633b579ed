"""What a run is asked for, and what everything that works on it shares."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kit import __version__, competition
from kit.competition import Competition
from kit.core import provenance
from kit.core.clock import Stopwatch, process_age
from kit.core.errors import KitError
from kit.core.signals import Stop
from kit.data import prepared_set
from kit.models.recipe import Recipe
from kit.run import budget
from kit.run.snapshots import Snapshots
from kit.run.trainer import Trainer
from kit.scoring.candidates import ScoringConfig
from kit.training import device, memory
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.run_folder import CHECKPOINT, IMAGES, Run
from kit.training.run_record import Callback, DataRecord, PlanRecord, RunRecord, TickRecord
from kit.training.train_state import TrainState

log = logging.getLogger(__name__)

SEED_LIMIT = 2**63


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `kit train` was asked to do: its flags, and the head of `run.json`.

    Raises:
        KitError: a seed that no generator of random numbers takes.
    """

    recipe: Recipe
    data: Path  # prepared set
    out: Path  # run folder
    seed: int = 0
    budget_s: float | None = None  # seconds for the whole run, or
    images: int | None = None  # real pictures to train on
    ladder: tuple[tuple[int, Recipe], ...] = ()  # (pictures needed, recipe), narrowest first: a budget chooses
    count: int | None = None  # pictures in images.zip; None: as the competition asks
    scores: ScoringConfig | None = None  # of candidates on the way; never changes what is trained
    resume: bool = False  # go on with the run in `out` where there is one
    deterministic: bool = False  # only algorithms that give the same bits every time, on a GPU too
    memory: int | None = None  # bytes of its GPU's memory that each process may use
    replayed: RunRecord | None = None  # what it was led to is done again at the same pictures: no clock is needed

    def __post_init__(self) -> None:
        if not 0 <= self.seed < SEED_LIMIT:
            raise KitError(f"--seed has {len(str(self.seed))} digits", f"give a number from 0 to {SEED_LIMIT - 1}")


class SafeCallback:
    """Passes everything on to a callback; what goes wrong there is logged once and never ends a run."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._failed = False

    def on_plan(self, record: RunRecord) -> None:
        """See `Callback`."""
        self._try(lambda: self._callback.on_plan(record))

    def on_tick(self, tick: TickRecord) -> None:
        """See `Callback`."""
        self._try(lambda: self._callback.on_tick(tick))

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """See `Callback`."""
        self._try(lambda: self._callback.on_progress(stage, done, total))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # rich leaves with SystemExit where its pipe is closed
            if not self._failed:
                self._failed = True
                log.warning("progress cannot be shown: %s", error)


DISK_RESERVE = ".disk-reserve"
"""A file that keeps space on the disk for the end of a run, and is deleted when it comes."""


class RunContext:
    """One process's work on one run: what was asked for, with what it is done, and how far it has come.

    Args:
        config: what was asked for.
        clock: the process's time.
        callback: is told of plan, ticks and progress.
        distributed: the processes that share each batch; this is the first of them.

    Raises:
        KitError: the set, the recipe, the device or the memory do not fit each other.
    """

    def __init__(
        self, config: RunConfig, clock: Stopwatch, callback: Callback, distributed: Distributed = SINGLE_PROCESS
    ) -> None:
        self.config, self.clock, self.callback = config, clock, SafeCallback(callback)
        # A clock may have begun before the process, or after it.
        self.spare_s = budget.spare(min(clock.seconds(), process_age()))
        self.prepared = prepared_set.load(config.data)
        self.rules: Competition = competition.get(self.prepared.competition)
        inputs = self.prepared.inputs
        self.count = config.count if config.count is not None else self.rules.count if inputs is None else len(inputs)
        before = config.replayed
        if before:
            torch.set_num_threads(before.device.threads)
        self.device = device.choose(deterministic=config.deterministic)
        self.available_threads = torch.get_num_threads()
        self.generation_threads = (before and before.result and before.result.threads) or self.available_threads
        if config.memory:
            memory.limit(config.memory, self.device.kind)
        self.trainer = Trainer(
            config.recipe, self.prepared, seed=config.seed, device=self.device, distributed=distributed
        )
        self.shape = self.trainer.shape
        self.run = Run(config.out, self._new_record())
        self.snapshots = Snapshots(self.run, self.state, config.recipe, self.shape)
        self.plan: PlanRecord | None = None  # how the budget's time is to be spent, if there is one
        self.used_s = 0.0  # by earlier processes
        self.alarms: list[str] = []  # for the next tick
        self.stop = Stop()

    @property
    def recipe(self) -> Recipe:
        """How the run trains."""
        return self.trainer.recipe

    @property
    def state(self) -> TrainState:
        """What it trains."""
        return self.trainer.state

    @property
    def checkpoint(self) -> Path:
        """The state of training."""
        return self.run.path / CHECKPOINT

    @property
    def images(self) -> Path:
        """The run's result."""
        return self.run.path / IMAGES

    @property
    def disk_reserve(self) -> Path:
        """The file that keeps space on the disk."""
        return self.run.path / DISK_RESERVE

    def use_recipe(self, recipe: Recipe) -> None:
        """The run begins anew with the recipe of another width."""
        self.trainer.use_recipe(recipe)
        self.run.record.recipe = recipe
        self.snapshots = Snapshots(self.run, self.state, recipe, self.shape)

    def save(self) -> None:
        """Writes a checkpoint, and how far this part has come.

        Raises:
            KitError: the disk is full.
        """
        self.trainer.save(self.checkpoint)
        self.note_part()

    def note_part(self) -> None:
        """Writes how far this part has come into `run.json`."""
        record, pictures = self.run.record, self.state.pictures
        seconds = round(self.clock.seconds() - self.used_s, 3)
        record.parts[-1] = dataclasses.replace(record.parts[-1], stop=pictures, seconds=seconds)
        record.pictures = pictures
        self.run.save()

    def _new_record(self) -> RunRecord:
        source = provenance.source_tree()
        return RunRecord(
            name=self.config.out.name,
            state="running",
            recipe=self.recipe,
            seed=self.config.seed,
            images=self.config.images,
            count=self.count,
            competition=self.rules.slug,
            data=DataRecord(
                name=self.prepared.name,
                digest=self.prepared.digest,
                size=self.prepared.size,
                channels=self.prepared.channels,
                path=str(self.config.data),
                sources=self.prepared.sources_digest,
            ),
            kit=__version__,
            versions=provenance.versions(),
            budget_s=self.config.budget_s,
            device=self.device.record(),
            commit=source.commit,
            dirty=source.dirty,
            tree=source.digest,
        )
