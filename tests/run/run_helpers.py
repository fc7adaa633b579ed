"""What the tests of runs share."""

from __future__ import annotations

import time

from kit.core.clock import Stopwatch
from kit.data.batches import Batches


class Clock(Stopwatch):
    """A process that starts now: the tests' own is older than their budgets."""

    def __init__(self) -> None:
        self._origin = time.monotonic()


class Even(Clock):
    """A machine on which the same takes as long every time: so much from one look at the clock to the next."""

    STEP_S = 0.05

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self._origin = self._now = 0.0

    def seconds(self) -> float:
        self._now += self.STEP_S
        return self._now - self._origin

    def passes(self, seconds: float) -> None:
        """Something took so long."""
        self._now += seconds


def steps_take(monkeypatch, clock: Even, seconds: float) -> None:
    """Each batch that is drawn takes so long on the machine of this clock."""
    draw = Batches.draw

    def drawn(self, position, count):
        clock.passes(seconds)
        return draw(self, position, count)

    monkeypatch.setattr(Batches, "draw", drawn)


class Silent:
    """A callback that says nothing."""

    def on_plan(self, record):
        pass

    def on_tick(self, tick):
        pass

    def on_progress(self, stage, done, total):
        pass
