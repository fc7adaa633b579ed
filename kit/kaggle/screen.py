"""What a user sees of a kernel that runs: its log, with the training's ticks in one line that is written over."""

from __future__ import annotations

import logging
import re
import time
from types import TracebackType
from typing import Self

from rich.status import Status

from kit.core.console import stderr
from kit.core.text import safe

log = logging.getLogger(__name__)

TICK = re.compile(r"\[[^]]+\] [\d,]+ pictures  ")
"""How a line of `kit.kaggle.log.Log.on_tick` begins: there are thousands, and the last tells all."""

LINE_S = 60.0
"""Where there is no terminal, a tick at most this often."""


class KernelScreen:
    """Shows the lines of a kernel's log on stderr; a `kit.kaggle.watch.Show`."""

    def __init__(self) -> None:
        self._console = stderr()
        self._status: Status | None = None
        self._last_tick = -LINE_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
            self._status = None
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            log.info("the kernel runs on; the same command watches on")

    def __call__(self, line: str) -> None:
        """A line of the kernel's."""
        line = safe(line)
        if not TICK.match(line):
            self._console.print(f"  {line}", markup=False)
        elif self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status("", refresh_per_second=4)
                self._status.start()
            self._status.update(line.replace("[", r"\["))
        elif time.monotonic() - self._last_tick >= LINE_S:
            self._last_tick = time.monotonic()
            self._console.print(f"  {line}", markup=False)
