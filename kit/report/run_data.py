"""A run folder as the report needs it: read once, checked once, and honest about what could not be read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kit.core.errors import KitError
from kit.scoring.score_record import REMEDY, Score, comparable
from kit.training.run_folder import PROGRESS, RECORD, SCORE, read_progress, read_run
from kit.training.run_record import CandidateRecord, RunRecord, TickRecord

State = Literal["finished", "stopped", "failed", "running", "silent"]

SILENCE_S = 300.0
"""A run that has written nothing for so long, and for several of its ticks, is taken for dead."""


class Grid(NamedTuple):
    """A sheet of samples from the run's fixed latents."""

    path: Path
    pictures: int  # seen when it was drawn


@dataclass(frozen=True)
class Ticks:
    """The lines of `progress.jsonl` as columns, all of one length."""

    pictures: list[int]  # seen
    seconds: list[float]  # since the start of the run
    columns: dict[str, list[float | None]]  # None: not a finite number

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Alarm:
    """What was said to be wrong, at one tick or at several."""

    text: str  # the last time
    first: int  # pictures
    last: int  # pictures
    ticks: int


@dataclass(frozen=True)
class RunData:
    """Everything that a page says of a run."""

    path: Path
    record: RunRecord
    state: State
    ticks: Ticks
    alarms: list[Alarm]
    scored: Ticks  # scores taken during training, as far as they compare with the last of them
    scored_as: Score | None  # that one; None where none was taken
    score: Score | None
    score_problem: str  # why there is none though there is a file; empty where there is one, or no file
    grids: list[Grid]
    written: datetime  # when the run last wrote something
    notes: list[str]  # what could not be read

    @property
    def pictures(self) -> int:
        """Pictures seen, as far as the run has written it."""
        return max([self.record.pictures, *self.ticks.pictures[-1:]])

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, as far as the run has written it."""
        if self.record.seconds:
            return self.record.seconds.in_all
        return max([sum(part.seconds for part in self.record.parts), *self.ticks.seconds[-1:]])

    @property
    def trained_s(self) -> float:
        """When training ended, seconds since the start."""
        seconds = self.record.seconds
        return seconds.in_all - seconds.finishing - (seconds.artifacts or 0.0) if seconds else self.elapsed_s

    @property
    def too_near(self) -> bool:
        """The scored pictures lie too near to the training set to be sent."""
        return bool(self.score and self.score.too_near)

    @property
    def stale_score(self) -> bool:
        """The score is of another `images.zip` than the one that lies there now."""
        result = self.record.result
        return bool(self.score and self.score.stale(result.sha256 if result else None))

    def summary(self) -> dict[str, Any]:
        """A row of `kit runs --json`."""
        score = self.score
        return {
            "name": self.path.name,
            "model": self.record.recipe.model,
            "set": self.record.data.name,
            "state": self.state,
            "pictures": self.pictures,
            "count": self.record.count,
            "fid": score.fid if score else None,
            "mifid": score.mifid if score else None,
            "features": score.features.name if score else "",
        }


def grids(run: Path) -> list[Grid]:
    """The grids of a run folder, `samples/<pictures seen>.png`, in the order of training."""
    files = (run / "samples").glob("*.png")
    found = [Grid(file, int(file.stem)) for file in files if file.stem.isascii() and file.stem.isdigit()]
    return sorted(found, key=lambda grid: grid.pictures)


def started(ticks: Ticks, first: int, *, since: int) -> float:
    """When the training began whose first tick is `first`, seconds; `since` is the pictures seen before it."""
    rate = (ticks.columns.get("pictures_per_s") or [None] * len(ticks))[first]
    end = ticks.seconds[first]
    return max(end - (ticks.pictures[first] - since) / rate, 0.0) if rate else end


def read(path: Path, *, now: datetime) -> RunData:
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
    if damaged:
        notes.append(f"{damaged} damaged line{'s' * (damaged > 1)} of {PROGRESS} left out.")
    read.sort(key=lambda tick: tick.pictures)
    ticks = _columns([asdict(tick) for tick in read])
    score, problem = _score(path)
    if problem:
        notes.append(f"The score cannot be shown: {problem}.")
    taken = _scores_during_training(record.candidates, notes)
    written = _written(path)
    silent = record.state == "running" and (now - written).total_seconds() > _patience(ticks, record)
    return RunData(
        path=path,
        record=record,
        state="silent" if silent else record.state,
        ticks=ticks,
        alarms=_alarms(read),
        scored=_score_columns(taken),
        scored_as=taken[-1][1] if taken else None,
        score=score,
        score_problem=problem,
        grids=grids(path),
        written=written,
        notes=notes,
    )


def _columns(lines: list[dict[str, Any]]) -> Ticks:
    columns = {key: [_finite(line[key]) for line in lines] for key in (lines[0] if lines else ())}
    pictures, seconds = columns.pop("pictures", []), columns.pop("seconds", [])
    return Ticks(
        pictures=[int(value or 0) for value in pictures],
        seconds=[value or 0.0 for value in seconds],
        columns={key: column for key, column in columns.items() if any(value is not None for value in column)},
    )


def _alarms(ticks: list[TickRecord]) -> list[Alarm]:
    """Alarms in the order in which they were first raised; those that differ only in their numbers are one."""
    found: dict[str, Alarm] = {}
    for tick in ticks:
        for text in tick.alarms:
            kind = text.partition(" (")[0]
            first = found.get(kind, Alarm("", tick.pictures, 0, 0))
            found[kind] = Alarm(text, first.first, tick.pictures, first.ticks + 1)
    return list(found.values())


def _scores_during_training(candidates: list[CandidateRecord], notes: list[str]) -> list[tuple[CandidateRecord, Score]]:
    """Candidates with their scores, those that may stand in one ranking with the last."""
    found, damaged = [], 0
    for entry in candidates:
        if entry.score:
            try:
                found.append((entry, Score.from_json(entry.score)))
            except KitError:
                damaged += 1
    if damaged:
        notes.append(f"{damaged} score{'s' * (damaged > 1)} taken during training cannot be read.")
    return [(entry, score) for entry, score in found if comparable(score, found[-1][1]) is None]


def _score_columns(taken: list[tuple[CandidateRecord, Score]]) -> Ticks:
    """Scores as columns; `took` is how many seconds each was in the making."""
    return _columns(
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


Kind = Literal["ready", "training", "scoring", "interim", "generating", "packing", "artifacts", "left"]

LABELS: dict[Kind, str] = {
    "ready": "getting ready: imports, data, measuring",
    "training": "training",
    "scoring": "scoring candidates",
    "interim": "interim zips",
    "generating": "generating",
    "packing": "packing and checking",
    "artifacts": "the film and this page",
    "left": "left of the budget",
}

IN_TURN: tuple[Kind, ...] = ("scoring", "interim", "ready")
"""What may be done between two steps, in the order in which it is done."""

AT_ONCE_S = 0.1
"""A score that began so near to the end of training was taken after it."""


@dataclass(frozen=True)
class Segment:
    """A stretch of the run's time; seconds since its start."""

    kind: Kind
    start: float
    stop: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.stop - self.start


