"""Parts that several networks are made of: normalisation, conditioning, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from kit.models.recipe import NormName

Layer = TypeVar("Layer", bound=nn.Module)


def spectral(layer: nn.Module) -> nn.Module:
    """The layer, its weight always divided by its largest singular value (Miyato et al. 2018, algorithm 1).

    On the meta device, where networks are only counted, it stays as it is: looking for singular vectors takes seconds.
    """
    return layer if cast(Tensor, layer.weight).is_meta else spectral_norm(layer)


class Norm(NamedTuple):
    """What keeps a layer in scale: something on its weights, and modules on what comes out, given its channels."""

    weights: Callable[[nn.Module], nn.Module]
    maps: Callable[[int, int], list[nn.Module]]


def _batch_norm(channels: int, dimensions: int) -> list[nn.Module]:
    norm = nn.BatchNorm2d(channels) if dimensions == 2 else nn.BatchNorm1d(channels)
    # Gains from N(1, 0.02²), after the code of DCGAN's authors
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return [norm]


NORMS: dict[NormName, Norm] = {
    "batch": Norm(lambda layer: layer, _batch_norm),
    "layer": Norm(lambda layer: layer, lambda channels, dimensions: [nn.GroupNorm(1, channels)]),
    "spectral": Norm(spectral, lambda channels, dimensions: []),
    "none": Norm(lambda layer: layer, lambda channels, dimensions: []),
}


def normalised(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, norm: NormName) -> list[nn.Module]:
    """A hidden layer, its weights drawn already, with its normalisation."""
    dense = isinstance(layer, nn.Linear)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return [NORMS[norm].weights(layer), *NORMS[norm].maps(channels, 0 if dense else 2)]


def edge(layer: nn.Module, norm: NormName) -> nn.Module:
    """A layer at the edge of a network: of its normalisation only what is on the weights."""
    return NORMS[norm].weights(layer)


def normal(layer: Layer) -> Layer:
    """The layer with weights from N(0, 0.02²) and no biases to begin with (Radford et al. 2016, section 4)."""
    return _drawn(layer, lambda weight: nn.init.normal_(weight, 0.0, 0.02))


def xavier(layer: Layer) -> Layer:
    """The layer with uniform weights of a variance between 1/inputs and 1/outputs, and no biases to begin with."""
    return _drawn(layer, nn.init.xavier_uniform_)


def orthogonal(layer: Layer) -> Layer:
    """The layer with an orthogonal matrix for weights, and no biases to begin with (Saxe et al. 2014)."""
    return _drawn(layer, nn.init.orthogonal_)


def _drawn(layer: Layer, draw: Callable[[Tensor], Tensor]) -> Layer:
    for name, parameter in layer.named_parameters():
        draw(parameter) if name == "weight" else nn.init.zeros_(parameter)
    return layer


class Condition(nn.Module):
    """Puts a learned vector for each class beside what comes in (Mirza & Osindero 2014).

    Args:
        classes: number of classes; 0 passes everything on as it is.
        length: of the vector.
    """

    def __init__(self, *, classes: int, length: int) -> None:
        super().__init__()
        self.added = length if classes else 0
        self.embedding = nn.Embedding(classes, length) if classes else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, n) or (B, n, H, W) and labels (B,) to (B, n + added, …); the vector is repeated over the map."""
        if self.embedding is None:
            return x
        vector = self.embedding(y).to(x.dtype)
        return torch.cat([x, vector.view(*vector.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], dim=1)


class Projection(nn.Module):
    """A logit from features h: w·h + b, plus e(y)·h where there are classes (Miyato & Koyama 2018, eq. 3).

    Args:
        features: length of h.
        classes: number of classes; 0 leaves the second term out.
        wrap: applied to both layers; draws and normalises their weights.
    """

    def __init__(self, *, features: int, classes: int, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.linear = wrap(nn.Linear(features, 1))
        self.embedding = wrap(nn.Embedding(classes, features)) if classes else None

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Maps features (B, n) and labels (B,) to logits (B,)."""
        logits: Tensor = self.linear(h).flatten()
        return logits if self.embedding is None else logits + (self.embedding(y) * h).sum(dim=1)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias are functions of a condition (Dumoulin et al. 2017; de Vries et al. 2017).

    Args:
        channels: of the map.
        affine: makes a module that maps the condition to (B, channels) or (channels,), once for the gain (to which 1
            is added) and once for the bias.
    """

    def __init__(self, channels: int, affine: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = affine(channels), affine(channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps (B, C, H, W) and a condition of B rows to (B, C, H, W)."""
        gain, bias = (module(condition)[..., None, None] for module in (self.gain, self.bias))
        x = self.norm(x)
        return torch.addcmul(bias.to(x.dtype), x, 1 + gain.to(x.dtype))


class Unconditioned(nn.Module):
    """A learned vector of zeros at first, whatever the condition: makes a conditional layer a plain one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(channels))

    def forward(self, condition: Tensor) -> Tensor:
        """The vector, (channels,)."""
        return self.vector


class SelfAttention(nn.Module):
    """y = γ·o + x, o attention of all places of a map to all others (Zhang et al. 2019, eqs. 1 to 3).

    As in the authors' code the keys and values are pooled 2×2, and γ starts at 0, so that training begins without.

    Args:
        channels: of the map.
        wrap: applied to the four 1×1 convolutions; draws and normalises their weights.
    """

    def __init__(self, channels: int, *, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        inner, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = wrap(nn.Conv2d(channels, inner, 1, bias=False))
        self.key = wrap(nn.Conv2d(channels, inner, 1, bias=False))
        self.value = wrap(nn.Conv2d(channels, half, 1, bias=False))
        self.out = wrap(nn.Conv2d(half, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        maps = self.query(x), max_pool2d(self.key(x), 2), max_pool2d(self.value(x), 2)
        # Places before channels: as channels-last maps lie in memory, so that nothing is copied, nor any gradient.
        query, key, value = (map.flatten(2).transpose(1, 2) for map in maps)
        # Not the fused kernels of scaled_dot_product_attention: gradient penalties differentiate this twice.
        weights = torch.softmax(query @ key.transpose(1, 2), dim=-1)
        o = self.out((weights @ value).transpose(1, 2).unflatten(2, x.shape[2:]))
        return torch.addcmul(x, self.gamma.to(x.dtype), o.to(x.dtype))
