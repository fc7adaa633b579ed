"""Networks of dense layers alone, the first GAN's (Goodfellow et al. 2014; with labels Mirza & Osindero 2014)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from kit.models.layers import ConcatClass, normalize, normalize_weights
from kit.models.recipe import NormName

MULTIPLES = (1, 2, 4)
"""Hidden units of the three layers, in multiples of the width: G widens, D narrows."""


class Generator(nn.Module):
    """z → picture of any size."""

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
        self._shape = (channels, size, size)
        self.condition = ConcatClass(classes=classes, length=embedding)
        units = [latent + self.condition.added, *(width * multiple for multiple in MULTIPLES)]
        layers: list[nn.Module] = []
        for before, after in pairwise(units):
            layers += [*normalize(nn.Linear(before, after), norm), nn.LeakyReLU(0.2, inplace=True)]
        layers += [normalize_weights(nn.Linear(units[-1], math.prod(self._shape)), norm), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) and labels (B,) to pictures (B, C, H, W) in [−1, 1]."""
        pictures: Tensor = self.layers(self.condition(z, y))
        return pictures.view(-1, *self._shape)


class Discriminator(nn.Module):
    """Picture of any size → logit."""

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        width: int,
        classes: int = 0,
        embedding: int = 64,
        norm: NormName = "none",
    ) -> None:
        super().__init__()
        self.condition = ConcatClass(classes=classes, length=embedding)
        pixels = channels * size * size
        units = [pixels + self.condition.added, *(width * multiple for multiple in MULTIPLES[::-1])]
        layers: list[nn.Module] = []
        for before, after in pairwise(units):
            layers += [*normalize(nn.Linear(before, after), norm), nn.LeakyReLU(0.2, inplace=True)]
        # No bias: the losses that compare logits would never move it.
        layers += [normalize_weights(nn.Linear(units[-1], 1, bias=False), norm)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] and labels (B,) to logits (B,)."""
        logits: Tensor = self.layers(self.condition(x.flatten(1), y))
        return logits.flatten()
