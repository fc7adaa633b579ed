"""What changes over the plan: functions of the share of it that is behind, so that batch and devices may change."""

from __future__ import annotations

import math
from collections.abc import Callable

from kit.models.recipe import ScheduleName


def behind(pictures: int, plan: int | None) -> float:
    """The share of the plan that is behind, 0 to 1; always 0 where there is no plan.

    Args:
        pictures: seen so far.
        plan: pictures in the whole plan.
    """
    return min(pictures / plan, 1.0) if plan else 0.0


SCHEDULES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda share: 0.0,
    "linear": lambda share: share,
    "cosine": lambda share: (1 - math.cos(math.pi * share)) / 2,
}
"""From the share of the plan that is behind to the share of the way from a first value to a last one."""


def scale(schedule: ScheduleName, share: float, *, end: float) -> float:
    """The factor on a value that begins with 1 × itself and ends with `end` × itself.

    Args:
        schedule: how it gets there.
        share: of the plan that is behind, 0 to 1.
        end: the factor at the plan's end.
    """
    return 1 + (end - 1) * SCHEDULES[schedule](share)
