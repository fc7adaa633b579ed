"""Durations as people type them, and the age of this process."""

from __future__ import annotations

import re
import time
from pathlib import Path

from kit.errors import KitError

_IMPORTED = time.monotonic()
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(text: str) -> float:
    """Seconds in "9h", "1h30m", "90s", "3m" or plain "45".

    Raises:
        KitError: it is none of these, or nothing.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        raise KitError(f"{text!r} is no duration", "write it like 9h, 1h30m, 3m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise KitError(f"{text!r} is no time at all", "write it like 9h, 1h30m, 3m or 90s")
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


class Stopwatch:
    """The time a run has used: this process's, counted from its start (imports and all), and that of earlier ones."""

    def __init__(self) -> None:
        self._origin = time.monotonic() - process_age()

    def seconds(self) -> float:
        """Seconds used so far."""
        return time.monotonic() - self._origin

    def add(self, seconds: float) -> None:
        """Counts what an earlier process used on the same run."""
        self._origin -= seconds
