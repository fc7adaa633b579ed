"""THE table: a name, a recipe, a paper. A new GAN is a row here, and a network where none of these fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from kit.errors import unknown
from kit.models import dcgan
from kit.models.recipe import Recipe


class Networks(NamedTuple):
    """Two constructors: from a recipe, the pictures' side and channels, and the number of classes."""

    generator: Callable[[Recipe, int, int, int], nn.Module]
    discriminator: Callable[[Recipe, int, int, int], nn.Module]


NETWORKS: dict[str, Networks] = {
    "dcgan": Networks(
        lambda r, size, channels, classes: dcgan.Generator(
            size=size, channels=channels, latent=r.latent, width=r.width
        ),
        lambda r, size, channels, classes: dcgan.Discriminator(size=size, channels=channels, width=r.width),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the zoo."""

    recipe: Recipe
    about: str
    paper: str

    @property
    def name(self) -> str:
        """The name given to `kit train --model`."""
        return self.recipe.model


ZOO: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            recipe=Recipe(model="dcgan", networks="dcgan", loss="non-saturating"),
            about="strided convolutions and batch norm: the plain GAN that works",
            paper="Radford et al. 2016, arXiv:1511.06434",
        ),
    )
}


def get(name: str) -> Row:
    """The row of a model.

    Raises:
        KitError: no such model, with the closest name.
    """
    if name not in ZOO:
        raise unknown("model", name, ZOO)
    return ZOO[name]


def build(recipe: Recipe, *, size: int, channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """The recipe's generator and discriminator, with weights from torch's global random state.

    Args:
        recipe: what to build.
        size: side of the pictures, pixels.
        channels: 1 or 3.
        classes: number of classes of the set; unconditional networks ignore it.

    Returns:
        (G, D). G maps (z (B, latent), y (B,)) to pictures (B, C, H, W) in [−1, 1]; D maps (pictures, y) to logits (B,).

    Raises:
        KitError: no network of that size.
    """
    pair = NETWORKS[recipe.networks]
    return pair.generator(recipe, size, channels, classes), pair.discriminator(recipe, size, channels, classes)
