"""Signals: training ends at its next step; everything else unwinds, so that nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

WORDS = {
    getattr(signal, name): why
    for name, why in (
        ("SIGINT", "interrupted (SIGINT)"),
        ("SIGTERM", "told to stop (SIGTERM)"),
        ("SIGHUP", "the terminal was closed (SIGHUP)"),
    )
    if hasattr(signal, name)  # Windows has no SIGHUP
}
"""The signals that ask a process to end, and why a run that was asked ended."""

PARENT_CHECK_S = 1.0
"""Seconds between two checks that the parent process is still there."""


class Stop:
    """Turns signals into a request while its `with` block lasts.

    A second SIGINT raises KeyboardInterrupt. Signals reach only the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._handling = _Handlers(self._ask)

    @property
    def why(self) -> str | None:
        """The request in words, or None."""
        return WORDS[self.signal] if self.signal else None

    @property
    def at_once(self) -> bool:
        """Whether another program asked (SIGTERM, SIGHUP): it may kill this process soon."""
        return self.signal not in (None, signal.SIGINT)

    def __enter__(self) -> Stop:
        self._handling.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.__exit__(*error)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP unwind this process as Ctrl-C does, with exit code 128 + their number."""

    def leave(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    with _Handlers(leave):
        yield


def ignore_signals() -> None:
    """Leaves signals to the process that started this one, and that tells it when to end."""
    for number in WORDS:
        signal.signal(number, signal.SIG_IGN)


def exit_with_parent(code: int = 1) -> None:
    """Ends this process with `code`, whatever it is doing, soon after the process that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(code)

    threading.Thread(target=watch, daemon=True).start()


class _Handlers:
    """One handler for all of `WORDS` while a block lasts. SIGHUP stays ignored where it is (`nohup`)."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            hangup = getattr(signal, "SIGHUP", None)
            for number in WORDS:
                if number != hangup or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
