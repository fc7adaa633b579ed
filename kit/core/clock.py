"""Durations as people type them, and the age of this process."""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from kit.core.errors import KitError

T = TypeVar("T")

_IMPORTED = time.monotonic()
LONGEST_S = 366 * 24 * 3600.0

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(text: str) -> float:
    """Seconds in "9h", "1h30m", "90s", "3m" or plain "45".

    Raises:
        KitError: it is none of these, or nothing.
    """
    match = _DURATION.fullmatch(text.strip().lower()) if text.isascii() else None
    if not match or not any(match.groups()):
        raise KitError(f"{text!r} is not a duration", "write it like 9h, 1h30m, 3m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= LONGEST_S:
        shown = text if len(text) <= 40 else f"{text[:37]}…"
        raise KitError(f"{shown!r} is not a time between 0 and a year", "write it like 9h, 1h30m, 3m or 90s")
    return total


def show_duration(seconds: float) -> str:
    """The shortest exact way to say a duration to the second: 32400 → "9h", 95 → "1m35s"."""
    whole = max(0, round(seconds))
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"


def process_age() -> float:
    """Seconds since this process started, its imports included.

    Linux knows the exact start; elsewhere the count begins with the kit's own import, a fraction of a second later.
    """
    try:
        # Field 22 of stat counts clock ticks since boot; the command in field 2 may hold spaces and brackets.
        import os

        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED


def parse_moment(text: str) -> float:
    """Seconds since 1970 in "1763800000" or "2026-11-22T09:00:00+00:00"; without a zone it is this machine's.

    Raises:
        KitError: it is neither, or has not come yet.
    """
    try:
        moment = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip()).timestamp()
        except (ValueError, OverflowError, OSError):
            raise KitError(
                f"{text!r} is not a moment", "write it like 2026-11-22T09:00:00, or in seconds since 1970"
            ) from None
    if not 0 < moment <= time.time() + 1:
        raise KitError(f"{text!r} is not a moment in the past", "give the time at which the clock began to run")
    return moment


class Stopwatch:
    """The time a run has used: this process's, counted from its start (imports and all), and that of earlier ones.

    Args:
        started_at: when the clock began to run, in seconds since 1970 (`time.time()`), if that was before this process,
            as in a kernel; None: the process's start, but in an interactive session (IPython, a notebook) now.
    """

    def __init__(self, started_at: float | None = None) -> None:
        if started_at is not None:
            age = time.time() - started_at
        else:
            age = 0.0 if hasattr(builtins, "__IPYTHON__") else process_age()
        self._origin = time.monotonic() - age

    @property
    def started_at(self) -> float:
        """When the clock began to run, in seconds since 1970."""
        return time.time() - self.seconds()

    def seconds(self) -> float:
        """Seconds used so far."""
        return time.monotonic() - self._origin

    def add(self, seconds: float) -> None:
        """Counts what an earlier process used on the same run."""
        self._origin -= seconds


class Waited(Generic[T]):
    """The items of something, and how many seconds were spent on waiting for them."""

    def __init__(self, items: Iterable[T]) -> None:
        self.seconds = 0.0
        self._items = iter(items)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        began = time.monotonic()
        try:
            return next(self._items)
        finally:
            self.seconds += time.monotonic() - began
