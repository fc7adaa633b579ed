"""DCGAN: strided convolutions, batch norm, no pooling, no hidden dense layers (Radford et al. 2016, section 3)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from kit.models.sizes import split_size

MAX_MULTIPLE = 8
"""Channels stop growing at 8·width, the paper's widest layer at 64×64; larger pictures only add layers."""


def _channels(width: int, doublings: int) -> list[int]:
    """Channels from the largest map (at half the picture's side) down to the smallest (b×b)."""
    return [width * min(2**level, MAX_MULTIPLE) for level in range(doublings)]


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02²), batch-norm gains from N(1, 0.02²) (section 4; the gains after the authors' code)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class Generator(nn.Module):
    """z → picture: a projection to b×b, then transposed convolutions that double the side.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        latent: length of z.
        width: channels of the last hidden layer; 64 is PyTorch's tutorial, 128 the paper.
    """

    def __init__(self, *, size: int, channels: int, latent: int, width: int) -> None:
        super().__init__()
        self.latent = latent
        self.classes = 0
        base, doublings = split_size(size)
        widths = _channels(width, doublings)[::-1]
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent, widths[0], base, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for narrow, wide in zip(widths[1:], widths[:-1], strict=True):
            layers += [
                nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Maps latents (B, latent) to pictures (B, C, H, W) in [−1, 1]; labels (B,) are ignored."""
        pictures: Tensor = self.layers(z[:, :, None, None])
        return pictures


class Discriminator(nn.Module):
    """Picture → logit: strided convolutions that halve the side, no batch norm in the first layer.

    Args:
        size: side of the pictures, pixels (see `split_size`).
        channels: 1 (grey) or 3 (RGB).
        width: channels of the first hidden layer.
    """

    def __init__(self, *, size: int, channels: int, width: int) -> None:
        super().__init__()
        base, doublings = split_size(size)
        widths = _channels(width, doublings)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for narrow, wide in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(widths[-1], 1, base, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] to logits (B,); labels (B,) are ignored."""
        logits: Tensor = self.layers(x)
        return logits.flatten()
