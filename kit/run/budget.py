"""A time budget: what is kept back to finish, when to stop, and when an interim zip is worth its time."""

from __future__ import annotations

from kit.core.clock import Stopwatch, show_duration
from kit.core.errors import KitError
from kit.training.run_record import PlanRecord

MARGIN = 1.5
"""The reserve is this many times what a trial of generating, packing and checking took: a shared machine slows."""

SPARE_S, SPARE_SHARE, SPARE_MOST_S = 4.0, 0.15, 20.0
"""Seconds set aside for what no trial measures: the last tick, the checkpoint, the last words of `run.json`, the exit.

More where the start took long, as the end will take long, too: this share of it, up to so many seconds.
"""

SLOWEST = 3.0
"""The reserve grows with a machine that slows down, up to this many times: one bad tick must not end a run."""

CHECKPOINT_SHARE, CHECKPOINT_MOST_S = 0.05, 60.0
"""At most this much of a budget, and so many seconds, are lost when the process is killed."""

ARTIFACTS_SHARE = 0.03
"""The most of a budget that is kept back for the film and the page of a run."""

INTERIM_SHARE = 0.03
"""What all interim zips together may cost of a budget, and the cost below which the first is written at once."""

INTERIM_LATEST = 0.10
"""Share of the budget after which there is an interim zip, whatever it costs."""


def deadline(plan: PlanRecord, rate: float) -> float:
    """When training must stop if it sees `rate` pictures a second now: what slows it will slow the finish, too."""
    slower = min(max(plan.rate / max(rate, 1e-9), 1.0), SLOWEST)
    return plan.budget_s - slower * plan.reserve_s


def finish_seconds(plan: PlanRecord) -> float:
    """What generating, packing and checking should take, without the margin."""
    return (plan.reserve_s - plan.spare_s - plan.artifacts_s) / MARGIN


def spare(start_s: float) -> float:
    """Seconds to set aside for what no trial measures, where the process took `start_s` seconds to start."""
    return min(max(SPARE_S, SPARE_SHARE * start_s), SPARE_MOST_S)


def reserve(
    trial_s: float,
    *,
    trial: int,
    count: int,
    once_s: float = 0.0,
    whole_s: float = 0.0,
    spare_s: float = SPARE_S,
) -> float:
    """Seconds to keep back for `count` pictures.

    A trial is short, and may fall into a moment in which the machine has nothing else to do. What a whole zip has taken
    is therefore the least, whatever a trial says later.

    Args:
        trial_s: what generating, packing and checking `trial` pictures took, seconds.
        trial: pictures of the trial.
        count: pictures there will be.
        once_s: what it takes however many pictures follow, seconds.
        whole_s: what all `count` pictures took the last time, seconds; 0: there was none.
        spare_s: for what no trial measures, seconds.
    """
    return max((once_s + trial_s * count / trial) * MARGIN, whole_s) + spare_s


def require_enough(budget_s: float, *, started_s: float, reserve_s: float, count: int) -> None:
    """Makes sure that a budget leaves time to train.

    Args:
        budget_s: seconds for the whole process.
        started_s: seconds used when training can begin.
        reserve_s: seconds to keep back at the end.
        count: pictures to generate, for the message.

    Raises:
        KitError: it leaves none, with what would be needed.
    """
    needed = started_s + reserve_s
    if needed >= budget_s:
        raise KitError(
            f"a budget of {show_duration(budget_s)} is too small to generate and pack {count:,} pictures here",
            f"it takes about {show_duration(needed + 1)} without any training: give more, or a smaller --count",
        )


class Pace:
    """Answers the training loop's two questions: is it time for a tick, and is it time to stop.

    Args:
        clock: the process's time.
        tick_s: seconds between two ticks.
        deadline_s: seconds on the clock at which training stops, or None.
        pictures: pictures after which training stops, or None.
    """

    def __init__(self, clock: Stopwatch, *, tick_s: float, deadline_s: float | None, pictures: int | None) -> None:
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
    """Seconds between ticks: a hundredth of the budget, but no flood, and not rarer than the checkpoints they take."""
    return min(max(budget_s / 100, 3.0), checkpoint_seconds(budget_s)) if budget_s else 10.0


class Every:
    """True at the last occasion within an interval since it was last true.

    Args:
        seconds: the interval.
        now: the time at which the first one begins.
        until_next_s: seconds from one occasion to the next.
    """

    def __init__(self, seconds: float, *, now: float, until_next_s: float) -> None:
        self._seconds, self._last, self._until_next_s = seconds, now, until_next_s

    def due(self, now: float) -> bool:
        """Whether it is time, at `now` on the same clock."""
        if now + self._until_next_s - self._last <= self._seconds:
            return False
        self._last = now
        return True


def checkpoint_seconds(budget_s: float | None) -> float:
    """Seconds between checkpoints."""
    return min(CHECKPOINT_SHARE * budget_s, CHECKPOINT_MOST_S) if budget_s else CHECKPOINT_MOST_S


class InterimZipTimes:
    """When to write an `images.zip` in the middle of training, for the case that there is no end.

    The first as soon as it is cheap, or a tenth of the budget is gone; the next whenever the time has doubled and all
    of them together stay cheap.

    Args:
        budget_s: seconds in all.
    """

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._spent_s = 0.0
        self._next_s = 0.0
        self.taken = 0

    def due(self, now_s: float, *, cost_s: float) -> bool:
        """Whether to take one now, if it takes `cost_s` seconds."""
        if not self.taken:
            return cost_s <= INTERIM_SHARE * self._budget_s or now_s >= INTERIM_LATEST * self._budget_s
        return now_s >= self._next_s and self._spent_s + cost_s <= INTERIM_SHARE * self._budget_s

    def took(self, now_s: float, *, cost_s: float) -> None:
        """Notes one that ended at `now_s` and took `cost_s` seconds."""
        self.taken += 1
        self._spent_s += cost_s
        self._next_s = 2 * now_s
