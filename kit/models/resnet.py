"""The residual networks of SAGAN (Zhang et al. 2019) and BigGAN (Brock et al. 2019).

The blocks are those of Miyato et al. 2018 (figures 9 and 10); channels follow SAGAN at 128×64 px and BigGAN's tables 4
and 5 (Brock et al. 2019, appendix B): they double with each halving of the map, up to 16·width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from kit.core.errors import KitError
from kit.models.layers import (
    ConditionalBatchNorm2d,
    InitAndNorm,
    LearnedVector,
    Projection,
    SelfAttention,
    init_orthogonal,
    init_xavier,
    spectral,
    split_size,
)

MAX_MULTIPLE = 16
"""Channels stop growing at 16·width."""


def attention_side(size: int, limit: int) -> int:
    """Side of the map that gets attention: the largest inner one of at most `limit`, 0 if there is none."""
    base, doublings = split_size(size)
    return max((base << level for level in range(1, doublings) if base << level <= limit), default=0)


class ClassConditioning(nn.Module):
    """SAGAN's: z goes to the dense layer, and each batch norm has a gain and a bias for each class.

    Without classes every batch norm is a plain one.
    """

    def __init__(self, *, latent: int, blocks: int, classes: int, embedding: int, init_and_norm: InitAndNorm) -> None:
        super().__init__()
        self.dense = latent  # length of the dense layer's input
        self._classes = classes

    def affine(self, channels: int) -> nn.Module:
        """The gain or the bias of a batch norm (see `ConditionalBatchNorm2d`): one row a class."""
        if not self._classes:
            return LearnedVector(channels)
        embedding = nn.Embedding(self._classes, channels)
        nn.init.zeros_(embedding.weight)
        return embedding

    def forward(self, z: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
        """The input of the dense layer, which is z, and the condition of each block, which is the label."""
        return z, [y] * blocks


class HierarchicalConditioning(nn.Module):
    """BigGAN's: each block gets its own chunk of z and a class embedding shared by all blocks (section 3).

    The gain and the bias of each batch norm are linear functions of the two. The dense layer gets the first chunk, and
    the remainder of the division. The shared embedding has no spectral norm.

    Raises:
        KitError: z is too short.
    """

    def __init__(self, *, latent: int, blocks: int, classes: int, embedding: int, init_and_norm: InitAndNorm) -> None:
        super().__init__()
        chunk = latent // (blocks + 1)
        if not chunk:
            raise KitError(f"latent={latent} is too short for {blocks + 1} layers", f"take latent={blocks + 1} or more")
        self.dense = latent - blocks * chunk
        self.condition = chunk + (embedding if classes else 0)
        self.shared = init_orthogonal(nn.Embedding(classes, embedding)) if classes else None
        self._chunk, self._init_and_norm = chunk, init_and_norm

    def affine(self, channels: int) -> nn.Module:
        """A linear function of a chunk of z and the class embedding."""
        return self._init_and_norm(nn.Linear(self.condition, channels, bias=False))

    def forward(self, z: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
        """The first chunk of z, and for each block the class embedding beside its own chunk."""
        start, *chunks = z.split([self.dense, *[self._chunk] * blocks], dim=1)
        if self.shared is None:
            return start, chunks
        embedding = self.shared(y)
        return start, [torch.cat([embedding, chunk], dim=1) for chunk in chunks]


class UpBlock(nn.Module):
    """A residual block that doubles the side, with conditional batch norm."""

    def __init__(
        self, inputs: int, outputs: int, *, init_and_norm: InitAndNorm, affine: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(inputs, affine)
        self.conv1 = init_and_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm2 = ConditionalBatchNorm2d(outputs, affine)
        self.conv2 = init_and_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = init_and_norm(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        h = self.conv1(interpolate(relu(self.norm1(x, condition)), scale_factor=2))
        h = self.conv2(relu(self.norm2(h, condition)))
        # A 1×1 convolution and nearest-neighbour upsampling commute, and the small map is four times cheaper.
        out: Tensor = h + interpolate(self.skip(x), scale_factor=2)
        return out


class DownBlock(nn.Module):
    """A residual block that halves the side.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        init_and_norm: applied to each convolution.
        first: the input is a picture: no ReLU before the first convolution.
        halve: False keeps the side.
    """

    def __init__(
        self, inputs: int, outputs: int, *, init_and_norm: InitAndNorm, first: bool = False, halve: bool = True
    ) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        self.conv1 = init_and_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = init_and_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = init_and_norm(nn.Conv2d(inputs, outputs, 1)) if halve or inputs != outputs else nn.Identity()

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
        attention: largest side of the map with attention (see `attention_side`).
        conditioning: of the dense layer and of the blocks.
        init_and_norm: applied to each layer.
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        latent: int,
        width: int,
        attention: int,
        classes: int = 0,
        embedding: int = 0,
        conditioning: type[ClassConditioning] | type[HierarchicalConditioning],
        init_and_norm: InitAndNorm,
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        base, doublings = split_size(size)
        widths = [width * min(2**level, MAX_MULTIPLE) for level in range(doublings)][::-1]
        attended = attention_side(size, attention)
        self.conditioning = conditioning(
            latent=latent, blocks=doublings, classes=classes, embedding=embedding, init_and_norm=init_and_norm
        )
        self.dense = nn.Sequential(
            init_and_norm(nn.Linear(self.conditioning.dense, widths[0] * base * base)),
            nn.Unflatten(1, (widths[0], base, base)),
        )
        self.blocks = nn.ModuleList(
            UpBlock(before, after, init_and_norm=init_and_norm, affine=self.conditioning.affine)
            for before, after in pairwise([widths[0], *widths])
        )
        self.attention = nn.ModuleList(
            SelfAttention(after, init_and_norm=init_and_norm) if base << level == attended else nn.Identity()
            for level, after in enumerate(widths, start=1)
        )
        self.out = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), init_and_norm(nn.Conv2d(width, channels, 3, padding=1)), nn.Tanh()
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W) in [−1, 1]."""
        start, conditions = self.conditioning(z, y, len(self.blocks))
        h = self.dense(start)
        for block, attention, condition in zip(self.blocks, self.attention, conditions, strict=True):
            h = attention(block(h, condition))
        pictures: Tensor = self.out(h)
        return pictures


