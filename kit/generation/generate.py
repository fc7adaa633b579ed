"""Latents through a generator to pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from kit.core.errors import KitError
from kit.generation.pictures import Pixels
from kit.generation.side_by_side import side_by_side
from kit.training.device import autocast

# Latents are drawn in blocks of this many, whatever the batch size: torch fills a tensor of another length in
# another order, so the same seed would give other latents.
BLOCK = 64


def sample(
    generator: nn.Module,
    *,
    count: int,
    size: int,
    seed: int,
    device: torch.device,
    truncation: float | None = None,
    labels: Sequence[int] | None = None,
    batch: int = 64,
    precision: torch.dtype = torch.float32,
) -> Iterator[Pixels]:
    """Draws pictures from a generator, a batch at a time.

    Picture i is made from latent i, which depends on the seed and the truncation alone: not on `count`, `batch` or
    the device. Neither the global random state nor the network's buffers change, and between two batches the network
    is in the mode (train or eval) it was found in, so training can go on while these pictures are being taken. One that
    is in eval mode is drawn from ahead on a CPU, several batches at once.

    Args:
        generator: on `device` already. Called with z float32 (B, latent) and y int64 (B,), it gives (B, C, H, W) in
            [-1, 1]; its attribute `latent` is the length of z, `classes` the number of classes (0: it ignores y).
        count: pictures.
        size: side of the pictures that come out; where the network's differs, Pillow's LANCZOS resizes.
        seed: of the latents, a stream of its own.
        device: where the network lives.
        truncation: threshold T > 0: latents are drawn from the normal distribution cut off at ±T (the truncation
            trick of Brock et al. 2019, section 3.1). None: the whole distribution.
        labels: the class of each picture, `count` of them. None: the classes in turn, 0, 1, 2, … for a conditional
            generator.
        batch: pictures in one pass of the network; the last pass is filled up and cut, so every pass is alike.
        precision: of the passes; bfloat16 is twice as fast where it is native, and moves a pixel by a level or two.

    Yields:
        uint8 (b, size, size, C): round((x + 1) · 127.5), clamped to 0..255.

    Raises:
        KitError: the generator gives NaN or infinity; a label out of range; a truncation that is not positive.
    """
    if truncation is not None and not truncation > 0:
        raise KitError(f"truncation {truncation} is not above 0", "choose one between 0.1 and 2")
    latent, classes = cast(int, generator.latent), cast(int, generator.classes)
    every_y = torch.from_numpy(_labels(labels, count=count, classes=classes))
    stream = latents(latent, count=count, seed=seed, truncation=truncation, batch=batch)
    starts = range(0, count, batch)
    passes = ((start, z, every_y[start : start + batch]) for start, z in zip(starts, stream, strict=True))
    yield from _run(generator, passes, size=size, device=device, precision=precision)


def render(
    generator: nn.Module,
    z: Tensor,
    y: Tensor,
    *,
    size: int,
    device: torch.device,
    batch: int = 64,
    precision: torch.dtype = torch.float32,
) -> Iterator[Pixels]:
    """Pictures of given latents; the promises and the other arguments are those of `sample`.

    Args:
        generator: see `sample`.
        z: float32 (N, latent).
        y: int64 (N,), each a class of the generator.
        size: side of the pictures that come out.
        device: where the network lives.
        batch: pictures in one pass.
        precision: of the passes.

    Yields:
        uint8 (b, size, size, C).

    Raises:
        KitError: the generator gives NaN or infinity.
    """
    starts = range(0, len(z), batch)
    passes = ((start, _filled(z[start : start + batch], batch), y[start : start + batch]) for start in starts)
    yield from _run(generator, passes, size=size, device=device, precision=precision)


Pass = tuple[int, Tensor, Tensor]
"""A pass of the network: the number of its first picture, a full batch of latents, labels of the pictures wanted."""


def _run(
    generator: nn.Module, passes: Iterable[Pass], *, size: int, device: torch.device, precision: torch.dtype
) -> Iterator[Pixels]:
    """The pictures of passes, in their order: on a CPU several at once, if that leaves the network as it is."""

    def run(one: Pass) -> Pixels:
        start, z, y = one
        with _evaluating(generator), torch.inference_mode(), autocast(device, precision):
            # The batch is full whatever is wanted of it, so that a picture does not depend on how many follow.
            x = generator(z.to(device), _filled(y, len(z)).to(device))[: len(y)].float()
            if not torch.isfinite(torch.stack(torch.aminmax(x))).all():
                raise KitError(
                    f"the generator gives NaN or infinity (in pictures {start} to {start + len(y) - 1})",
                    "its training has diverged: use an earlier checkpoint or a lower learning rate",
                )
            pixels = to_uint8(x).cpu().numpy()
        return pixels if pixels.shape[1:3] == (size, size) else resize(pixels, size)

    changes = any(module.training for module in generator.modules())
    return map(run, passes) if changes or device.type != "cpu" else side_by_side(run, passes)


def _filled(rows: Tensor, batch: int) -> Tensor:
    """Rows, and zeros up to a full batch."""
    return torch.cat([rows, rows.new_zeros(batch - len(rows), *rows.shape[1:])])


def latents(
    latent: int, *, count: int, seed: int, truncation: float | None = None, batch: int = 64
) -> Iterator[Tensor]:
    """The latents of `sample`, on the CPU.

    Args:
        latent: length of one.
        count: how many are wanted; the last batch is filled up, with the latents that would have come next.
        seed: of their own random stream.
        truncation: as for `sample`.
        batch: rows in each tensor.

    Yields:
        float32 (batch, latent).
    """
    random = torch.Generator().manual_seed(seed)
    rest = torch.empty(0, latent)
    for _ in range(0, count, batch):
        blocks = [rest]
        while sum(map(len, blocks)) < batch:
            blocks.append(_block(latent, random, truncation))
        rows = torch.cat(blocks)
        rest = rows[batch:]
        yield rows[:batch]


def to_uint8(x: Tensor) -> Tensor:
    """Pictures as a network gives them to pictures as files hold them.

    Args:
        x: (B, C, H, W), -1 black, 1 white; values beyond are clamped.

    Returns:
        uint8 (B, H, W, C), rounded to the nearest, halves to the even one.
    """
    return (x + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def resize(pixels: Pixels, size: int) -> Pixels:
    """(B, H, W, C) to (B, size, size, C) by Pillow's LANCZOS, which antialiases and is the same on every machine."""
    grey = pixels.shape[-1] == 1
    pictures = (Image.fromarray(picture[:, :, 0] if grey else picture) for picture in pixels)
    resized = np.stack([np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)) for picture in pictures])
    return resized[:, :, :, None] if grey else resized


