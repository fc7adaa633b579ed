"""Pictures and a feature network that are small enough for any test."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kit.scoring.extract import FeatureSet, feature_set
from kit.scoring.score_record import FeaturesRecord
from kit.scoring.weights import weights_digest

Pixels = NDArray[np.uint8]


def draw(count: int, *, side: int = 16, channels: int = 3, seed: int = 0) -> Pixels:
    """Pictures with some structure: a coloured disc before a gradient, (count, side, side, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side, :1][:2] / side
    pictures = []
    for _ in range(count):
        back, front, slope = rng.uniform(0, 200, (3, 1, 1, channels))
        cy, cx, radius = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.35)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        pictures.append(np.where(disc, front, back + slope * x * 0.5))
    return np.clip(np.stack(pictures) + rng.normal(0, 6, (count, side, side, channels)), 0, 255).astype(np.uint8)


def small_features(
    *, side: int = 12, dim: int = 6, epsilon: float | None = None, trained: bool = True, seed: int = 0
) -> FeatureSet:
    """A network of one convolution, quick enough to run anywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, dim, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return feature_set(
        network, features_record(network, side=side), device=torch.device("cpu"), epsilon=epsilon, trained=trained
    )


def features_record(network: nn.Module, *, side: int, name: str = "small") -> FeaturesRecord:
    """How pictures are prepared for a network of the tests."""
    return FeaturesRecord(
        name=name,
        weights=weights_digest(network),
        input_size=side,
        resize="pillow-bicubic-antialiased",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        dtype="float32",
    )
