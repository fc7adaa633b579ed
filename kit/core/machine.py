"""What this machine lends to this process."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container says how much memory it may use: versions 2 and 1 of Linux's control groups."""


def cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use, the container's limit if there is one; None where it is not known."""
    limits = [_number(path) for path in CGROUP_LIMITS]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit), default=None)


def _number(path: Path) -> int | None:
    """The number that a file holds; None where there is no such file, or a word ("max") in it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
