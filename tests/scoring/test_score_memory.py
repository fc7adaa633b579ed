"""How much memory a score takes: features and one batch, pieces of features in float64, and never a whole set."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scoring_helpers import draw
from torch import nn

from kit.scoring import frechet, memorization, prdc
from kit.scoring.extract import CPU_BATCH, feature_set
from kit.scoring.frechet import gaussian
from kit.scoring.interval import GROUPS, Jackknife, fids

Features = np.ndarray


def cloud(count: int, dim: int, seed: int) -> Features:
    return np.random.default_rng(seed).normal(0.3, 1, (count, dim)).astype(np.float32)


def peak(work: Callable[[], object]) -> int:
    """Bytes that NumPy holds at most while this is done, beyond what it held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


WORK: dict[str, Callable[[Features, Features], object]] = {
    "mean and covariance": lambda generated, real: gaussian(generated),
    "memorization distance": memorization.memorization_distance,
    "precision and recall": prdc.prdc,
}


@pytest.mark.parametrize("what", WORK)
def test_no_set_is_brought_to_float64_as_a_whole(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (frechet, memorization, prdc):
        monkeypatch.setattr(module, "CHUNK", 32)
    generated, real = cloud(1000, 256, 0), cloud(1500, 256, 1)
    WORK[what](generated[:50], real[:50])  # imports and caches
    assert peak(lambda: WORK[what](generated, real)) < generated.size * 8


def test_groups_are_left_out_one_at_a_time() -> None:
    generated, real = cloud(600, 256, 0), gaussian(cloud(600, 256, 1))
    covariances = GROUPS * real.covariance.nbytes
    assert peak(lambda: fids(Jackknife(generated), real)) < covariances


class Wide(nn.Module):
    """As many features as Inception has, of hardly any work."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)).repeat(1, 683)[:, :2048]


STATUS = Path("/proc/self/status")


def held_mb() -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux tells how much memory a process holds")
@pytest.mark.parametrize("told", [True, False])
def test_features_of_one_batch_do_not_keep_its_pictures_memory(told: bool) -> None:
    features = feature_set(
        Wide(),
        name="wide",
        input_size=160,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resize="pillow-bicubic-antialiased",
        dtype="float32",
        device=torch.device("cpu"),
    )
    count = 100 * CPU_BATCH  # a batch is 4.9 MB of pixels and 0.13 MB of features
    pictures = np.broadcast_to(draw(1, side=160), (count, 160, 160, 3))
    features.extract(pictures[: 2 * CPU_BATCH])
    before, most = held_mb(), [0.0]

    def look(done: int, total: int) -> None:
        most[0] = max(most[0], held_mb())

    features.extract(iter(pictures), total=count if told else 0, progress=look)
    assert most[0] - before < 100
