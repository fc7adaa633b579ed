"""The pairs of networks that a recipe can name, and how each is built from it.

A pair's module is imported when one is built, as it imports torch: whoever reads recipes only need not wait for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kit.models.recipe import Recipe
from kit.models.sizes import split_size

if TYPE_CHECKING:
    from torch import nn

Constructor = Callable[[Recipe, int, int, int], "nn.Module"]
"""From a recipe, the pictures' side and channels, and the number of classes (0: ignore them)."""


class Architecture(NamedTuple):
    """Two constructors, and those settings of a recipe which not all networks have, and these do."""

    generator: Constructor
    discriminator: Constructor
    settings: tuple[str, ...] = ()


def _mlp_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import mlp

    return _generator(mlp.Generator, r, size, channels, classes)


def _mlp_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import mlp

    return _discriminator(mlp.Discriminator, r, size, channels, classes)


def _dcgan_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import dcgan

    return _generator(dcgan.Generator, r, size, channels, classes)


def _dcgan_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import dcgan

    return _discriminator(dcgan.Discriminator, r, size, channels, classes)


def _sndcgan_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import sndcgan

    return _generator(sndcgan.Generator, r, size, channels, classes)


def _sndcgan_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import sndcgan

    return sndcgan.Discriminator(size=size, channels=channels, width=r.width, classes=classes, norm=r.norm_d)


def _sagan_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import resnet

    return resnet.Generator(
        size=size,
        channels=channels,
        latent=r.latent,
        width=r.width,
        attention=r.attention,
        classes=classes,
        wrap=_sagan_layer,
        conditions=resnet.PerClass(latent=r.latent, classes=classes),
    )


def _sagan_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    return _residual_discriminator(_sagan_layer, r, size, channels, classes)


def _biggan_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import biggan, resnet
    from kit.models.layers import orthogonal

    _, blocks = split_size(size)
    return resnet.Generator(
        size=size,
        channels=channels,
        latent=r.latent,
        width=r.width,
        attention=r.attention,
        classes=classes,
        wrap=_biggan_layer,
        conditions=biggan.Hierarchical(
            latent=r.latent,
            blocks=blocks,
            classes=classes,
            embedding=r.embedding,
            wrap=_biggan_layer,
            draw=orthogonal,
        ),
    )


def _biggan_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    return _residual_discriminator(_biggan_layer, r, size, channels, classes)


def _r3gan_generator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import r3gan

    return r3gan.Generator(
        size=size, channels=channels, latent=r.latent, width=r.width, classes=classes, embedding=r.embedding
    )


def _r3gan_discriminator(r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    from kit.models import r3gan

    return r3gan.Discriminator(size=size, channels=channels, width=r.width, classes=classes)


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(_mlp_generator, _mlp_discriminator, settings=("embedding", "norm_g", "norm_d")),
    "dcgan": Architecture(_dcgan_generator, _dcgan_discriminator, settings=("embedding", "norm_g", "norm_d")),
    "sndcgan": Architecture(_sndcgan_generator, _sndcgan_discriminator, settings=("embedding", "norm_g", "norm_d")),
    "sagan": Architecture(_sagan_generator, _sagan_discriminator, settings=("attention",)),
    "biggan": Architecture(_biggan_generator, _biggan_discriminator, settings=("attention", "embedding")),
    "r3gan": Architecture(_r3gan_generator, _r3gan_discriminator, settings=("embedding",)),
}


def _generator(network: Callable[..., nn.Module], r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    """For generators that take the label as a vector beside z, and a choice of norm."""
    return network(
        size=size,
        channels=channels,
        latent=r.latent,
        width=r.width,
        classes=classes,
        embedding=r.embedding,
        norm=r.norm_g,
    )


def _discriminator(network: Callable[..., nn.Module], r: Recipe, size: int, channels: int, classes: int) -> nn.Module:
    """For discriminators that take the label as a vector, and a choice of norm."""
    return network(size=size, channels=channels, width=r.width, classes=classes, embedding=r.embedding, norm=r.norm_d)


def _residual_discriminator(
    wrap: Callable[[nn.Module], nn.Module], r: Recipe, size: int, channels: int, classes: int
) -> nn.Module:
    from kit.models import resnet

    return resnet.Discriminator(
        size=size, channels=channels, width=r.width, attention=r.attention, classes=classes, wrap=wrap
    )


def _sagan_layer(layer: nn.Module) -> nn.Module:
    from kit.models.layers import spectral, xavier

    return spectral(xavier(layer))


def _biggan_layer(layer: nn.Module) -> nn.Module:
    from kit.models.layers import orthogonal, spectral

    return spectral(orthogonal(layer))
