"""Two ways to do one thing, timed in turns: the kit's, and what a user would pick instead."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

COLUMNS = ("question", "the kit", "the other way", "ratio", "spread", "CPU ratio")


@dataclass(frozen=True)
class Line:
    """The answer to one question; ratios above 1 say that the kit is faster."""

    question: str
    kit: str  # median, with its unit
    other: str
    ratio: float  # median over the rounds, wall time
    low: float  # the middle half of the rounds
    high: float
    cpu_ratio: float  # by CPU time of all threads and child processes: for a machine that does other things, too

    def cells(self) -> tuple[str, ...]:
        """As columns of the table."""
        return (
            self.question,
            self.kit,
            self.other,
            f"{self.ratio:.2f}×",
            f"{self.low:.2f}–{self.high:.2f}×",
            f"{self.cpu_ratio:.2f}×",
        )


def compare(
    question: str,
    kit: Callable[[], object],
    other: Callable[[], object],
    *,
    repeats: int,
    pictures: int,
    warm_up: bool = True,
) -> Line:
    """Times both in turns, after a warm-up that does not count.

    Args:
        question: what is being asked.
        kit: the kit's way.
        other: the other way, with the same result.
        repeats: rounds; each runs both once.
        pictures: that one run deals with, for milliseconds a picture.
        warm_up: whether to run both once before.
    """
    if warm_up:
        kit(), other()
    rounds = [(_timed(kit), _timed(other)) for _ in range(repeats)]
    ratios = [theirs[0] / ours[0] for ours, theirs in rounds]
    low, _, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    return Line(
        question,
        *(f"{1000 * statistics.median(turn[side][0] for turn in rounds) / pictures:.3g} ms" for side in (0, 1)),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        cpu_ratio=statistics.median(theirs[1] / ours[1] for ours, theirs in rounds),
    )


def table(lines: Iterable[Line]) -> Iterable[str]:
    """The lines as a Markdown table, one by one as they come."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * 3 + "|--:" * 3 + "|"
    for line in lines:
        yield "| " + " | ".join(line.cells()) + " |"


def show(lines: Iterable[Line]) -> None:
    """Prints the table."""
    for row in table(lines):
        print(row, flush=True)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of (wall, CPU), child processes included."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
