"""When to stop: a fixed number of pictures, or a deadline that leaves enough to generate, pack and check."""

from __future__ import annotations

from dataclasses import dataclass

from kit.clock import Stopwatch, show_duration
from kit.errors import KitError

MARGIN = 1.5
"""The reserve is this many times what a trial of generating, packing and checking took: a shared machine slows."""

SPARE_S = 2.0
"""Seconds set aside for what no trial measures: the last step, the checkpoint, leaving."""


@dataclass(frozen=True)
class Plan:
    """How a run's time is to be spent; all in seconds since the process started."""

    budget_s: float
    started_s: float  # when training could begin
    reserve_s: float  # kept back for generating, packing and checking

    @property
    def deadline_s(self) -> float:
        """When training must stop."""
        return self.budget_s - self.reserve_s


def reserve(trial_s: float, *, trial: int, count: int) -> float:
    """Seconds to keep back for `count` pictures when a trial of `trial` pictures took `trial_s` seconds."""
    return trial_s * count / trial * MARGIN + SPARE_S


def plan(budget_s: float, *, started_s: float, reserve_s: float, count: int) -> Plan:
    """Divides a budget.

    Args:
        budget_s: seconds for the whole process.
        started_s: seconds used when training can begin.
        reserve_s: seconds to keep back at the end.
        count: pictures to generate, for the message.

    Raises:
        KitError: the budget leaves no time to train, with what would be needed.
    """
    needed = started_s + reserve_s
    if needed >= budget_s:
        raise KitError(
            f"a budget of {show_duration(budget_s)} is too small to generate and pack {count:,} pictures here",
            f"it takes about {show_duration(needed + 1)} without any training: give more, or a smaller --count",
        )
    return Plan(budget_s, started_s, reserve_s)


class Pace:
    """Answers the training loop's two questions: is it time for a tick, and is it time to stop.

    Args:
        clock: the process's time.
        deadline_s: seconds since the start of the process at which training stops, or None.
        pictures: pictures after which training stops, or None.
        tick_s: seconds between two ticks.
    """

    def __init__(self, clock: Stopwatch, *, deadline_s: float | None, pictures: int | None, tick_s: float) -> None:
        self.deadline_s, self.pictures = deadline_s, pictures
        self._clock, self._tick_s = clock, tick_s
        self._next_tick = clock.seconds() + tick_s

    def tick_due(self, pictures: int) -> bool:
        """True once in every `tick_s` seconds."""
        now = self._clock.seconds()
        due = now >= self._next_tick
        if due:
            self._next_tick = now + self._tick_s
        return due

    def done(self, pictures: int) -> bool:
        """True once the pictures are seen, or the deadline has come."""
        if self.pictures is not None and pictures >= self.pictures:
            return True
        return self.deadline_s is not None and self._clock.seconds() >= self.deadline_s


def tick_seconds(budget_s: float | None) -> float:
    """Seconds between ticks: a hundredth of the budget, but neither a flood nor a silence."""
    return min(max(budget_s / 100, 3.0), 120.0) if budget_s else 10.0
