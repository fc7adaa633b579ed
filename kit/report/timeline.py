"""What a run's time went into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kit.report.run_data import Facts, started

Kind = Literal["ready", "training", "scoring", "rescue", "generating", "packing", "keeping", "left"]

LABELS: dict[Kind, str] = {
    "ready": "getting ready: imports, data, measuring",
    "training": "training",
    "scoring": "scoring candidates",
    "rescue": "rescue zips on the way",
    "generating": "generating",
    "packing": "packing and checking",
    "keeping": "the film and this page",
    "left": "left of the budget",
}

IN_TURN: tuple[Kind, ...] = ("scoring", "rescue", "ready")
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


def timeline(facts: Facts) -> Timeline:
    """The use of a run's time, over all its parts."""
    end = facts.trained_s
    segments: list[Segment] = []
    now = 0.0

    def until(kind: Kind, stop: float) -> None:
        nonlocal now
        if stop > now:
            segments.append(Segment(kind, now, stop))
            now = stop

    for number, part in enumerate(facts.parts):
        last = number == len(facts.parts) - 1
        stop = end if last else min(now + part.seconds, end)
        upper = facts.pictures if last else part.stop
        own = [i for i, seen in enumerate(facts.ticks.pictures) if part.start < seen <= upper]
        if own:
            until("ready", min(started(facts.ticks, own[0], since=part.start), stop))
            for begun, kind, seconds in _interruptions(facts, own):
                until("training", min(begun, stop))
                until(kind, min(max(begun, now) + seconds, stop))
            until("training", stop)
        else:
            until("ready", stop)
    until("scoring", end + sum(seconds for begun, seconds in _scores(facts) if begun > end - AT_ONCE_S))
    until("generating", min(now + (facts.generating_s or 0.0), facts.elapsed_s))
    until("packing", facts.elapsed_s - (facts.keeping_s or 0.0))
    until("keeping", facts.elapsed_s)
    length = max(facts.elapsed_s, facts.budget_s or 0.0)
    until("left", length)
    deadline = facts.budget_s - facts.plans[-1].reserve_s if facts.budget_s and facts.plans else None
    return Timeline(segments, length, deadline)


def rate(facts: Facts) -> float | None:
    """Pictures per second of training, over the run; None before the first tick."""
    seconds = timeline(facts).training
    return facts.pictures / seconds if seconds else None


def _interruptions(facts: Facts, own: list[int]) -> list[tuple[float, Kind, float]]:
    """What was done between steps: when it began, what it was, how many seconds it took; `own` are a part's ticks."""
    moments = {facts.ticks.pictures[i]: facts.ticks.seconds[i] for i in own}
    rescues: list[tuple[float, Kind, float]] = [
        (moments[rescue.at], "rescue", rescue.seconds) for rescue in facts.rescues if rescue.at in moments
    ]
    scored: list[tuple[float, Kind, float]] = [
        (begun, "scoring", seconds)
        for begun, seconds in _scores(facts)
        if begun in moments.values() and begun <= facts.trained_s - AT_ONCE_S
    ]
    measured: list[tuple[float, Kind, float]] = [
        (moments[plan.at], "ready", plan.measuring_s) for plan in facts.plans[1:] if plan.at in moments
    ]
    return sorted([*scored, *rescues, *measured], key=lambda one: (one[0], IN_TURN.index(one[1])))


def _scores(facts: Facts) -> list[tuple[float, float]]:
    """When each score on the way began, and how many seconds it took."""
    took = facts.scored.columns.get("took", [])
    return [(begun, seconds or 0.0) for begun, seconds in zip(facts.scored.seconds, took, strict=True)]
