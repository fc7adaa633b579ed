"""DiffAugment: augmentation of all pictures that D sees, real and generated (Zhao et al. 2020).

D memorizes a small data set less easily when it sees the pictures augmented. Generated pictures are augmented in the
same ways, and G's gradient passes through the augmentation, so it does not leak into what G makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kit.models.recipe import AugmentName
from kit.training.random import SlicedGenerator

SHIFT = 0.125
"""Largest translation, × the side."""

CUT = 0.5
"""Side of the cut-out square, × the side."""


def augment(x: Tensor, names: Iterable[AugmentName], random: SlicedGenerator) -> Tensor:
    """Augments pictures, each with random parameters of its own; differentiable in `x`.

    Args:
        x: pictures (B, C, H, W) in [−1, 1].
        names: keys of `AUGMENTATIONS`.
        random: source of random numbers, on the pictures' device.
    """
    for name in names:
        x = AUGMENTATIONS[name](x, random)
    return x


def color(x: Tensor, random: SlicedGenerator) -> Tensor:
    """Brightness ± 0.5, then saturation × 0 to 2, then contrast × 0.5 to 1.5."""
    brightness, saturation, contrast = (_uniform(x, random) for _ in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = torch.lerp(grey, x, saturation * 2)
    return torch.lerp(x.mean(dim=(1, 2, 3), keepdim=True), x, contrast + 0.5)


def translation(x: Tensor, random: SlicedGenerator) -> Tensor:
    """Moved by up to an eighth of the side each way; the border is filled with 0, a middle grey."""
    rows, rows_inside = _shifted(x, x.shape[2], random)
    columns, columns_inside = _shifted(x, x.shape[3], random)
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    # Pixels are gathered as vectors of channels, the way they lie in channels-last memory.
    moved = x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved * (rows_inside[:, :, None] & columns_inside[:, None, :])[:, None]


def cutout(x: Tensor, random: SlicedGenerator) -> Tensor:
    """A square of half the side set to 0; its centre may lie anywhere, so that part of it may be outside."""
    rows, columns = (_cut(x, side, random) for side in x.shape[2:])
    return x * ~(rows[:, :, None] & columns[:, None, :])[:, None]


def _uniform(x: Tensor, random: SlicedGenerator) -> Tensor:
    """A number in [0, 1) for each picture, (B, 1, 1, 1)."""
    return random.uniform(len(x), 1, 1, 1, dtype=x.dtype)


def _shifted(x: Tensor, side: int, random: SlicedGenerator) -> tuple[Tensor, Tensor]:
    """The source line of each line of each picture, (B, side), and whether it lies inside."""
    most = int(side * SHIFT + 0.5)
    shift = random.integers(-most, most + 1, len(x), 1)
    source = torch.arange(side, device=x.device) + shift
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _cut(x: Tensor, side: int, random: SlicedGenerator) -> Tensor:
    """Whether the square covers each line of each picture, (B, side)."""
    cut = int(side * CUT + 0.5)
    centre = random.integers(0, side + 1 - cut % 2, len(x), 1)
    first = centre - cut // 2
    line = torch.arange(side, device=x.device)
    return (line >= first) & (line < first + cut)


AUGMENTATIONS: dict[AugmentName, Callable[[Tensor, SlicedGenerator], Tensor]] = {
    "none": lambda x, random: x,
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
