"""Residual networks with attention and projection: SAGAN's (Zhang et al. 2019), which BigGAN builds on.

The blocks are those of Miyato et al. 2018 (figures 9 and 10); channels follow SAGAN at 128×64 px and BigGAN's tables 4
and 5 (Brock et al. 2019, appendix B): they double with each halving of the map, up to 16·width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from kit.models.layers import ConditionalBatchNorm2d, Projection, SelfAttention, Unconditioned
from kit.models.sizes import split_size

MAX_MULTIPLE = 16
"""Channels stop growing at 16·width."""

Wrap = Callable[[nn.Module], nn.Module]
"""Draws and normalises a layer's weights."""


def attention_side(size: int, limit: int) -> int:
    """Side of the map that gets attention: the largest inner one of at most `limit`, 0 if there is none."""
    base, doublings = split_size(size)
    return max((base << level for level in range(1, doublings) if base << level <= limit), default=0)


class Conditions(nn.Module):
    """What the parts of a generator are told."""

    dense: int
    """Numbers that the dense layer gets."""

    def affine(self, channels: int) -> nn.Module:
        """The gain or the bias of a batch norm (see `ConditionalBatchNorm2d`)."""
        raise NotImplementedError

    def forward(self, z: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
        """What the dense layer gets, and what the batch norms of each block get, from latents and labels."""
        raise NotImplementedError


class PerClass(Conditions):
    """What SAGAN's blocks are told: the label, for which each batch norm learns gains and biases of its own.

    Args:
        latent: length of z.
        classes: number of classes; 0 makes every batch norm a plain one.
    """

    def __init__(self, *, latent: int, classes: int) -> None:
        super().__init__()
        self.dense = latent
        self._classes = classes

    def affine(self, channels: int) -> nn.Module:
        """A row for each class."""
        if not self._classes:
            return Unconditioned(channels)
        embedding = nn.Embedding(self._classes, channels)
        nn.init.zeros_(embedding.weight)
        return embedding

    def forward(self, z: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
        """All of z to the dense layer, the label to each block."""
        return z, [y] * blocks


class UpBlock(nn.Module):
    """A residual block that doubles the side; batch norm listens to the condition."""

    def __init__(self, inputs: int, outputs: int, *, wrap: Wrap, affine: Callable[[int], nn.Module]) -> None:
        super().__init__()
        # No biases: every path from here ends in a batch norm, which would take them out again.
        self.norm1 = ConditionalBatchNorm2d(inputs, affine)
        self.conv1 = wrap(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
        self.norm2 = ConditionalBatchNorm2d(outputs, affine)
        self.conv2 = wrap(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False))
        self.skip = wrap(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        h = self.conv1(interpolate(relu(self.norm1(x, condition)), scale_factor=2))
        h = self.conv2(relu(self.norm2(h, condition)))
        # A 1×1 convolution and copying pixels may change places, and the small map is four times cheaper.
        out: Tensor = h + interpolate(self.skip(x), scale_factor=2)
        return out


class DownBlock(nn.Module):
    """A residual block that halves the side.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        wrap: draws and normalises the weights.
        first: the input is a picture, not to be cut off below 0.
        halve: false keeps the side.
    """

    def __init__(self, inputs: int, outputs: int, *, wrap: Wrap, first: bool = False, halve: bool = True) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        self.conv1 = wrap(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = wrap(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = wrap(nn.Conv2d(inputs, outputs, 1)) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H/2, W/2), or H, W where it does not halve."""
        h = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        if self.halve:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        out: Tensor = h + self.skip(x)
        return out


class Generator(nn.Module):
    """z → picture: a dense layer to b×b, residual blocks that double the side, attention at one of the maps.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        latent: length of z.
        width: channels of the largest map.
        attention: largest side of the map with attention (see `attention_side`).
        classes: number of classes; 0 is unconditional.
        wrap: draws and normalises each layer's weights.
        conditions: what the dense layer and the blocks are told.
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        latent: int,
        width: int,
        attention: int,
        classes: int,
        wrap: Wrap,
        conditions: Conditions,
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        base, doublings = split_size(size)
        widths = [width * min(2**level, MAX_MULTIPLE) for level in range(doublings)][::-1]
        attended = attention_side(size, attention)
        self.conditions = conditions
        self.dense = nn.Sequential(
            wrap(nn.Linear(conditions.dense, widths[0] * base * base)), nn.Unflatten(1, (widths[0], base, base))
        )
        self.blocks = nn.ModuleList(
            UpBlock(before, after, wrap=wrap, affine=conditions.affine)
            for before, after in pairwise([widths[0], *widths])
        )
        self.attention = nn.ModuleList(
            SelfAttention(after, wrap=wrap) if base << level == attended else nn.Identity()
            for level, after in enumerate(widths, start=1)
        )
        self.out = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), wrap(nn.Conv2d(width, channels, 3, padding=1)), nn.Tanh()
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W) in [−1, 1]."""
        start, told = self.conditions(z, y, len(self.blocks))
        h = self.dense(start)
        for block, attention, condition in zip(self.blocks, self.attention, told, strict=True):
            h = attention(block(h, condition))
        pictures: Tensor = self.out(h)
        return pictures


class Discriminator(nn.Module):
    """Picture → logit: residual blocks that halve the side, attention, a sum over the map, a projection.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        width: channels of the first block.
        attention: largest side of the map with attention (see `attention_side`).
        classes: number of classes; 0 is unconditional.
        wrap: draws and normalises each layer's weights.
    """

    def __init__(self, *, size: int, channels: int, width: int, attention: int, classes: int, wrap: Wrap) -> None:
        super().__init__()
        _, doublings = split_size(size)
        widths = [width * min(2**level, MAX_MULTIPLE) for level in range(doublings + 1)]
        attended = attention_side(size, attention)
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([channels, *widths])):
            halve = level < doublings
            layers.append(DownBlock(before, after, wrap=wrap, first=level == 0, halve=halve))
            if halve and size >> (level + 1) == attended:
                layers.append(SelfAttention(after, wrap=wrap))
        self.layers = nn.Sequential(*layers)
        self.head = Projection(features=widths[-1], classes=classes, wrap=wrap)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        logits: Tensor = self.head(relu(self.layers(x)).sum(dim=(2, 3)), y)
        return logits
