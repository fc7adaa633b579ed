"""A kernel's log: how the kernel writes it on Kaggle's machine, and how it is read from here.

Plain lines, each with the time since the kernel's start, few enough for nine hours.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kit.core.clock import Stopwatch, show_duration
from kit.core.progress import Progress

if TYPE_CHECKING:
    from kit.kaggle.client import Client
    from kit.kaggle.versions import Version
    from kit.training.run_record import RunRecord, TickRecord

log = logging.getLogger(__name__)

LINE_S = 30.0
"""Of a long work at most one line in so many seconds."""

TICK = re.compile(r"\[[^]]+\] [\d,]+ pictures  ")
"""How a line of `KernelLog.on_tick` begins: there are thousands, and the last tells all."""

Show = Callable[[str], None]
"""Is given each line of a kernel's log; it may be called in another thread."""


# ---- written there


class KernelLog(logging.Handler):
    """Writes the log: it takes what the kit says, and is the callback of training."""

    def __init__(self, clock: Stopwatch, *, after_tick: Callable[[], None] = lambda: None) -> None:
        super().__init__(logging.INFO)
        self._clock, self._after_tick = clock, after_tick
        self._deadline_s = 0.0
        logging.getLogger("kit").setLevel(logging.INFO)
        logging.getLogger("kit").handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        print(f"[{show_duration(self._clock.seconds())}] {self.format(record)}", flush=True)

    def on_plan(self, record: RunRecord) -> None:
        """Says what is going to happen."""
        device, plan = record.device, record.plans[-1]
        self._deadline_s = plan.deadline_s
        log.info("%s, seed %d, on %s (%s)", record.recipe.model, record.seed, device.name, device.precision)
        log.info(
            f"training until {show_duration(plan.deadline_s)}, on about {plan.total_images:,} "
            f"pictures; then {show_duration(plan.reserve_s)} to generate, pack and check {record.count:,}"
        )

    def on_tick(self, tick: TickRecord) -> None:
        """A tick in a line, and what else happens once a tick."""
        log.info(
            f"{tick.pictures:,} pictures  {_number(tick.pictures_per_s, 0)}/s  D {_number(tick.loss_d, 3)}  "
            f"G {_number(tick.loss_g, 3)}  D(x) {_number(tick.d_real, 2)}  D(G(z)) {_number(tick.d_fake, 2)}  "
            f"left {show_duration(self._deadline_s - self._clock.seconds())}"
        )
        self._after_tick()

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Says when generating and packing are done."""
        if done == total:
            log.info(f"generated and packed {total:,} {stage}")


def progress_lines(words: str) -> Progress:
    """Says "prepared pictures: 5,000 of 20,579" now and then."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            log.info(f"{words}: {done:,} of {total:,}")

    return report


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


# ---- read here


def lines(events: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a log that comes in pieces, each with its text in `data`; one may end in the middle of a line."""
    rest = ""
    for event in events:
        # A progress bar returns to the beginning of its line: each state counts as one.
        *whole, rest = (rest + str(event.get("data", ""))).replace("\r", "\n").split("\n")
        yield from (line.rstrip() for line in whole if line.strip())
    if rest.strip():
        yield rest.rstrip()


def kept_lines(log: str) -> list[str]:
    """The lines of a log as Kaggle keeps it: JSON with one object a piece, or plain text."""
    events: list[Mapping[str, Any]] = [{"data": log}]
    with contextlib.suppress(ValueError, RecursionError):
        kept = json.loads(log)
        if isinstance(kept, list) and all(isinstance(event, dict) for event in kept):
            events = kept
    return list(lines(iter(events)))


class Follower:
    """Reads the log of a kernel's newest version in a thread of its own, until it is closed.

    The log is for the reader's eyes; what counts is the status. So nothing that goes wrong with it is an error: the
    stream is opened again, and is told from the beginning, of which what was shown already is passed over.
    """

    def __init__(self, client: Client, version: Version, show: Show) -> None:
        self._client, self._version, self._show = client, version, show
        self._shown = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kernel log", daemon=True)
        self._thread.start()

    def close(self, kept: Iterable[str] = ()) -> None:
        """Stops following, and shows what was not shown yet of the lines that Kaggle keeps."""
        self._closed.set()
        self._thread.join(timeout=1.0)  # it may be waiting for a line that never comes
        self._show_new(kept)

    def _follow(self) -> None:
        for pause in self._client.policy.polls():
            # The client raises anything. A stream that ends may have been cut, or the log be at its end.
            with contextlib.suppress(Exception):
                self._show_new(lines(self._client.api.kernels_logs_stream(self._version.kernel)))
            if self._closed.wait(pause):
                return

    def _show_new(self, told: Iterable[str]) -> None:
        for number, line in enumerate(told, start=1):
            if number > self._shown:
                self._shown = number
                self._show(line)
            if self._closed.is_set() and threading.current_thread() is self._thread:
                return
