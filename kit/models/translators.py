"""Networks that translate pictures: those of CycleGAN (Zhu et al. 2017) and CUT (Park et al. 2020).

G and D of a row are one module each, also where they hold two networks, so that optimizers, EMA and checkpoints are the
same as for every other model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize, pad

from kit.core.errors import KitError
from kit.models.layers import Upsample
from kit.models.recipe import InitName, TranslatorName

Network = TypeVar("Network", bound=nn.Module)

INITS: dict[InitName, Callable[[Tensor], Tensor]] = {
    "normal": functools.partial(nn.init.normal_, mean=0.0, std=0.02),  # CycleGAN's
    "xavier": functools.partial(nn.init.xavier_normal_, gain=0.02),  # CUT's
}

MAX_MULTIPLE = 8
"""Channels of U-Net and of D stop growing at 8·width."""

FEATURE_MAPS = 5
"""Feature maps that PatchNCE compares."""

MLP_UNITS = 256
"""Length of a patch's features."""

BRIGHTEST = 0.95
"""Of an input whose change is learned: beyond it the tanh has hardly a slope."""

SIZES = range(32, 1025)
"""Sides of the pictures, pixels."""


def paint(x: Tensor, change: Tensor, *, residual: bool) -> Tensor:
    """The output of a generator, (B, C, H, W) in [−1, 1].

    Args:
        x: its input, of the same shape and range.
        change: what its last convolution gives.
        residual: add the change to the input, before the tanh. Last convolutions begin at 0, so that an untrained
            generator leaves a photograph as it is, and need not first learn to copy it.
    """
    return torch.tanh(x.clamp(-BRIGHTEST, BRIGHTEST).atanh() + change if residual else change)


class Downsample(nn.Module):
    """Halves the side with the filter [1, 2, 1] / 4 in both directions, on reflected borders (Zhang 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H/2, W/2), rounded up."""
        # Twice the mean over two neighbours: as pooling it is faster than as a convolution of each channel.
        return avg_pool2d(avg_pool2d(pad(x, (1, 1, 1, 1), mode="reflect"), 2, stride=1), 2)


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]


class ResnetBlock(nn.Module):
    """x + two 3×3 convolutions with instance norm, on reflected borders."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class ResnetGenerator(nn.Module):
    """Picture → picture: two halvings, residual blocks, two doublings (Johnson et al. 2016; Zhu et al. 2017).

    Args:
        channels: of the pictures, 1 or 3.
        width: channels at the full side.
        blocks: residual blocks; the authors take 6 at 128×128 and 9 at 256×256.
        antialias: filters before halving and after doubling, as in CUT; False: strided and transposed convolutions, as
            in CycleGAN, which leave a checkerboard.
        residual: see `paint`.
    """

    multiple = 4
    """What the sides of the pictures must be multiples of."""

    def __init__(self, *, channels: int, width: int, blocks: int, antialias: bool, residual: bool) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width)
        self.channels, self.residual = channels, residual
        self.stem = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), *_norm_relu(width))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 1 if antialias else 2, 1) for a, b in pairwise(self.widths))
        self.after_down = nn.ModuleList(
            nn.Sequential(*_norm_relu(after), *([Downsample()] if antialias else [])) for after in self.widths[1:]
        )
        self.blocks = nn.ModuleList(ResnetBlock(self.widths[-1]) for _ in range(blocks))
        up: list[nn.Module] = []
        for before, after in pairwise(self.widths[::-1]):
            if antialias:
                up += [Upsample(), nn.Conv2d(before, after, 3, padding=1)]
            else:
                up += [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)]
            up += _norm_relu(after)
        self.out = nn.Sequential(*up, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7))

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the maps of `features`."""
        return self.channels, *self.widths[1:], self.widths[-1], self.widths[-1]

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps that CUT compares: the pixels with their reflected border, the output of the two convolutions that
        halve, of the first and of the fifth block; (B, C, H, W) each."""
        maps, h = [pad(x, (3, 3, 3, 3), mode="reflect")], self.stem(x)
        for conv, after in zip(self.down, self.after_down, strict=True):
            h = conv(h)
            maps.append(h)
            h = after(h)
        for index, block in enumerate(self.blocks[:FEATURE_MAPS]):
            h = block(h)
            if index in (0, min(len(self.blocks), FEATURE_MAPS) - 1):
                maps.append(h)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] to the same shape and range."""
        h = self.stem(x)
        for conv, after in zip(self.down, self.after_down, strict=True):
            h = after(conv(h))
        for block in self.blocks:
            h = block(h)
        return paint(x, self.out(h), residual=self.residual)


