"""How many threads, or processes, work: chosen by measuring, and again when the machine changes.

The threads of a step wait for each other at every operation. Where the system gives the core of one of them to another
program, all wait: beside one busy program, two threads on two cores were seen to train six times slower than one.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator

PREFERRED = 1.05
"""Fewer than the machine offers are taken where they are so many times as fast: trials are short."""

ROUNDS = 3
"""The numbers are measured alternately, so often, and the middle speed counts: one odd moment decides nothing."""

HOPELESS = 2 / 3
"""One thread is not tried where half of them have only this share of the speed of all."""

SLOWER, TICKS = 2 / 3, 3
"""Other numbers are tried where training over so many ticks is below this share of the expected speed."""

FASTER = 1.2
"""Another number is kept where it is so many times as fast."""

TRY_S, TRY_STEPS, TRY_SLOWER = 1.0, 2, 10.0
"""What a try takes at most: so many seconds, and so many steps of a number that is so many times slower."""

WORTH = 3.0
"""A try has to leave so many times the seconds that it may take."""

RETRY_S, RETRY_MOST_S = 30.0, 60.0
"""After so many seconds more threads are tried, for a machine that is quiet again; twice as long after each failure."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user sets the number."""


def is_set_by_user() -> bool:
    """Whether the number is not the kit's to choose."""
    return any(os.environ.get(name) for name in VARIABLES)


def users_number() -> int | None:
    """The number that a user has set; None where there is none."""
    words = [os.environ.get(name, "").partition(",")[0].strip() for name in VARIABLES]
    return next((int(word) for word in words if word.isdecimal() and int(word)), None)


def numbers(available: int) -> list[int]:
    """The numbers that are tried: all, half of them, one."""
    return sorted({available, max(available // 2, 1), 1}, reverse=True)


@contextlib.contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Operations of torch in here use so many threads."""
    import torch  # over a second, and `kit --help` needs none

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Trial:
    """Measures the numbers alternately, and takes the fastest.

    Args:
        available: threads or processes that the machine offers.
        fixed: takes all of them without measuring.
    """

    def __init__(self, available: int, *, fixed: bool = False) -> None:
        tried = [available] if fixed else numbers(available)
        self._speeds: dict[int, list[float]] = {number: [] for number in tried}
        self._to_come = [*self._speeds] * ROUNDS if len(self._speeds) > 1 else []

    @property
    def number(self) -> int:
        """What to work with now: the next to be measured, and once all are, the fastest."""
        return self._to_come[0] if self._to_come else self.fastest

    def is_over(self) -> bool:
        """Whether all were measured."""
        return not self._to_come

    def round_is_over(self) -> bool:
        """Whether all were measured equally often."""
        return len({len(speeds) for speeds in self._speeds.values()}) == 1

    @property
    def fastest(self) -> int:
        """The fastest number as far as was measured; all where the difference is small."""
        all_, *fewer = self._speeds
        best = max(fewer, key=self.speed, default=all_)
        return best if self.speed(best) > PREFERRED * self.speed(all_) else all_

    def speed(self, number: int) -> float:
        """The middle speed of a number, as it was measured; 0: not at all."""
        return statistics.median(self._speeds[number] or [0.0])

    def measured(self, speed: float) -> None:
        """Takes what `number` achieves, in anything a second."""
        self._speeds[self._to_come.pop(0)].append(speed)
        all_, *fewer = self._speeds
        half_is_slow = bool(fewer) and 0 < self.speed(fewer[0]) < HOPELESS * self.speed(all_)
        if len(fewer) == 2 and half_is_slow and not self._speeds[1]:
            del self._speeds[1]
            self._to_come = [number for number in self._to_come if number != 1]

    def stop(self) -> None:
        """Measures no more."""
        self._to_come = []


def fastest(
    measure: Callable[[int], float],
    available: int,
    *,
    most_s: float = float("inf"),
    seconds: Callable[[], float] = time.monotonic,
) -> tuple[int, float]:
    """The number to begin with.

    Args:
        measure: gives the speed of a number, in anything a second.
        available: threads or processes that the machine offers.
        most_s: no further round begins after so many seconds.
        seconds: the clock.

    Returns:
        (number, its speed).
    """
    trial, began = Trial(available), seconds()
    if trial.is_over():
        return available, measure(available)
    while not trial.is_over():
        trial.measured(measure(trial.number))
        if trial.round_is_over() and seconds() - began >= most_s:
            trial.stop()
    return trial.fastest, trial.speed(trial.fastest)


class ThreadTuner:
    """Says when other numbers of threads are worth a try, and takes what the tries gave.

    Args:
        available: threads that the machine offers.
        threads: that are used now.
        rate: pictures a second to be expected with them.
        now_s: seconds of the run.
    """

    def __init__(self, available: int, *, threads: int, rate: float, now_s: float) -> None:
        self.threads = threads
        self._available, self._expected = available, rate
        self._rates: deque[float] = deque(maxlen=TICKS)
        self._wait_s, self._retry_s = RETRY_S, now_s + RETRY_S

    def to_try(self, now_s: float, rate: float, *, left_s: float, batch: int) -> list[int]:
        """The numbers that are worth a try now; mostly none.

        Args:
            now_s: seconds of the run.
            rate: pictures a second since the last tick.
            left_s: seconds until training ends.
            batch: pictures in a step.
        """
        self._rates.append(rate)
        cost_s = TRY_S + TRY_STEPS * TRY_SLOWER * batch / max(rate, 1e-9)
        if left_s < (len(numbers(self._available)) - 1) * WORTH * cost_s:
            return []
        if len(self._rates) == TICKS and self._rate < SLOWER * self._expected:
            return [number for number in numbers(self._available) if number != self.threads]
        if now_s >= self._retry_s:
            return [number for number in numbers(self._available) if number > self.threads]
        return []

    def tried(self, measured: dict[int, float], now_s: float) -> bool:
        """Takes the pictures a second that were measured; true where another number is used from here on."""
        best = max(measured, key=lambda number: measured[number])
        changed = measured[best] > FASTER * self._rate
        if changed:
            self.threads, self._expected, self._wait_s = best, measured[best], RETRY_S
        else:
            self._expected = min(self._expected, self._rate)  # the machine is slower, whatever the number
            self._wait_s = min(2 * self._wait_s, RETRY_MOST_S)
        self._rates.clear()
        self._retry_s = now_s + self._wait_s
        return changed

    @property
    def _rate(self) -> float:
        return sum(self._rates) / max(len(self._rates), 1)
