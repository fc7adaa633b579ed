"""The plain convolutional networks of DCGAN and of spectral normalization.

DCGAN: strided convolutions, batch norm, no pooling, no hidden dense layers (Radford et al. 2016, section 3). SN-DCGAN:
the networks of Miyato et al. 2018, table 3.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from kit.models.layers import (
    NORMS,
    ConcatClass,
    ConditionalBatchNorm2d,
    Projection,
    init_normal,
    init_zero,
    normalize,
    normalize_weights,
    split_size,
)
from kit.models.recipe import NormName

MAX_MULTIPLE = 8
"""Channels stop growing at 8·width, the paper's widest layer at 64×64; larger pictures only add layers."""


def channels_by_level(width: int, doublings: int) -> list[int]:
    """Channels from the largest map (at half the picture's side) down to the smallest (b×b)."""
    return [width * min(2**level, MAX_MULTIPLE) for level in range(doublings)]


def up(inputs: int, outputs: int, *, bias: bool = False) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the side."""
    return init_normal(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))


def down(inputs: int, outputs: int, *, bias: bool) -> nn.Conv2d:
    """A convolution that halves the side."""
    return init_normal(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))


class Generator(nn.Module):
    """z → picture: a projection to b×b, then transposed convolutions that double the side.

    Width 64 is PyTorch's tutorial, 128 the paper.

    Args:
        modulate: z, and with classes their embedding, also decide gain and bias of each batch norm: self-modulation
            (Chen et al. 2019). Every layer then knows what is to be drawn, and G learns in fewer pictures.
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        latent: int,
        width: int,
        classes: int = 0,
        embedding: int = 64,
        modulate: bool = False,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        base, doublings = split_size(size)
        widths = channels_by_level(width, doublings)[::-1]
        self.condition = ConcatClass(classes=classes, length=embedding)
        inputs, bias = latent + self.condition.added, not NORMS[norm].has_bias

        def affine(outputs: int) -> nn.Module:
            return init_zero(nn.Linear(inputs, outputs))

        def normalized(layer: nn.ConvTranspose2d) -> list[nn.Module]:
            if modulate:
                return [layer, ConditionalBatchNorm2d(layer.out_channels, affine)]
            return normalize(layer, norm)

        layers = [
            *normalized(init_normal(nn.ConvTranspose2d(inputs, widths[0], base, bias=bias))),
            nn.ReLU(inplace=True),
        ]
        for wide, narrow in pairwise(widths):
            layers += [*normalized(up(wide, narrow, bias=bias)), nn.ReLU(inplace=True)]
        layers += [normalize_weights(up(widths[-1], channels), norm), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W) in [−1, 1]."""
        condition = self.condition(z, y)
        h: Tensor = condition[:, :, None, None]
        for layer in self.layers:
            h = layer(h, condition) if isinstance(layer, ConditionalBatchNorm2d) else layer(h)
        return h


class Discriminator(nn.Module):
    """Picture → logit: strided convolutions that halve the side, no batch norm in the first layer.

    With classes, a class embedding is projected on the smallest map (Miyato & Koyama 2018).
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        width: int,
        classes: int = 0,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        base, doublings = split_size(size)
        widths = channels_by_level(width, doublings)
        # Without any bias D(0) = 0 and D(x / 2) = D(x) / 2: it could not call a dim picture fake and a bright one real.
        bias = not NORMS[norm].has_bias
        layers = [normalize_weights(down(channels, widths[0], bias=bias), norm), nn.LeakyReLU(0.2, inplace=True)]
        for narrow, wide in pairwise(widths):
            layers += [*normalize(down(narrow, wide, bias=bias), norm), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = normalize_weights(init_normal(nn.Conv2d(widths[-1], 1, base, bias=False)), norm)
        embedding = normalize_weights(init_normal(nn.Embedding(classes, widths[-1])), norm) if classes else None
        self.embedding = embedding

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        h = self.layers(x)
        logits: Tensor = self.head(h).flatten()
        if self.embedding is None:
            return logits
        # The sum over the map's positions, divided by its side: that keeps the scale of one position.
        projection: Tensor = (self.embedding(y) * h.sum(dim=(2, 3)) / h.shape[2]).sum(dim=1)
        return logits + projection


class SpectralGenerator(nn.Module):
    """z → picture: a dense layer to b×b, transposed convolutions that double the side, a 3×3 convolution."""

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        latent: int,
        width: int,
        classes: int = 0,
        embedding: int = 64,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        base, doublings = split_size(size)
        widths = channels_by_level(width, doublings + 1)[::-1]
        self.condition = ConcatClass(classes=classes, length=embedding)
        layers = [
            normalize_weights(init_normal(nn.Linear(latent + self.condition.added, widths[0] * base * base)), norm),
            nn.Unflatten(1, (widths[0], base, base)),
            *NORMS[norm].maps(widths[0], 2),
            nn.ReLU(inplace=True),
        ]
        for wide, narrow in pairwise(widths):
            layers += [*normalize(up(wide, narrow, bias=not NORMS[norm].has_bias), norm), nn.ReLU(inplace=True)]
        layers += [normalize_weights(init_normal(nn.Conv2d(widths[-1], channels, 3, padding=1)), norm), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W) in [−1, 1]."""
        pictures: Tensor = self.layers(self.condition(z, y))
        return pictures


class SpectralDiscriminator(nn.Module):
    """Picture → logit: pairs of a 3×3 convolution and one that halves the side, then a dense layer."""

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        width: int,
        classes: int = 0,
        norm: NormName = "spectral",
    ) -> None:
        super().__init__()
        base, doublings = split_size(size)
        widths = channels_by_level(width, doublings + 1)
        layers = [
            normalize_weights(init_normal(nn.Conv2d(channels, widths[0], 3, padding=1)), norm),
            nn.LeakyReLU(0.1, inplace=True),
        ]
        for narrow, wide in pairwise(widths):
            layers += [
                *normalize(init_normal(nn.Conv2d(narrow, narrow, 4, stride=2, padding=1)), norm),
                nn.LeakyReLU(0.1, inplace=True),
                *normalize(init_normal(nn.Conv2d(narrow, wide, 3, padding=1)), norm),
                nn.LeakyReLU(0.1, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = Projection(
            features=widths[-1] * base * base,
            classes=classes,
            init_and_norm=lambda layer: normalize_weights(init_normal(layer), norm),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        logits: Tensor = self.head(self.layers(x).flatten(1), y)
        return logits
