"""How long a score will take, said before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kit.core.clock import show_duration

SIDE = 768
"""Of the matrices whose product is timed: large enough for all cores, small enough not to be noticed."""

EIGEN = 12
"""An eigenvalue decomposition costs about so many times D³ multiply-adds at the speed of a matrix product."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is about to be done, and how long it should take."""

    seconds: float
    generated: int  # pictures to extract features of
    real: int  # real ones, besides those already kept
    cached: int  # real ones whose features are kept

    def __str__(self) -> str:
        parts = [f"{self.generated:,} generated pictures"]
        if self.real:
            parts.append(f"{self.real:,} real ones")
        kept = f" ({self.cached:,} real ones are known already)" if self.cached else ""
        return f"features of {' and '.join(parts)}{kept}: about {show_duration(max(1, self.seconds))}"


def arithmetic_seconds(*, generated: int, real: int, dim: int) -> float:
    """What statistics, Fréchet distance and memorization distance will take on this machine, roughly."""
    multiply_adds = generated * real * dim + (generated + real) * dim**2 + EIGEN * dim**3
    return multiply_adds / _multiply_adds_per_second()


def _multiply_adds_per_second() -> float:
    matrix = np.ones((SIDE, SIDE))
    matrix @ matrix  # the first one starts the threads
    began = time.perf_counter()
    matrix @ matrix
    return SIDE**3 / (time.perf_counter() - began)