class Discriminator(nn.Module):
    """Picture → logit: residual blocks that halve the side, attention, a sum over the map, a projection.

    Args:
        attention: largest side of the map with attention (see `attention_side`).
        init_and_norm: applied to each layer.
    """

    def __init__(
        self, *, size: int, channels: int, width: int, attention: int, classes: int = 0, init_and_norm: InitAndNorm
    ) -> None:
        super().__init__()
        _, doublings = split_size(size)
        widths = [width * min(2**level, MAX_MULTIPLE) for level in range(doublings + 1)]
        attended = attention_side(size, attention)
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([channels, *widths])):
            halve = level < doublings
            layers.append(DownBlock(before, after, init_and_norm=init_and_norm, first=level == 0, halve=halve))
            if halve and size >> (level + 1) == attended:
                layers.append(SelfAttention(after, init_and_norm=init_and_norm))
        self.layers = nn.Sequential(*layers)
        self.head = Projection(features=widths[-1], classes=classes, init_and_norm=init_and_norm)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        logits: Tensor = self.head(relu(self.layers(x)).sum(dim=(2, 3)), y)
        return logits


def _sagan_layer(layer: nn.Module) -> nn.Module:
    return spectral(init_xavier(layer))


def _biggan_layer(layer: nn.Module) -> nn.Module:
    return spectral(init_orthogonal(layer))


sagan_generator = partial(Generator, conditioning=ClassConditioning, init_and_norm=_sagan_layer)
sagan_discriminator = partial(Discriminator, init_and_norm=_sagan_layer)
biggan_generator = partial(Generator, conditioning=HierarchicalConditioning, init_and_norm=_biggan_layer)
biggan_discriminator = partial(Discriminator, init_and_norm=_biggan_layer)