def _block(latent: int, random: torch.Generator, truncation: float | None) -> Tensor:
    # In float64, so that processors whose float32 logarithms differ in the last bit still round to the same latents.
    z = torch.empty(BLOCK, latent, dtype=torch.float64).normal_(generator=random)
    if truncation is not None:
        # Through the cut-off distribution's quantiles: the distribution that drawing again until all is within ±T
        # gives, but one latent stays one latent at every T, and no version of torch decides how often to draw.
        tail = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
        z = torch.special.ndtri(tail + (1 - 2 * tail) * torch.special.ndtr(z)).clamp(-truncation, truncation)
    return z.float()


def _labels(labels: Sequence[int] | None, *, count: int, classes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if labels is None:
        return np.arange(count, dtype=np.int64) % max(classes, 1)
    if len(labels) != count:
        raise KitError(f"{len(labels)} labels for {count} pictures", "give one label a picture")
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        known = f"0 to {classes - 1}" if classes else "none: the generator is unconditional"
        raise KitError(f"label {wrong} is not one of the generator's classes ({known})")
    return np.asarray(labels, dtype=np.int64)


@contextlib.contextmanager
def _evaluating(generator: nn.Module) -> Iterator[None]:
    """Eval mode, and each part back in the mode it was in: some may have been frozen in eval before."""
    modes = [(module, module.training) for module in generator.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