class UnetGenerator(nn.Module):
    """Picture → picture: halvings down to an odd side, and back up with skip connections (Isola et al. 2017).

    Args:
        size: side of the pictures; its factors of 2 are the number of halvings.
        channels: of the pictures, 1 or 3.
        width: channels after the first halving.
        antialias: bilinear upsampling and a convolution of 3×3; False: transposed convolutions of 4×4, as the authors,
            which leave a checkerboard.
        residual: see `paint`.
    """

    def __init__(self, *, size: int, channels: int, width: int, antialias: bool, residual: bool) -> None:
        super().__init__()
        halvings = (size & -size).bit_length() - 1
        self.multiple, self.channels, self.residual = 1 << halvings, channels, residual
        self.widths = [width * min(2**level, MAX_MULTIPLE) for level in range(halvings)]

        def double(inputs: int, outputs: int) -> list[nn.Module]:
            if antialias:
                return [Upsample(), nn.Conv2d(inputs, outputs, 3, padding=1)]
            return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]

        down: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1)]
        for level, (before, after) in enumerate(pairwise(self.widths), start=2):
            # The innermost map of a power of 2 has one position, and instance norm would make it 0.
            norm = [nn.InstanceNorm2d(after)] if level < halvings else []
            down.append(nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(before, after, 4, stride=2, padding=1), *norm))
        self.down = nn.ModuleList(down)
        up: list[nn.Module] = []
        for level in range(halvings - 1, 0, -1):
            inputs = self.widths[level] * (1 if level == halvings - 1 else 2)
            after = self.widths[level - 1]
            up.append(nn.Sequential(nn.ReLU(), *double(inputs, after), nn.InstanceNorm2d(after)))
        self.up = nn.ModuleList(up)
        self.out = nn.Sequential(nn.ReLU(), *double(width * (2 if halvings > 1 else 1), channels))

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the maps of `features`."""
        return self.channels, *self.widths[: FEATURE_MAPS - 1]

    def features(self, x: Tensor) -> list[Tensor]:
        """The pixels and the maps after the first four halvings; (B, C, H, W) each."""
        maps = [x]
        for layer in self.down[: FEATURE_MAPS - 1]:
            maps.append(layer(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] to the same shape and range."""
        skips, h = [], x
        for layer in self.down:
            h = layer(h)
            skips.append(h)
        h = skips.pop()
        for layer in self.up:
            h = torch.cat([skips.pop(), layer(h)], dim=1)
        return paint(x, self.out(h), residual=self.residual)


class PatchDiscriminator(nn.Module):
    """Picture → a logit for each overlapping patch of 70×70 pixels (Isola et al. 2017).

    Args:
        channels: of the pictures, 1 or 3.
        width: channels of the first layer.
        antialias: filters before halving, as in CUT; False: strided convolutions, as in CycleGAN.
    """

    def __init__(self, *, channels: int, width: int, antialias: bool) -> None:
        super().__init__()
        widths = [width * min(2**level, MAX_MULTIPLE) for level in range(4)]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([channels, *widths])):
            halve = level < 3
            layers.append(nn.Conv2d(before, after, 4, stride=2 if halve and not antialias else 1, padding=1))
            layers += [nn.InstanceNorm2d(after)] if level else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            layers += [Downsample()] if halve and antialias else []
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (B, C, H, W) in [−1, 1] to logits (B, 1, h, w)."""
        logits: Tensor = self.layers(x)
        return logits


class PatchFeatures(nn.Module):
    """Features of patches for PatchNCE: a two-layer MLP for each feature map (Park et al. 2020, section 3.2).

    Args:
        channels: of each feature map.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, MLP_UNITS), nn.ReLU(), nn.Linear(MLP_UNITS, MLP_UNITS))
            for inputs in channels
        )

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """The features of patches.

        Args:
            maps: (B, C, H, W) each.
            positions: int64 (P,) for each map, indices into its H · W positions.

        Returns:
            (B, P, 256) for each map, of length 1.
        """
        return [
            normalize(mlp(map.flatten(2)[:, :, places].transpose(1, 2)), dim=2)
            for mlp, map, places in zip(self.mlps, maps, positions, strict=True)
        ]


