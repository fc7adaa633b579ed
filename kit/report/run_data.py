"""A run folder as the report needs it: read once, checked once, and honest about what could not be read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kit.core.errors import KitError
from kit.core.records import to_json
from kit.report.pictures import Grid, grids
from kit.scoring.score_record import REMEDY, Score, comparable
from kit.training.run_folder import PROGRESS, RECORD, SCORE, read_progress, read_run
from kit.training.run_record import CandidateRecord, RunRecord

State = Literal["finished", "stopped", "failed", "running", "silent"]

SILENCE_S = 300.0
"""A run that has written nothing for so long, and for several of its ticks, is taken for dead."""


@dataclass(frozen=True)
class Ticks:
    """The lines of `progress.jsonl` as columns, all of one length."""

    pictures: list[int]  # seen
    seconds: list[float]  # since the start of the run
    columns: dict[str, list[float | None]]  # None: not a finite number

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Part:
    """A process's work on the run."""

    start: int  # pictures
    stop: int  # pictures
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A plan of the budget, made when `at` pictures had been seen."""

    at: int
    started_s: float
    reserve_s: float
    measuring_s: float  # that it took to find the reserve out


@dataclass(frozen=True)
class Rescue:
    """An `images.zip` written in the middle of training."""

    at: int  # pictures
    seconds: float


@dataclass(frozen=True)
class Alarm:
    """What was said to be wrong, at one tick or at several."""

    text: str  # the last time
    first: int  # pictures
    last: int  # pictures
    ticks: int


@dataclass(frozen=True)
class Facts:
    """Everything a page says about a run."""

    path: Path
    name: str
    model: str
    recipe: dict[str, Any]
    seed: int
    count: int  # pictures to generate
    competition: str
    budget_s: float | None
    images: int | None
    data: dict[str, Any]
    device: dict[str, Any]
    versions: dict[str, Any]
    kit: str
    commit: str | None
    dirty: bool
    state: State
    why: str
    pictures: int  # seen, as far as the run has told
    elapsed_s: float  # as far as the run has told
    finishing_s: float | None  # generating, packing, checking
    generating_s: float | None  # of that, waiting for pictures: what packing does meanwhile counts as generating
    keeping_s: float | None  # making the film and the page
    parts: list[Part]
    plans: list[Plan]
    rescues: list[Rescue]
    alarms: list[Alarm]
    scored: Ticks  # scores taken on the way, as far as they compare with the last of them
    scored_as: Score | None  # that one; None where none was taken
    result: dict[str, Any] | None
    ticks: Ticks
    score: Score | None
    score_problem: str  # why there is none though there is a file; empty where there is one, or no file
    grids: list[Grid]
    written: datetime  # when the run last wrote something
    notes: list[str] = field(default_factory=list)  # what could not be read

    @cached_property
    def trained_s(self) -> float:
        """When training ended, seconds since the start."""
        return self.elapsed_s - (self.finishing_s or 0.0) - (self.keeping_s or 0.0)

    def summary(self) -> dict[str, Any]:
        """A row of `kit runs --json`."""
        score = self.score
        return {
            "name": self.path.name,
            "model": self.model,
            "set": self.data["name"],
            "state": self.state,
            "pictures": self.pictures,
            "count": self.count,
            "fid": score.fid if score else None,
            "mifid": score.mifid if score else None,
            "features": score.features.name if score else "",
        }

    @property
    def too_near(self) -> bool:
        """The scored pictures lie too near to the training set to be sent."""
        return bool(self.score and self.score.too_near)

    @property
    def stale_score(self) -> bool:
        """The score is of another `images.zip` than the one that lies there now."""
        return bool(self.score and self.score.stale(self.result["sha256"] if self.result else None))


def started(ticks: Ticks, first: int, *, since: int) -> float:
    """When the training began whose first tick is `first`, seconds; `since` is the pictures seen before it."""
    rate = (ticks.columns.get("pictures_per_s") or [None] * len(ticks))[first]
    end = ticks.seconds[first]
    return max(end - (ticks.pictures[first] - since) / rate, 0.0) if rate else end


def read(path: Path, *, now: datetime) -> Facts:
    """Reads a run folder, in whatever state it is.

    Args:
        path: the run's folder.
        now: the time, to tell a run that goes on from one that was killed.

    Raises:
        KitError: no run, or a `run.json` that is damaged or of another version.
    """
    record = read_run(path)
    notes: list[str] = []
    read, damaged = read_progress(path)
    lines = [{key: value for key, value in asdict(tick).items() if key != "alarms" or value} for tick in read]
    if damaged:
        notes.append(f"{damaged} damaged line{'s' * (damaged > 1)} of {PROGRESS} left out.")
    ticks = _ticks(lines)
    score, problem = _score(path)
    if problem:
        notes.append(f"The score cannot be shown: {problem}.")
    taken = _scores_on_the_way(record.candidates, notes)
    written = _written(path)
    parts = [Part(part.start, part.stop, part.seconds) for part in record.parts]
    seconds = record.seconds
    told = [sum(part.seconds for part in parts), *ticks.seconds[-1:]]
    state: State = record.state
    if state == "running" and (now - written).total_seconds() > _patience(ticks, record):
        state = "silent"
    return Facts(
        path=path,
        name=record.name,
        model=record.recipe.model,
        recipe=asdict(record.recipe),
        seed=record.seed,
        count=record.count,
        competition=record.competition,
        budget_s=record.budget_s,
        images=record.images,
        data=asdict(record.data),
        device=asdict(record.device),
        versions=record.versions,
        kit=record.kit,
        commit=record.commit,
        dirty=record.dirty,
        state=state,
        why=record.why,
        pictures=max([record.pictures, *ticks.pictures[-1:]]),
        elapsed_s=seconds.in_all if seconds else max(told),
        finishing_s=seconds.finishing if seconds else None,
        generating_s=seconds.generating if seconds else None,
        keeping_s=seconds.artifacts if seconds else None,
        parts=parts,
        plans=[Plan(plan.at, plan.started_s, plan.reserve_s, plan.measuring_s) for plan in record.plans],
        rescues=[Rescue(made.at, made.seconds) for made in record.interim_zips],
        alarms=_alarms(lines),
        scored=_score_ticks(taken),
        scored_as=taken[-1][1] if taken else None,
        result=to_json(record.result) if record.result else None,
        ticks=ticks,
        score=score,
        score_problem=problem,
        grids=grids(path),
        written=written,
        notes=notes,
    )


def _ticks(lines: list[dict[str, Any]]) -> Ticks:
    lines = sorted((line for line in lines if _finite(line.get("seconds")) is not None), key=lambda t: t["pictures"])
    keys = dict.fromkeys(key for line in lines for key in line if key not in ("pictures", "seconds"))
    columns = {key: [_finite(line.get(key)) for line in lines] for key in keys}
    return Ticks(
        pictures=[line["pictures"] for line in lines],
        seconds=[float(line["seconds"]) for line in lines],
        columns={key: column for key, column in columns.items() if any(value is not None for value in column)},
    )


def _alarms(lines: list[dict[str, Any]]) -> list[Alarm]:
    """Alarms in the order in which they were first raised; those that differ only in their numbers are one."""
    found: dict[str, Alarm] = {}
    for line in lines:
        said = line.get("alarms")
        for text in said if isinstance(said, list) else ():
            kind, pictures = str(text).partition(" (")[0], line["pictures"]
            first = found.get(kind, Alarm("", pictures, 0, 0))
            found[kind] = Alarm(str(text), first.first, pictures, first.ticks + 1)
    return list(found.values())


def _scores_on_the_way(candidates: list[CandidateRecord], notes: list[str]) -> list[tuple[CandidateRecord, Score]]:
    """Candidates with their scores, those that may stand in one ranking with the last."""
    found, damaged = [], 0
    for entry in candidates:
        if entry.score:
            try:
                found.append((entry, Score.from_json(entry.score)))
            except KitError:
                damaged += 1
    if damaged:
        notes.append(f"{damaged} score{'s' * (damaged > 1)} taken on the way cannot be read.")
    return [(entry, score) for entry, score in found if comparable(score, found[-1][1]) is None]


def _score_ticks(taken: list[tuple[CandidateRecord, Score]]) -> Ticks:
    """Scores as columns; `took` is how many seconds each was in the making."""
    return _ticks(
        [
            {"pictures": entry.pictures, "seconds": entry.seconds, "took": score.seconds}
            | {key: getattr(score, key) for key in ("fid", "mifid", "distance", "epsilon")}
            for entry, score in taken
        ]
    )


def _score(path: Path) -> tuple[Score | None, str]:
    """The score, or what is wrong with its file."""
    if not (path / SCORE).is_file():
        return None, ""
    try:
        return Score.load(path / SCORE, remedy=REMEDY), ""
    except KitError as error:
        return None, str(error)


def _written(path: Path) -> datetime:
    files = [path / RECORD, path / PROGRESS, *(grid.path for grid in grids(path)[-1:])]
    return datetime.fromtimestamp(max(file.stat().st_mtime for file in files if file.is_file()), UTC)


def _patience(ticks: Ticks, record: RunRecord) -> float:
    """How long a living run may be silent: several ticks, or the time it keeps back for its end."""
    gaps = [b - a for a, b in zip(ticks.seconds, ticks.seconds[1:], strict=False)]
    reserve = max((plan.reserve_s for plan in record.plans), default=0.0)
    return max(SILENCE_S, 5 * max(gaps, default=0.0), 2 * reserve)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
