"""A kernel's log: plain lines, each with the time since the kernel's start, few enough for nine hours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from kit.core.clock import Stopwatch, show_duration

EVERY_S = 30.0
"""Of a long work at most one line in so many seconds."""


class Log:
    """Writes a kernel's log; it listens to training as the command line's screen does.

    Args:
        clock: the kernel's time.
    """

    def __init__(self, clock: Stopwatch) -> None:
        self._clock = clock
        self._record: Any = {}
        handler = _Handler(self)
        logging.getLogger("kit").setLevel(logging.INFO)
        logging.getLogger("kit").handlers = [handler]
        self.after_tick: Callable[[], None] = _nothing

    def say(self, text: str) -> None:
        """A line."""
        print(f"[{show_duration(self._clock.seconds())}] {text}", flush=True)

    def progress(self, done_word: str, unit: str) -> Callable[[int, int], None]:
        """A callback (done, total) that says "prepared 5,000 of 20,579 pictures" now and then."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY_S:
                last = time.monotonic()
                self.say(f"{done_word} {done:,} of {total:,} {unit}")

        return report

    def on_plan(self, record: Any) -> None:
        """Says what is going to happen."""
        self._record = record
        device, plan = record.device, record.plans[-1]
        self.say(f"{record.recipe.model}, seed {record.seed}, on {device.name} ({device.precision})")
        self.say(
            f"training until {show_duration(plan.deadline_s)}, on about {plan.total_images:,} "
            f"pictures; then {show_duration(plan.reserve_s)} to generate, pack and check {record.count:,}"
        )

    def on_tick(self, tick: Any) -> None:
        """A tick in a line, and what else happens once a tick."""
        plan = self._record.plans[-1]
        left = plan.deadline_s - self._clock.seconds()
        self.say(
            f"{tick.pictures:,} pictures  {tick.pictures_per_s:.0f}/s  D {tick.loss_d:.3f}  "
            f"G {tick.loss_g:.3f}  D(x) {tick.d_real:.2f}  D(G(z)) {tick.d_fake:.2f}  "
            f"left {show_duration(left)}"
        )
        handler = _Handler(self)
        logging.getLogger("kit").setLevel(logging.INFO)
        logging.getLogger("kit").handlers = [handler]
        self.after_tick()

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Says when generating and packing are done."""
        if done == total:
            self.say(f"generated and packed {total:,} {stage}")


class _Handler(logging.Handler):
    """Puts what the kit says into the kernel's log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message."""
        self._log.say(self.format(record))


def _nothing() -> None:
    """No work."""