class TranslationGenerators(nn.Module):
    """The generators of a row, and what is trained with them: a subclass makes them in `build`."""

    latent, classes = 0, 0

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        classes: int,
        generator: TranslatorName,
        width: int,
        blocks: int,
        antialias: bool,
        residual: bool,
        init: InitName,
    ) -> None:
        super().__init__()
        shape = {"size": size, "channels": channels, "width": width, "blocks": blocks}
        self.build(functools.partial(translator, generator, **shape, antialias=antialias, residual=residual))
        _initialize(self, init)

    def build(self, make: Callable[[], ResnetGenerator | UnetGenerator]) -> None:
        """Sets the networks; each call of `make` gives a generator."""
        raise NotImplementedError


class CycleGanGenerators(TranslationGenerators):
    """CycleGAN's two generators: `to_target` from inputs to targets (photographs to paintings), and `to_input` back."""

    def build(self, make: Callable[[], ResnetGenerator | UnetGenerator]) -> None:
        """Both generators."""
        self.to_target, self.to_input = make(), make()

    def forward(self, x: Tensor) -> Tensor:
        """Translates inputs (B, C, H, W) in [−1, 1] to targets of the same shape."""
        out: Tensor = self.to_target(x)
        return out


class CycleGanDiscriminators(nn.Module):
    """CycleGAN's two discriminators, of targets and of inputs."""

    def __init__(self, *, size: int, channels: int, classes: int, width: int, antialias: bool, init: InitName) -> None:
        super().__init__()
        self.target, self.input = (
            PatchDiscriminator(channels=channels, width=width, antialias=antialias) for _ in range(2)
        )
        _initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, 1, h, w) of targets (B, C, H, W)."""
        logits: Tensor = self.target(x)
        return logits


class CutGenerator(TranslationGenerators):
    """CUT's generator and the MLPs of its PatchNCE loss."""

    def build(self, make: Callable[[], ResnetGenerator | UnetGenerator]) -> None:
        """The generator, and an MLP for each of its maps that are compared."""
        self.generator = make()
        self.patch_features = PatchFeatures(self.generator.feature_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Translates inputs (B, C, H, W) in [−1, 1] to targets of the same shape."""
        out: Tensor = self.generator(x)
        return out


def cut_discriminator(
    *, size: int, channels: int, classes: int, width: int, antialias: bool, init: InitName
) -> PatchDiscriminator:
    """CUT's discriminator."""
    return _initialize(PatchDiscriminator(channels=channels, width=width, antialias=antialias), init)


def translator(
    name: TranslatorName, *, size: int, channels: int, width: int, blocks: int, antialias: bool, residual: bool
) -> ResnetGenerator | UnetGenerator:
    """A generator from pictures to pictures; `blocks` are the resnet's.

    Raises:
        KitError: no such network for this size.
    """
    multiple = 4 if name == "resnet" else 16
    if size not in SIZES or size % multiple:
        raise KitError(
            f"no {name} for pictures of {size} px",
            f"choose a multiple of {multiple} from {SIZES[0]} to {SIZES[-1]}",
        )
    if name == "unet":
        return UnetGenerator(size=size, channels=channels, width=width, antialias=antialias, residual=residual)
    return ResnetGenerator(channels=channels, width=width, blocks=blocks, antialias=antialias, residual=residual)


def _initialize(network: Network, init: InitName) -> Network:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            INITS[init](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResnetGenerator | UnetGenerator) and module.residual:
            nn.init.zeros_(cast(nn.Conv2d, module.out[-1]).weight)
    return network
