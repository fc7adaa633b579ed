"""Resizes and memory: the resizes against Pillow through torchvision, and against TensorFlow 1's rule written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scoring_helpers import draw, features_record
from torch import nn
from torchvision import transforms

from kit.scoring.extract import CPU_BATCH, RESIZES, feature_set, pillow_bicubic, tf1_bilinear


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tf1_by_loops(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """Source position = output index × input / output; the neighbour beyond the edge is the edge."""
    height, width, _ = pixels.shape
    out = np.empty((side, side, 3))
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            corners = (
                ((1 - (y - y0)) * (1 - (x - x0)), pixels[y0, x0]),
                ((1 - (y - y0)) * (x - x0), pixels[y0, x1]),
                ((y - y0) * (1 - (x - x0)), pixels[y1, x0]),
                ((y - y0) * (x - x0), pixels[y1, x1]),
            )
            out[i, j] = sum(weight * value for weight, value in corners)
    return out


@pytest.mark.parametrize("name", sorted(RESIZES))
@pytest.mark.parametrize("shape", [(28, 28), (300, 200), (37, 37)])
def test_every_resize_keeps_range_flat_colour_and_the_right_size(name: str, shape: tuple[int, int]) -> None:
    original = picture(*shape)
    resized = RESIZES[name](original, 37)
    assert resized.shape == (37, 37, 3)
    assert resized.min() >= 0
    assert resized.max() <= 255
    assert (RESIZES[name](np.full((*shape, 3), 77, np.uint8), 37) == 77).all()
    assert shape != (37, 37) or (resized == original).all()


@pytest.mark.parametrize(("shape", "side"), [((64, 64), 299), ((100, 50), 75)])
def test_bicubic_is_what_timm_and_torchvision_evaluate_with(shape: tuple[int, int], side: int) -> None:
    original = picture(*shape)
    resize = transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC)
    assert (pillow_bicubic(original, side) == np.asarray(resize(Image.fromarray(original)))).all()


@pytest.mark.parametrize(("shape", "side"), [((5, 7), 12), ((90, 61), 40)])
def test_tf1_bilinear_equals_its_rule(shape: tuple[int, int], side: int) -> None:
    original = picture(*shape)
    np.testing.assert_allclose(tf1_bilinear(original, side), tf1_by_loops(original, side), atol=2e-3)


def test_tf1_bilinear_moves_the_picture_up_and_left() -> None:
    ramp = np.repeat(np.arange(0, 200, 50, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)
    # Without half-pixel centres the first output column is the first input column, and the last two are equal.
    assert tf1_bilinear(ramp, 8)[0, :, 0].tolist() == [0, 25, 50, 75, 100, 125, 150, 150]


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
    features = feature_set(Wide(), features_record(Wide(), side=160), device=torch.device("cpu"))
    count = 100 * CPU_BATCH  # a batch is 4.9 MB of pixels and 0.13 MB of features
    pictures = np.broadcast_to(draw(1, side=160), (count, 160, 160, 3))
    features.extract(pictures[: 2 * CPU_BATCH])
    before, most = held_mb(), [0.0]

    def look(done: int, total: int) -> None:
        most[0] = max(most[0], held_mb())

    features.extract(iter(pictures), total=count if told else 0, progress=look)
    assert most[0] - before < 100
