"""The kernel Inception distance (Bińkowski et al. 2018), which is unbiased for any number of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUBSETS = 100
SUBSET_SIZE = 1000
"""As is usual: the mean over 100 random subsets of 1,000 pictures of each side."""


@dataclass(frozen=True)
class Kid:
    """Mean and standard deviation over the subsets, and how many pictures of each side a subset has."""

    mean: float
    std: float
    subset_size: int


def kid(
    generated: NDArray[Any],
    real: NDArray[Any],
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> Kid:
    """The squared maximum mean discrepancy under the kernel (x·y / D + 1)³, over random subsets.

    Its expectation does not depend on the number of pictures, so it may be negative for equal distributions.

    Args:
        generated: features (N, D), any float type.
        real: features (M, D).
        subsets: how many are drawn.
        subset_size: pictures of each side in a subset; at most as many as the smaller side has.
        seed: of the subsets.

    Raises:
        ValueError: fewer than two rows on a side, or another dimension.
    """
    size = min(subset_size, len(generated), len(real))
    if size < 2 or generated.shape[1:] != real.shape[1:]:
        raise ValueError(f"features of shapes {generated.shape} and {real.shape}; each side needs at least two rows")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x = generated[rng.choice(len(generated), size, replace=False)].astype(np.float64)
        y = real[np.sort(rng.choice(len(real), size, replace=False))].astype(np.float64)  # may be memory-mapped
        values.append(_discrepancy(x, y))
    return Kid(float(np.mean(values)), float(np.std(values)), size)


def _discrepancy(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The unbiased estimate (equation 4): without the pairs of a picture with itself."""
    n, within = len(x), 0.0
    for rows in (x, y):
        values = _kernel(rows, rows)
        within += values.sum() - np.trace(values)
    return float(within / (n * (n - 1)) - 2 * _kernel(x, y).mean())


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return values
