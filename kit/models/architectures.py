"""The architectures that a recipe can name: how G and D are built from it.

A network's module is imported when the network is built: it imports torch, which those who only read recipes do not
need.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from kit.models.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

Constructor = Callable[[Recipe, int, int, int], "nn.Module"]
"""From a recipe, the size and channels of the pictures, and the number of classes (0: unconditional)."""


class Architecture(NamedTuple):
    """The constructors of G and D, and which of the settings that not all architectures have these two have."""

    generator: Constructor
    discriminator: Constructor
    settings: tuple[str, ...] = ()


def _network(path: str, **fields: str) -> Constructor:
    """A network of this package.

    Args:
        path: "module:name" of its class or function.
        fields: the recipe's field for each of its arguments beside size, channels and classes.
    """

    def build(recipe: Recipe, size: int, channels: int, classes: int) -> nn.Module:
        module, name = path.split(":")
        network = getattr(importlib.import_module(f"kit.models.{module}"), name)
        arguments = {argument: getattr(recipe, field) for argument, field in fields.items()}
        return cast("nn.Module", network(size=size, channels=channels, classes=classes, **arguments))

    return build


_PLAIN = {"width": "width", "embedding": "embedding"}
_RESIDUAL = {"width": "width", "attention": "attention"}
_PATCH = {"width": "width", "antialias": "antialias_d", "init": "init"}
_TRANSLATOR = {name: name for name in ("generator", "width", "blocks", "antialias", "residual", "init")}
_TRANSLATION = (
    *("generator", "blocks", "antialias", "antialias_d", "residual"),
    *("init", "lambda_gan", "lambda_identity"),
)

ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        _network("mlp:Generator", latent="latent", norm="norm_g", **_PLAIN),
        _network("mlp:Discriminator", norm="norm_d", **_PLAIN),
        settings=("embedding", "norm_g", "norm_d"),
    ),
    "dcgan": Architecture(
        _network("dcgan:Generator", latent="latent", modulate="modulate", norm="norm_g", **_PLAIN),
        _network("dcgan:Discriminator", width="width", norm="norm_d"),
        settings=("embedding", "modulate", "norm_g", "norm_d"),
    ),
    "sndcgan": Architecture(
        _network("dcgan:SpectralGenerator", latent="latent", norm="norm_g", **_PLAIN),
        _network("dcgan:SpectralDiscriminator", width="width", norm="norm_d"),
        settings=("embedding", "norm_g", "norm_d"),
    ),
    "sagan": Architecture(
        _network("resnet:sagan_generator", latent="latent", **_RESIDUAL),
        _network("resnet:sagan_discriminator", **_RESIDUAL),
        settings=("attention",),
    ),
    "biggan": Architecture(
        _network("resnet:biggan_generator", latent="latent", embedding="embedding", **_RESIDUAL),
        _network("resnet:biggan_discriminator", **_RESIDUAL),
        settings=("attention", "embedding"),
    ),
    "cyclegan": Architecture(
        _network("translators:CycleGanGenerators", **_TRANSLATOR),
        _network("translators:CycleGanDiscriminators", **_PATCH),
        settings=(*_TRANSLATION, "lambda_cycle", "buffer_size"),
    ),
    "cut": Architecture(
        _network("translators:CutGenerator", **_TRANSLATOR),
        _network("translators:cut_discriminator", **_PATCH),
        settings=(*_TRANSLATION, "lambda_nce", "nce_temperature", "nce_patches", "flip_equivariance"),
    ),
    "r3gan": Architecture(
        _network("r3gan:Generator", latent="latent", **_PLAIN),
        _network("r3gan:Discriminator", width="width"),
        settings=("embedding",),
    ),
}
