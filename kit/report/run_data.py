"""A run folder as the report needs it: read once, checked once, and honest about what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kit.core.errors import KitError
from kit.scoring.score_record import REMEDY, Score, comparable
from kit.training.run_folder import PROGRESS, RECORD, SCORE, read_progress, read_run
from kit.training.run_record import RunRecord, TickRecord

State = Literal["finished", "stopped", "failed", "running", "silent"]

SILENCE_S = 300.0
"""A run that has written nothing for so long, and for several of its ticks, is taken for dead."""


class Grid(NamedTuple):
    """A sheet of samples from the run's fixed latents."""

    path: Path
    pictures: int  # seen when it was drawn


class ScoreTick(NamedTuple):
    """A score that was taken during training."""

    pictures: int  # seen
    seconds: float  # since the start of the run
    took: float  # seconds
    fid: float
    mifid: float | None
    distance: float
    epsilon: float | None


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
    ticks: list[TickRecord]  # in the order of training
    alarms: list[Alarm]
    scored: list[ScoreTick]  # scores taken during training, as far as they compare with the last of them
    scored_as: Score | None  # that one; None where none was taken
    score: Score | None
    score_problem: str  # why there is none though there is a file; empty where there is one, or no file
    grids: list[Grid]
    written: datetime  # when the run last wrote something
    notes: list[str]  # what could not be read

    @property
    def pictures(self) -> int:
        """Pictures seen, as far as the run has written it."""
        return max([self.record.pictures, *(tick.pictures for tick in self.ticks[-1:])])

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, as far as the run has written it."""
        if self.record.seconds:
            return self.record.seconds.in_all
        return max([sum(part.seconds for part in self.record.parts), *(tick.seconds for tick in self.ticks[-1:])])

    @property
    def trained_s(self) -> float:
        """When training ended, seconds since the start."""
        seconds = self.record.seconds
        return seconds.in_all - seconds.finishing - (seconds.artifacts or 0.0) if seconds else self.elapsed_s

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
    ticks, damaged = read_progress(path)
    if damaged:
        notes.append(f"{damaged} damaged line{'s' * (damaged > 1)} of {PROGRESS} left out.")
    ticks.sort(key=lambda tick: tick.pictures)
    score, problem = None, ""
    if (path / SCORE).is_file():
        try:
            score = Score.load(path / SCORE, remedy=REMEDY)
        except KitError as error:
            problem = str(error)
            notes.append(f"The score cannot be shown: {problem}.")
    found = grids(path)
    files = [path / RECORD, path / PROGRESS, *(grid.path for grid in found[-1:])]
    written = datetime.fromtimestamp(max(file.stat().st_mtime for file in files if file.is_file()), UTC)
    silent = record.state == "running" and (now - written).total_seconds() > _patience(ticks, record)
    scored, scored_as = _scores_during_training(record, notes)
    return RunData(
        path=path,
        record=record,
        state="silent" if silent else record.state,
        ticks=ticks,
        alarms=_alarms(ticks),
        scored=scored,
        scored_as=scored_as,
        score=score,
        score_problem=problem,
        grids=found,
        written=written,
        notes=notes,
    )


def read_all(paths: Sequence[Path], *, now: datetime) -> tuple[list[RunData], list[tuple[Path, str]]]:
    """Reads run folders as `read` does, and says of those that cannot be read why."""
    found: list[RunData] = []
    damaged: list[tuple[Path, str]] = []
    for path in paths:
        try:
            found.append(read(path, now=now))
        except KitError as error:
            damaged.append((path, str(error)))
    return found, damaged


def _alarms(ticks: list[TickRecord]) -> list[Alarm]:
    """Alarms in the order in which they were first raised; those that differ only in their numbers are one."""
    found: dict[str, Alarm] = {}
    for tick in ticks:
        for text in tick.alarms:
            kind = text.partition(" (")[0]
            first = found.get(kind, Alarm("", tick.pictures, 0, 0))
            found[kind] = Alarm(text, first.first, tick.pictures, first.ticks + 1)
    return list(found.values())


def _scores_during_training(record: RunRecord, notes: list[str]) -> tuple[list[ScoreTick], Score | None]:
    """Those that may stand in one ranking with the last, and the last."""
    found, damaged = [], 0
    for entry in record.candidates:
        if entry.score:
            try:
                found.append((entry, Score.from_json(entry.score)))
            except KitError:
                damaged += 1
    if damaged:
        notes.append(f"{damaged} score{'s' * (damaged > 1)} taken during training cannot be read.")
    ticks = [
        ScoreTick(at.pictures, at.seconds, score.seconds or 0.0, score.fid, score.mifid, score.distance, score.epsilon)
        for at, score in found
        if comparable(score, found[-1][1]) is None
    ]
    return ticks, found[-1][1] if found else None


def _patience(ticks: list[TickRecord], record: RunRecord) -> float:
    """How long a living run may be silent: several ticks, or the time it keeps back for its end."""
    gap = max((b.seconds - a.seconds for a, b in pairwise(ticks)), default=0.0)
    reserve = max((plan.reserve_s for plan in record.plans), default=0.0)
    return max(SILENCE_S, 5 * gap, 2 * reserve)


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


class Segment(NamedTuple):
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
    reserve: float | None  # seconds that were kept back for the end, by the last plan

    def totals(self) -> dict[Kind, float]:
        """The seconds of each kind that occurs, in the order of LABELS."""
        sums = {kind: sum(s.seconds for s in self.segments if s.kind == kind) for kind in LABELS}
        return {kind: seconds for kind, seconds in sums.items() if seconds > 0}


def timeline(run: RunData) -> Timeline:
    """The use of a run's time, over all its parts."""
    record, end = run.record, run.trained_s
    segments: list[Segment] = []
    now = 0.0

    def until(kind: Kind, stop: float) -> None:
        nonlocal now
        if stop > now:
            segments.append(Segment(kind, now, stop))
            now = stop

    for part in record.parts:
        last = part is record.parts[-1]
        stop = end if last else min(now + part.seconds, end)
        own = [tick for tick in run.ticks if part.start < tick.pictures <= (run.pictures if last else part.stop)]
        if own:
            first = own[0]
            took = (first.pictures - part.start) / first.pictures_per_s if first.pictures_per_s else 0.0
            until("ready", min(max(first.seconds - took, 0.0), stop))
            for begun, kind, seconds in _interruptions(run, own):
                until("training", min(begun, stop))
                until(kind, min(max(begun, now) + seconds, stop))
            until("training", stop)
        else:
            until("ready", stop)
    until("scoring", end + sum(score.took for score in run.scored if score.seconds > end - AT_ONCE_S))
    ended = record.seconds
    until("generating", min(now + (ended.generating if ended else 0.0), run.elapsed_s))
    until("packing", run.elapsed_s - ((ended.artifacts if ended else None) or 0.0))
    until("artifacts", run.elapsed_s)
    length = max(run.elapsed_s, record.budget_s or 0.0)
    until("left", length)
    deadline = record.budget_s - record.plans[-1].reserve_s if record.budget_s and record.plans else None
    return Timeline(segments, length, deadline, None if deadline is None else max(length - deadline, 0.0))


def rate(run: RunData) -> float | None:
    """Pictures per second of training, without what was done between steps; None before the first tick."""
    seconds = timeline(run).totals().get("training")
    return run.pictures / seconds if seconds else None


def _interruptions(run: RunData, own: list[TickRecord]) -> list[tuple[float, Kind, float]]:
    """What was done between steps: when it began, what it was, how many seconds it took; `own` are a part's ticks."""
    at = {tick.pictures: tick.seconds for tick in own}
    found: list[tuple[float, Kind, float]] = [
        *((at[made.at], "interim", made.seconds) for made in run.record.interim_zips if made.at in at),
        *((at[plan.at], "ready", plan.measuring_s) for plan in run.record.plans[1:] if plan.at in at),
        *(
            (score.seconds, "scoring", score.took)
            for score in run.scored
            if score.seconds in at.values() and score.seconds <= run.trained_s - AT_ONCE_S
        ),
    ]
    return sorted(found, key=lambda one: (one[0], IN_TURN.index(one[1])))
