"""How many threads a training step uses: chosen by measuring, and again when the machine changes.

The threads of a step wait for each other at every operation. Where the system gives the core of one of them to another
program, all wait: beside one busy program, two threads on two cores were seen to train six times slower than one.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator

import torch

PREFERRED = 1.05
"""Fewer threads than the machine offers are taken where they are so many times as fast: trials are short."""

SLOWER, TICKS = 2 / 3, 3
"""Other numbers are tried where training over so many ticks is below this share of the expected speed."""

FASTER = 1.2
"""Another number is kept where it is so many times as fast."""

RETRY_S, RETRY_MOST_S = 30.0, 60.0
"""After so many seconds more threads are tried, for a machine that is quiet again; twice as long after each failure."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user sets the number."""


def is_set_by_user() -> bool:
    """Whether the number of threads is not the kit's to choose."""
    return any(os.environ.get(name) for name in VARIABLES)


def numbers(available: int) -> list[int]:
    """The numbers of threads that are tried: all, half of them, one."""
    return sorted({available, max(available // 2, 1), 1}, reverse=True)


def fastest(measure: Callable[[int], float], available: int) -> tuple[int, float]:
    """The number of threads to begin with.

    Args:
        measure: gives the pictures a second with a number of threads.
        available: threads that the machine offers.

    Returns:
        (threads, pictures a second with them).
    """
    best, rate = available, measure(available)
    for number in numbers(available)[1:]:
        measured = measure(number)
        if measured > PREFERRED * rate:
            best, rate = number, measured
    return best, rate


@contextlib.contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Operations of torch in here use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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

    def to_try(self, now_s: float, rate: float) -> list[int]:
        """The numbers that are worth a try now; mostly none.

        Args:
            now_s: seconds of the run.
            rate: pictures a second since the last tick.
        """
        self._rates.append(rate)
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
