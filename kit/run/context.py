"""One process's work on one run: all that the parts of the pipeline share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kit import __version__, competition
from kit.competition import Competition
from kit.core import provenance
from kit.core.clock import Stopwatch, process_age
from kit.core.signals import Stop
from kit.data import prepared_set
from kit.run import budget
from kit.run.config import Callback, RunConfig
from kit.run.snapshots import Selection
from kit.run.trainer import Trainer
from kit.scoring.periodic import PeriodicScorer
from kit.training import device, memory
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.run_folder import CHECKPOINT, IMAGES, Run
from kit.training.run_record import DataRecord, PlanRecord, RunRecord

BALLAST = ".set-aside"
"""A file that holds room on the disk for the end of a run, and is deleted when it comes."""


class RunContext:
    """What was asked for, with what it is done, and how far it has come.

    Args:
        job: what was asked for.
        clock: the process's time.
        listener: who watches.
        crew: the processes that share each batch; this one leads them.

    Raises:
        KitError: the set, the recipe, the device or the memory do not fit each other.
    """

    def __init__(
        self, job: RunConfig, clock: Stopwatch, listener: Callback, crew: Distributed = SINGLE_PROCESS
    ) -> None:
        self.job, self.clock, self.listener = job, clock, listener
        # A clock may have begun before the process, or after it.
        self.spare_s = budget.spare(min(clock.seconds(), process_age()))
        self.recipe = job.recipe
        self.prepared = prepared_set.load(job.data)
        self.rules: Competition = competition.get(self.prepared.competition)
        self.count = self.rules.count if job.count is None else job.count
        self.device = device.choose(deterministic=job.deterministic)
        if job.memory:
            memory.limit(job.memory, self.device.kind)
        self.session = Trainer(self.recipe, self.prepared, seed=job.seed, device=self.device, crew=crew)
        self.state, self.shape = self.session.state, self.session.shape
        self.run = Run(job.out, self._new_record())
        self.selection = self._selection(scorer=None)
        self.plan: PlanRecord | None = None  # how the budget's time is to be spent, if there is one
        self.used_s = 0.0  # by earlier processes
        self.alarms: list[str] = []  # to be said with the next tick
        self.stop = Stop()

    @property
    def checkpoint(self) -> Path:
        """The state of training."""
        return self.run.path / CHECKPOINT

    @property
    def images(self) -> Path:
        """The run's result."""
        return self.run.path / IMAGES

    @property
    def ballast(self) -> Path:
        """The room that is set aside."""
        return self.run.path / BALLAST

    def score_with(self, scorer: PeriodicScorer) -> None:
        """From here on candidates are scored."""
        self.selection = self._selection(scorer)

    def say(self, text: str) -> None:
        """Tells who watches of something out of the ordinary."""
        self.listener.happened(text)

    def save(self) -> None:
        """Writes a checkpoint, and how far this part has come.

        Raises:
            KitError: the disk is full.
        """
        self.session.save(self.checkpoint)
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
            name=self.job.out.name,
            state="running",
            recipe=self.recipe,
            seed=self.job.seed,
            images=self.job.images,
            count=self.count,
            competition=self.rules.slug,
            data=DataRecord(
                name=self.prepared.name,
                digest=self.prepared.digest,
                size=self.prepared.size,
                channels=self.prepared.channels,
                path=str(self.job.data),
                sources=self.prepared.sources_digest,
            ),
            kit=__version__,
            versions=provenance.versions(),
            budget_s=self.job.budget_s,
            device=self.device.record(),
            commit=source.commit,
            dirty=source.dirty,
            tree=source.digest,
        )

    def _selection(self, scorer: PeriodicScorer | None) -> Selection:
        return Selection(self.run, self.state, self.recipe, self.shape, scorer=scorer, say=self.say)
