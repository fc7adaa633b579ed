"""What a run's time went into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kit.report.facts import Facts, started

Kind = Literal["ready", "training", "rescue", "finishing", "keeping", "left"]

LABELS: dict[Kind, str] = {
    "ready": "getting ready: imports, data, measuring",
    "training": "training",
    "rescue": "rescue zips on the way",
    "finishing": "generating, packing, checking",
    "keeping": "the film and this page",
    "left": "left of the budget",
}


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
    deadline: float | None  # when training had to stop, by the last plan

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
            moments = {facts.ticks.pictures[i]: facts.ticks.seconds[i] for i in own}
            for rescue in facts.rescues:
                if rescue.at in moments:
                    until("training", min(moments[rescue.at], stop))
                    until("rescue", min(moments[rescue.at] + rescue.seconds, stop))
            until("training", stop)
        else:
            until("ready", stop)
    until("finishing", facts.elapsed_s - (facts.keeping_s or 0.0))
    until("keeping", facts.elapsed_s)
    length = max(facts.elapsed_s, facts.budget_s or 0.0)
    until("left", length)
    deadline = facts.budget_s - facts.plans[-1].reserve_s if facts.budget_s and facts.plans else None
    return Timeline(segments, length, deadline)
