"""Signals as polite requests: training ends at its next step instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

WORDS = {signal.SIGINT: "interrupted (SIGINT)", signal.SIGTERM: "told to stop (SIGTERM)"}


class Stop:
    """Turns SIGINT and SIGTERM into a request while its `with` block lasts.

    A second SIGINT is taken at its word and raises KeyboardInterrupt. Signals reach only the main thread, so
    elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def why(self) -> str | None:
        """The request in words, or None."""
        return WORDS[self.signal] if self.signal else None

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in WORDS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
