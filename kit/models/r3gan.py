"""R3GAN's networks: grouped residual blocks without any normalization (Huang et al. 2024, section 4, config E).

The initialization replaces it: each block begins as the identity (Fixup, Zhang et al. 2019), so that the variance does
not grow with the depth.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from kit.models.layers import ConcatClass, Upsample, split_size

BLOCKS = 2
"""Residual blocks at each side."""

EXPANSION = 2
"""Channels inside a block, in multiples of its input's."""

GROUP = 16
"""Channels of a group of the 3×3 convolutions."""

MAX_MULTIPLE = 8
"""Channels stop growing at 8·width, as in the authors' networks for 256×256."""

SLOPE = 0.2


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _init(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights from N(0, gain² / inputs)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


def _pointwise(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv2d:
    return _init(nn.Conv2d(inputs, outputs, 1, bias=False), gain)


class BiasedLeakyReLU(nn.Module):
    """A bias for each channel, then leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        return leaky_relu(x + self.bias.to(x.dtype)[:, None, None], SLOPE)


class Block(nn.Module):
    """x + 1×1 → 3×3 in groups → 1×1, the last beginning at 0.

    Args:
        channels: in and out.
        depth: blocks in the whole network: the more, the smaller the initial weights.
    """

    def __init__(self, channels: int, *, depth: int) -> None:
        super().__init__()
        inner = channels * EXPANSION
        groups = inner // next(group for group in range(GROUP, 0, -1) if inner % group == 0)
        # Fixup's exponent for three layers, times the gain of leaky ReLU
        gain = depth ** (-1 / 4) * math.sqrt(2 / (1 + SLOPE**2))
        self.layers = nn.Sequential(
            _pointwise(channels, inner, gain),
            BiasedLeakyReLU(inner),
            _init(nn.Conv2d(inner, inner, 3, padding=1, groups=groups, bias=False), gain),
            BiasedLeakyReLU(inner),
            _pointwise(inner, channels, 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class Halve(nn.Module):
    """Halves the side with the filter [1, 3, 3, 1] / 8, which is `Upsample`'s, in both directions.

    The filter is the mean of the means over four and over two neighbours; as pooling it is four times faster, forth and
    back, than as a convolution of each channel in half precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H/2, W/2)."""
        x = (avg_pool2d(x, (4, 1), (2, 1), (1, 0)) + avg_pool2d(x, (2, 1))) / 2
        return (avg_pool2d(x, (1, 4), (1, 2), (0, 1)) + avg_pool2d(x, (1, 2))) / 2


def _widths(width: int, doublings: int) -> list[int]:
    """Channels from the full side down to b×b."""
    return [width * min(2**level, MAX_MULTIPLE) for level in range(doublings + 1)]


class Generator(nn.Module):
    """z → picture: a learned b×b map scaled by z, then blocks and bilinear doublings."""

    def __init__(
        self, *, size: int, channels: int, latent: int, width: int, classes: int = 0, embedding: int = 64
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        base, doublings = split_size(size)
        widths = _widths(width, doublings)[::-1]
        depth = BLOCKS * len(widths)
        self.condition = ConcatClass(classes=classes, length=embedding)
        if self.condition.embedding is not None:  # a linear layer on one-hot labels in the authors' code
            nn.init.normal_(self.condition.embedding.weight, 0.0, 1 / math.sqrt(classes))
        self.modulation = _init(nn.Linear(latent + self.condition.added, widths[0], bias=False))
        self.basis = nn.Parameter(torch.randn(widths[0], base, base))
        layers: list[nn.Module] = [Block(widths[0], depth=depth) for _ in range(BLOCKS)]
        for before, after in pairwise(widths):
            layers += [_pointwise(before, after)] if before != after else []
            layers += [Upsample(), *(Block(after, depth=depth) for _ in range(BLOCKS))]
        self.layers = nn.Sequential(*layers, _pointwise(widths[-1], channels))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W), without bounds as in the authors' code."""
        scales = self.modulation(self.condition(z, y))
        pictures: Tensor = self.layers(self.basis * scales[:, :, None, None])
        return pictures


class Discriminator(nn.Module):
    """Picture → logit: G's mirror image; the b×b map ends in one weighted sum a channel, and a linear layer."""

    def __init__(self, *, size: int, channels: int, width: int, classes: int = 0) -> None:
        super().__init__()
        base, doublings = split_size(size)
        widths = _widths(width, doublings)
        depth = BLOCKS * len(widths)
        layers: list[nn.Module] = [_pointwise(channels, widths[0])]
        for before, after in pairwise(widths):
            layers += [*(Block(before, depth=depth) for _ in range(BLOCKS)), Halve()]
            layers += [_pointwise(before, after)] if before != after else []
        layers += [Block(widths[-1], depth=depth) for _ in range(BLOCKS)]
        self.layers = nn.Sequential(*layers)
        last = widths[-1]
        self.basis = _init(nn.Conv2d(last, last, base, groups=last, bias=False))
        # A vector for each class, or one for all, without a bias: the loss compares logits and would never move it.
        self.outputs = last if classes else 1
        self.linear = _init(nn.Linear(last, self.outputs, bias=False))
        self.embedding = nn.Embedding(classes, last) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 1 / math.sqrt(last * classes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        h: Tensor = self.linear(self.basis(self.layers(x)).flatten(1))
        return h.flatten() if self.embedding is None else (h * self.embedding(y)).sum(dim=1)
