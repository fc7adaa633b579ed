"""Parts that several networks share: sizes, initialization, normalization, conditioning, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from kit.core.errors import KitError
from kit.models.recipe import NormName

Layer = TypeVar("Layer", bound=nn.Module)
InitAndNorm = Callable[[nn.Module], nn.Module]
"""Initializes a layer's weights and normalizes them."""

BASES = (4, 5, 6, 7)
SMALLEST, LARGEST = 16, 256


def split_size(size: int) -> tuple[int, int]:
    """Splits a picture's side into the side a generator starts from and how often it is doubled.

    Args:
        size: side in pixels, b·2^k with b from 4 to 7 and 16 ≤ size ≤ 256 (28, 64, 96 and 256 among them).

    Returns:
        (b, k); the largest k is taken, so 64 = 4·2⁴ and 28 = 7·2².

    Raises:
        KitError: the size is none of these.
    """
    base, doublings = size, 0
    while base % 2 == 0 and base > BASES[-1]:
        base, doublings = base // 2, doublings + 1
    if base not in BASES or not SMALLEST <= size <= LARGEST:
        allowed = sorted(b << k for b in BASES for k in range(1, 7) if SMALLEST <= b << k <= LARGEST)
        raise KitError(f"no network for pictures of {size} px", f"choose from {', '.join(map(str, allowed))}")
    return base, doublings


def spectral(layer: nn.Module) -> nn.Module:
    """The layer with spectral norm (Miyato et al. 2018, algorithm 1).

    On the meta device, where parameters are only counted, the layer stays as it is: the singular vectors take seconds.
    """
    return layer if cast(Tensor, layer.weight).is_meta else spectral_norm(layer)


class Norm(NamedTuple):
    """A normalization: of a layer's weights, or of its output by modules made for (channels, spatial dimensions)."""

    weights: Callable[[nn.Module], nn.Module]
    maps: Callable[[int, int], list[nn.Module]]
    has_bias: bool  # it adds a learned bias itself, so the layer needs none


def _batch_norm(channels: int, dimensions: int) -> list[nn.Module]:
    norm = nn.BatchNorm2d(channels) if dimensions == 2 else nn.BatchNorm1d(channels)
    # Gains from N(1, 0.02²), after the code of DCGAN's authors
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return [norm]


NORMS: dict[NormName, Norm] = {
    "batch": Norm(lambda layer: layer, _batch_norm, True),
    "layer": Norm(lambda layer: layer, lambda channels, dimensions: [nn.GroupNorm(1, channels)], True),
    "spectral": Norm(spectral, lambda channels, dimensions: [], False),
    "none": Norm(lambda layer: layer, lambda channels, dimensions: [], False),
}


def normalize(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, norm: NormName) -> list[nn.Module]:
    """A hidden layer with its normalization."""
    dense = isinstance(layer, nn.Linear)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return [NORMS[norm].weights(layer), *NORMS[norm].maps(channels, 0 if dense else 2)]


def normalize_weights(layer: nn.Module, norm: NormName) -> nn.Module:
    """A first or last layer of a network, where only a normalization of weights applies."""
    return NORMS[norm].weights(layer)


def init_normal(layer: Layer) -> Layer:
    """Weights from N(0, 0.02²), biases 0 (Radford et al. 2016, section 4)."""
    return _init(layer, lambda weight: nn.init.normal_(weight, 0.0, 0.02))


def init_zero(layer: Layer) -> Layer:
    """Weights and biases 0."""
    return _init(layer, nn.init.zeros_)


def init_xavier(layer: Layer) -> Layer:
    """Xavier's uniform weights, biases 0 (Glorot & Bengio 2010)."""
    return _init(layer, nn.init.xavier_uniform_)


def init_orthogonal(layer: Layer) -> Layer:
    """Orthogonal weights, biases 0 (Saxe et al. 2014)."""
    return _init(layer, nn.init.orthogonal_)


def _init(layer: Layer, init: Callable[[Tensor], Tensor]) -> Layer:
    for name, parameter in layer.named_parameters():
        init(parameter) if name == "weight" else nn.init.zeros_(parameter)
    return layer


class Upsample(nn.Module):
    """Doubles the side, bilinearly."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, 2H, 2W)."""
        return interpolate(x, scale_factor=2, mode="bilinear")


class ConcatClass(nn.Module):
    """Concatenates a class embedding to its input (Mirza & Osindero 2014).

    Args:
        classes: number of classes; 0 returns the input.
        length: of the embedding.
    """

    def __init__(self, *, classes: int, length: int) -> None:
        super().__init__()
        self.added = length if classes else 0
        self.embedding = nn.Embedding(classes, length) if classes else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, n) or (B, n, H, W) and labels (B,) to (B, n + added, …); the embedding is repeated over the map."""
        if self.embedding is None:
            return x
        vector = self.embedding(y).to(x.dtype)
        return torch.cat([x, vector.view(*vector.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], dim=1)


class Projection(nn.Module):
    """Projection: a logit w·h + b from features h, plus e(y)·h with classes (Miyato & Koyama 2018, eq. 3).

    Args:
        features: length of h.
        classes: number of classes; 0 leaves the second term out.
        init_and_norm: applied to both layers.
    """

    def __init__(self, *, features: int, classes: int, init_and_norm: InitAndNorm) -> None:
        super().__init__()
        self.linear = init_and_norm(nn.Linear(features, 1))
        self.embedding = init_and_norm(nn.Embedding(classes, features)) if classes else None

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Maps features (B, n) and labels (B,) to logits (B,)."""
        logits: Tensor = self.linear(h).flatten()
        return logits if self.embedding is None else logits + (self.embedding(y) * h).sum(dim=1)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with gain and bias from a condition (Dumoulin et al. 2017; de Vries et al. 2017).

    Args:
        channels: of the map.
        affine: makes, from the number of channels, a module that maps the condition to (B, channels) or (channels,);
            called for the gain (to which 1 is added) and for the bias.
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


class LearnedVector(nn.Module):
    """A parameter, initially 0, whatever the condition: makes conditional batch norm a plain one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(channels))

    def forward(self, condition: Tensor) -> Tensor:
        """(channels,)."""
        return self.vector


class SelfAttention(nn.Module):
    """y = γ·o + x with o the self-attention over a map's positions (Zhang et al. 2019, eqs. 1 to 3).

    As in the authors' code keys and values are max-pooled 2×2, and γ is 0 at first.

    Args:
        channels: of the map.
        init_and_norm: applied to the four 1×1 convolutions.
    """

    def __init__(self, channels: int, *, init_and_norm: InitAndNorm) -> None:
        super().__init__()
        inner, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = init_and_norm(nn.Conv2d(channels, inner, 1, bias=False))
        self.key = init_and_norm(nn.Conv2d(channels, inner, 1, bias=False))
        self.value = init_and_norm(nn.Conv2d(channels, half, 1, bias=False))
        self.out = init_and_norm(nn.Conv2d(half, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        maps = self.query(x), max_pool2d(self.key(x), 2), max_pool2d(self.value(x), 2)
        # Positions before channels: the layout of channels-last maps, so that nothing is copied.
        query, key, value = (map.flatten(2).transpose(1, 2) for map in maps)
        # Not the fused kernels of scaled_dot_product_attention: gradient penalties differentiate this twice.
        weights = torch.softmax(query @ key.transpose(1, 2), dim=-1)
        o = self.out((weights @ value).transpose(1, 2).unflatten(2, x.shape[2:]))
        return torch.addcmul(x, self.gamma.to(x.dtype), o.to(x.dtype))
