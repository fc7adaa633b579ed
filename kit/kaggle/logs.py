"""A kernel's log, followed while it runs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kit.kaggle.client import Client
from kit.kaggle.versions import Version


def lines(events: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a log.

    Args:
        events: pieces of output, each with its text in `data`; a piece may end in the middle of a line.
    """
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
    with contextlib.suppress(ValueError):
        kept = json.loads(log)
        if isinstance(kept, list) and all(isinstance(event, dict) for event in kept):
            events = kept
    return list(lines(iter(events)))


class Follower:
    """Reads a running kernel's log in a thread of its own, until it is closed.

    The log is for the reader's eyes; what counts is the status. So nothing that goes wrong with it is an error: the
    stream is opened again, and is told from the beginning, of which what was shown already is passed over.

    Args:
        client: from `client.connect`.
        version: whose kernel's log; Kaggle streams the newest version's.
        show: is given each line, in the follower's thread.
    """

    def __init__(self, client: Client, version: Version, show: Callable[[str], None]) -> None:
        self._client, self._version, self._show = client, version, show
        self._shown = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kernel log", daemon=True)
        self._thread.start()

    def close(self, log: str = "") -> None:
        """Stops following, and shows what of the whole log was not shown yet.

        Args:
            log: as Kaggle keeps it; see `kept_lines`.
        """
        self._closed.set()
        self._thread.join(timeout=1.0)  # it may be waiting for a line that never comes
        self._show_new(kept_lines(log))

    def _follow(self) -> None:
        for pause in self._client.patience.polls():
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
