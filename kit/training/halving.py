"""DCGAN's convolutions that halve a side, and those that double one, with gradients that are faster in bf16 on a CPU.

Both are faces of one trilinear form: down(x, w) halves the maps x, its adjoint up(y, w) doubles the maps y, and
slope(x, y) is what either leaves for the weights. The gradients of the first two are made of all three. Where maps are
small oneDNN's own slope reaches half the speed of its other two; here it is one matrix product there. (bench/step.py)
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_shuffle

from kit.models import dcgan, sndcgan
from kit.models.subpixel import FEW, spread

Network = TypeVar("Network", bound=nn.Module)

ARCHITECTURES = (dcgan.Generator, dcgan.Discriminator, sndcgan.Generator)
"""They have such layers, for maps whose sides are even, and nothing else looks at these."""

SMALL = 8
"""Side of the halved maps up to which the matrix product is faster, in pixels."""

SETTINGS = {
    "kernel_size": (4, 4),
    "stride": (2, 2),
    "padding": (1, 1),
    "output_padding": (0, 0),
    "dilation": (1, 1),
    "groups": 1,
    "padding_mode": "zeros",
    "bias": None,
}
"""Of the layers that can be replaced."""


def down(x: Tensor, w: Tensor) -> Tensor:
    """A convolution, 4×4 with stride 2 and padding 1: (B, I, 2H, 2W) and weights (O, I, 4, 4) to (B, O, H, W)."""
    return conv2d(x, w, stride=2, padding=1)


def up(y: Tensor, w: Tensor) -> Tensor:
    """Its adjoint, a transposed convolution: (B, O, H, W) and weights (O, I, 4, 4) to (B, I, 2H, 2W)."""
    if w.shape[1] > FEW:
        return conv_transpose2d(y, w, stride=2, padding=1)
    return pixel_shuffle(conv2d(y, spread(w).contiguous(memory_format=torch.channels_last), padding=1), 2)


def slope(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The gradient of ⟨down(x, w), y⟩, which is ⟨x, up(y, w)⟩, with respect to w: (O, I, 4, 4), as w is."""
    if y.shape[2] > SMALL:
        only_w = [False, True, False]
        found = torch.ops.aten.convolution_backward(y, x, w, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, only_w)
        return cast(Tensor, found[1])
    outputs, inputs = w.shape[:2]
    pixels = y.permute(0, 2, 3, 1).reshape(-1, outputs)
    return (pixels.t() @ _windows(x)).view(outputs, 4, 4, inputs).permute(0, 3, 1, 2)


def _windows(x: Tensor) -> Tensor:
    """What each pixel of down(x) has seen: (B · H · W, 16 · I). In channels-last memory a window is four runs."""
    batch, channels, height, width = x.shape
    x = pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    picture, row, column, _ = x.stride()
    windows = x.as_strided(
        (batch, height // 2, width // 2, 4, 4 * channels), (picture, 2 * row, 2 * column, row, 1), x.storage_offset()
    )
    return windows.reshape(-1, 16 * channels)


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return down(x, w)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (dy,), (x, w), (needs_x, needs_w) = slopes, ctx.saved_tensors, ctx.needs_input_grad
        return up(dy, w) if needs_x else None, slope(x, dy, w) if needs_w else None


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(y, w)
        return up(y, w)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (dx,), (y, w), (needs_y, needs_w) = slopes, ctx.saved_tensors, ctx.needs_input_grad
        return down(dx, w) if needs_y else None, slope(dx, y, w) if needs_w else None


class HalvingConv2d(nn.Conv2d):
    """Such a convolution, as a layer without biases."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, I, 2H, 2W) to (B, O, H, W)."""
        if self.bias is not None:  # from a batch norm that was put into it
            return super().forward(x)
        return cast(Tensor, _Down.apply(*_half(x, self.weight)))


class DoublingConv2d(nn.ConvTranspose2d):
    """Its adjoint, as a layer without biases."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (B, I, H, W) to (B, O, 2H, 2W)."""
        if self.bias is not None:
            return super().forward(x, output_size)
        return cast(Tensor, _Up.apply(*_half(x, self.weight)))


KINDS: dict[type[nn.Module], type[HalvingConv2d] | type[DoublingConv2d]] = {
    nn.Conv2d: HalvingConv2d,
    nn.ConvTranspose2d: DoublingConv2d,
}


def _half(*tensors: Tensor) -> tuple[Tensor, ...]:
    """What autocast would do for a convolution."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    precision = torch.get_autocast_dtype("cpu")
    return tuple(tensor.to(precision) for tensor in tensors)


def quick(layer: nn.Module) -> nn.Module:
    """A faster layer that shares the weights of one of `SETTINGS`; any other comes back as it is."""
    # Not isinstance: layers with spectral norm, and a user's own, do more than these.
    kind = KINDS.get(type(layer))
    if kind is None or any(getattr(layer, setting) != value for setting, value in SETTINGS.items()):
        return layer
    plain = cast("nn.Conv2d | nn.ConvTranspose2d", layer)
    found = kind(plain.in_channels, plain.out_channels, 4, stride=2, padding=1, bias=False, device="meta")
    found.weight = plain.weight
    return found.train(layer.training)


def quicken(network: Network) -> Network:
    """The network, if it is one of `NETWORKS`, with faster layers in the place of its own.

    For training without a penalty: where D's gradient is differentiated itself, autograd would ask these layers for
    gradients of weights that nobody wants.
    """
    if type(network) in ARCHITECTURES:
        network.layers = nn.Sequential(*map(quick, cast(nn.Sequential, network.layers)))
    return network
