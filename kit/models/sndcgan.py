"""The plain convolutional networks of spectral normalisation (Miyato et al. 2018, table 3)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from kit.models.dcgan import channels_by_level, up
from kit.models.layers import NORMS, ConcatClass, Projection, init_normal, normalize, normalize_weights, split_size
from kit.models.recipe import NormName


class Generator(nn.Module):
    """z → picture: a dense layer to b×b, transposed convolutions that double the side, a 3×3 convolution.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        latent: length of z.
        width: channels of the largest map; 64 is the paper's.
        classes: number of classes; 0 is unconditional.
        embedding: length of the vector for a class, put beside z.
        norm: one of `kit.models.layers.NORMS`.
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


class Discriminator(nn.Module):
    """Picture → logit: pairs of a 3×3 convolution and one that halves the side, then a dense layer.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        width: channels of the first layer; 64 is the paper's.
        classes: number of classes, given by projection; 0 is unconditional.
        norm: one of `kit.models.layers.NORMS`.
    """

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
