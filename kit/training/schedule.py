"""Schedules over the planned pictures: functions of progress, 0 to 1, so that batch size and devices may change."""

from __future__ import annotations

import math
from collections.abc import Callable

from kit.models.recipe import ScheduleName

SCHEDULES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}
"""From the progress of training, 0 to 1, to the way from the first value to the last, 0 to 1."""


def progress(pictures: int, total_images: int | None) -> float:
    """How much of the planned training is done, 0 to 1; 0 where nothing is planned.

    Args:
        pictures: seen so far.
        total_images: planned in all.
    """
    return min(pictures / total_images, 1.0) if total_images else 0.0


def scale(schedule: ScheduleName, progress: float, *, end: float, start: float = 0.0) -> float:
    """The factor on a scheduled value: 1 until progress reaches `start`, `end` at the end of training."""
    progress = max(0.0, progress - start) / (1 - start)
    return 1 + (end - 1) * SCHEDULES[schedule](progress)
