"""What a run is asked for, and who watches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kit.models.recipe import Recipe
from kit.scoring.periodic import ScoringConfig
from kit.training.memory import MemoryPolicy
from kit.training.run_record import RunRecord, TickRecord


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `kit train` was asked to do: its flags, and the head of `run.json`."""

    recipe: Recipe
    data: Path  # prepared set
    out: Path  # run folder
    seed: int = 0
    budget_s: float | None = None  # seconds for the whole run, or
    images: int | None = None  # real pictures to train on
    count: int | None = None  # pictures in images.zip; None: as the competition asks
    scores: ScoringConfig | None = None  # score candidates on the way; never changes what is trained
    resume: bool = False  # go on with the run in `out` where there is one
    deterministic: bool = False  # only algorithms that give the same bits every time, on a GPU too
    memory: int | None = None  # bytes of its GPU's memory that each process may use
    plans: tuple[tuple[int, int], ...] = ()  # to replay a budgeted run: from which picture on which plan, in pictures
    rates: tuple[tuple[int, float], ...] = ()  # to replay a rolled-back run: from which picture on which step sizes, ×
    thrifts: tuple[
        tuple[int, MemoryPolicy], ...
    ] = ()  # to replay one that was short of memory: from which picture on which


class Callback(Protocol):
    """Who watches a run; the command line draws it on the screen."""

    def on_plan(self, record: RunRecord) -> None:
        """Training is about to begin; the record is kept up to date while it goes on."""

    def on_tick(self, tick: TickRecord) -> None:
        """A tick has passed."""

    def happened(self, text: str) -> None:
        """Something out of the ordinary."""

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Generating and packing go on."""