@dataclass(frozen=True)
class Timeline:
    """Segments from 0 to `length`, without gaps."""

    segments: list[Segment]
    length: float  # seconds
    deadline: float | None  # when training had to stop, by the last plan: from there on time was kept back

    @property
    def reserve(self) -> float | None:
        """Seconds that were kept back for the end, by the last plan."""
        return None if self.deadline is None else max(self.length - self.deadline, 0.0)

    @property
    def training(self) -> float:
        """Seconds between the first step and the last without what was done between steps."""
        return sum(s.seconds for s in self.segments if s.kind == "training")

    def totals(self) -> list[tuple[Kind, str, float]]:
        """Each kind that occurs with its label and its seconds, in the order of LABELS."""
        sums = {kind: sum(s.seconds for s in self.segments if s.kind == kind) for kind in LABELS}
        return [(kind, LABELS[kind], seconds) for kind, seconds in sums.items() if seconds > 0]


def timeline(run: RunData) -> Timeline:
    """The use of a run's time, over all its parts."""
    end = run.trained_s
    segments: list[Segment] = []
    now = 0.0

    def until(kind: Kind, stop: float) -> None:
        nonlocal now
        if stop > now:
            segments.append(Segment(kind, now, stop))
            now = stop

    for number, part in enumerate(run.record.parts):
        last = number == len(run.record.parts) - 1
        stop = end if last else min(now + part.seconds, end)
        upper = run.pictures if last else part.stop
        own = [i for i, seen in enumerate(run.ticks.pictures) if part.start < seen <= upper]
        if own:
            until("ready", min(started(run.ticks, own[0], since=part.start), stop))
            for begun, kind, seconds in _interruptions(run, own):
                until("training", min(begun, stop))
                until(kind, min(max(begun, now) + seconds, stop))
            until("training", stop)
        else:
            until("ready", stop)
    until("scoring", end + sum(seconds for begun, seconds in _scores(run) if begun > end - AT_ONCE_S))
    ended = run.record.seconds
    until("generating", min(now + (ended.generating if ended else 0.0), run.elapsed_s))
    until("packing", run.elapsed_s - ((ended.artifacts if ended else None) or 0.0))
    until("artifacts", run.elapsed_s)
    length = max(run.elapsed_s, run.record.budget_s or 0.0)
    until("left", length)
    deadline = (
        run.record.budget_s - run.record.plans[-1].reserve_s if run.record.budget_s and run.record.plans else None
    )
    return Timeline(segments, length, deadline)


def rate(run: RunData) -> float | None:
    """Pictures per second of training, over the run; None before the first tick."""
    seconds = timeline(run).training
    return run.pictures / seconds if seconds else None


def _interruptions(run: RunData, own: list[int]) -> list[tuple[float, Kind, float]]:
    """What was done between steps: when it began, what it was, how many seconds it took; `own` are a part's ticks."""
    moments = {run.ticks.pictures[i]: run.ticks.seconds[i] for i in own}
    interim: list[tuple[float, Kind, float]] = [
        (moments[made.at], "interim", made.seconds) for made in run.record.interim_zips if made.at in moments
    ]
    scored: list[tuple[float, Kind, float]] = [
        (begun, "scoring", seconds)
        for begun, seconds in _scores(run)
        if begun in moments.values() and begun <= run.trained_s - AT_ONCE_S
    ]
    measured: list[tuple[float, Kind, float]] = [
        (moments[plan.at], "ready", plan.measuring_s) for plan in run.record.plans[1:] if plan.at in moments
    ]
    return sorted([*scored, *interim, *measured], key=lambda one: (one[0], IN_TURN.index(one[1])))


def _scores(run: RunData) -> list[tuple[float, float]]:
    """When each score on the way began, and how many seconds it took."""
    took = run.scored.columns.get("took", [])
    return [(begun, seconds or 0.0) for begun, seconds in zip(run.scored.seconds, took, strict=True)]
