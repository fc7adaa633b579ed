"""Generating pictures: from latents, or from pictures to be translated, through a generator to pixels.

What all functions here take: `generator`, the EMA of G on `device`; `size`, the side of the pictures in pixels (where
the network's differs, Pillow's LANCZOS resizes); `seed`, of the latents; `batch`, pictures in a pass; `precision`, of
the passes: bfloat16 is twice as fast where it is native and changes a pixel by a level or two.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.generation.latents import latents
from kit.generation.pictures import Pixels, parallel_map, resize
from kit.models.recipe import Recipe
from kit.training.device import autocast

PARALLEL_PASSES = 4
"""Passes of the generator that run at the same time on a CPU, at most: each has its activations in memory."""

Pass = tuple[int, int, tuple[Tensor, ...]]
"""One pass of the network: the number of its first picture, the number of pictures, full batches of inputs."""


def generate(
    generator: nn.Module,
    recipe: Recipe,
    *,
    count: int,
    size: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    truncation: float | None = None,
    labels: Sequence[int] | None = None,
    inputs: Pixels | None = None,
) -> Iterator[Pixels]:
    """Generates pictures with the batch norm statistics and the truncation that a recipe asks for.

    Args:
        recipe: its `standing_batches` and `truncation` are used.
        count: number of pictures.
        truncation: in place of the recipe's; infinity: none; None: the recipe's.
        labels: the class of each picture (see `kit.generation.latents`); None: the classes in turn.
        inputs: of a translation: the pictures, of which the first `count` are translated.

    Yields:
        uint8 (b, size, size, C).
    """
    if inputs is not None:
        if count > len(inputs):
            raise KitError(f"{count:,} pictures of {len(inputs):,} inputs", f"ask for at most {len(inputs):,}")
        return translate(generator, [inputs[:count]], size=size, device=device, precision=precision)
    prepared, threshold = prepare_generator(
        generator, recipe, seed=seed, device=device, precision=precision, truncation=truncation
    )
    return sample(
        prepared,
        count=count,
        size=size,
        seed=seed,
        device=device,
        truncation=threshold,
        labels=labels,
        precision=precision,
    )


def prepare_generator(
    generator: nn.Module,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    truncation: float | None = None,
) -> tuple[nn.Module, float | None]:
    """A copy of a generator in eval mode with recomputed batch norm statistics, and the truncation to sample with.

    The statistics are taken at the recipe's own truncation. At a smaller one they would undo it: the first batch norm
    would scale the small latents up to the usual variance.

    Args:
        recipe: its `standing_batches` and `truncation` are used.
        truncation: in place of the recipe's; infinity: none; None: the recipe's.
    """
    threshold = truncation if truncation is not None else (recipe.truncation or None)
    prepared = batch_norm_statistics(
        generator,
        batches=recipe.standing_batches,
        seed=seed,
        device=device,
        truncation=recipe.truncation or None,
        precision=precision,
    )
    return prepared, None if threshold == math.inf else threshold


def batch_norm_statistics(
    generator: nn.Module,
    *,
    batches: int,
    seed: int,
    device: torch.device,
    truncation: float | None = None,
    batch: int = 64,
    precision: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of a generator in eval mode whose batch norm statistics come from its own samples.

    These are the "standing statistics" of Brock et al. 2019, appendix B. The running averages of training follow
    weights that have changed since, and the EMA of G has none of its own. The passes also bring the singular vectors
    of spectral norm up to date. A pure function of its arguments: neither the generator nor the global random state
    changes. Labels are uniform over the classes.

    Args:
        batches: passes to take the statistics from; 0 keeps the statistics that are there.
        truncation: of the latents.
    """
    prepared = copy.deepcopy(generator).requires_grad_(False)
    norms = [module for module in prepared.modules() if isinstance(module, _BatchNorm)]
    if batches and norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all passes
        random = torch.Generator().manual_seed(derive(seed, "batch norm labels"))
        stream = latents(
            cast(int, prepared.latent),
            count=batches * batch,
            seed=derive(seed, "batch norm latents"),
            truncation=truncation,
            batch=batch,
        )
        prepared.train()
        with torch.no_grad(), autocast(device, precision):
            for z in stream:
                y = torch.randint(max(cast(int, prepared.classes), 1), (batch,), generator=random)
                prepared(z.to(device), y.to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return prepared.eval()


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
    """Samples pictures from a generator, a batch at a time.

    Picture i is made from latent i, which depends on the seed and the truncation alone: not on `count`, `batch` or
    the device. Neither the global random state nor the network's buffers change, and between two batches the network
    is in the mode (train or eval) that it was in before, so training can go on in the meantime. On a CPU several
    batches run at the same time if the network is in eval mode.

    Args:
        generator: called with z float32 (B, latent) and y int64 (B,), it returns (B, C, H, W) in [-1, 1];
            its attribute `latent` is the length of z, `classes` the number of classes (0: it ignores y).
        count: number of pictures.
        truncation: threshold T > 0: latents are drawn from the normal distribution truncated to ±T (the truncation
            trick of Brock et al. 2019, section 3.1). None: no truncation.
        labels: the class of each picture, `count` of them. None: 0, 1, 2, … in turn for a conditional generator.
        batch: the last pass is filled up, so that all passes are alike.

    Yields:
        uint8 (b, size, size, C): round((x + 1) · 127.5), clamped to 0..255.

    Raises:
        KitError: the generator returns NaN or infinity; a label out of range; a truncation that is not positive.
    """
    if truncation is not None and not truncation > 0:
        raise KitError(f"truncation {truncation} is not above 0", "choose one between 0.1 and 2")
    latent, classes = cast(int, generator.latent), cast(int, generator.classes)
    y = _checked_labels(labels, count=count, classes=classes)
    z = latents(latent, count=count, seed=seed, truncation=truncation, batch=batch)
    passes = (
        (start, min(batch, count - start), (rows, _filled(y[start : start + batch], batch)))
        for start, rows in zip(range(0, count, batch), z, strict=True)
    )
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
    """Pictures of given latents z, float32 (N, latent), and labels y, int64 (N,); otherwise as `sample`."""
    passes = (
        (start, min(batch, len(z) - start), tuple(_filled(rows[start : start + batch], batch) for rows in (z, y)))
        for start in range(0, len(z), batch)
    )
    yield from _run(generator, passes, size=size, device=device, precision=precision)


def translate(
    generator: nn.Module,
    pictures: Iterable[Pixels],
    *,
    size: int,
    device: torch.device,
    batch: int = 16,
    precision: torch.dtype = torch.float32,
) -> Iterator[Pixels]:
    """Translates pictures; otherwise as `sample`.

    Args:
        generator: called with x (B, C, H, W) in [-1, 1], it returns the same shape and range.
        pictures: batches, uint8 (N, H, W, C) each, of one size.
    """

    def passes() -> Iterator[Pass]:
        start = 0
        for some in pictures:
            for first in range(0, len(some), batch):
                x = torch.from_numpy(np.ascontiguousarray(some[first : first + batch]))
                x = x.permute(0, 3, 1, 2).float() / 127.5 - 1
                yield start, len(x), (_filled(x, batch),)
                start += len(x)

    yield from _run(generator, passes(), size=size, device=device, precision=precision)


def _run(
    generator: nn.Module, passes: Iterable[Pass], *, size: int, device: torch.device, precision: torch.dtype
) -> Iterator[Pixels]:
    def run(one: Pass) -> Pixels:
        start, count, inputs = one
        with _eval_mode(generator), torch.inference_mode(), autocast(device, precision):
            # Full batches, so that a picture does not depend on how many follow.
            x = generator(*(rows.to(device) for rows in inputs))[:count].float()
            if not torch.isfinite(torch.stack(torch.aminmax(x))).all():
                which = f"in pictures {start} to {start + count - 1}"
                raise KitError(f"the generator gives NaN or infinity ({which})", "use an earlier checkpoint")
            pixels = to_uint8(x).cpu().numpy()
        return pixels if pixels.shape[1:3] == (size, size) else resize(pixels, size)

    if device.type != "cpu" or any(module.training for module in generator.modules()):
        yield from map(run, passes)
        return
    # Threads with a pass each take half the time of threads that share one (bench/generation.py).
    threads = torch.get_num_threads()
    workers = min(threads, PARALLEL_PASSES)
    try:
        each = partial(torch.set_num_threads, threads // workers)
        yield from parallel_map(run, passes, workers=workers, chunk=workers, initializer=each)
    finally:
        torch.set_num_threads(threads)  # MKL's number holds for the whole process


def _filled(rows: Tensor, batch: int) -> Tensor:
    """Rows, and zeros up to a full batch."""
    return torch.cat([rows, rows.new_zeros(batch - len(rows), *rows.shape[1:])])


def to_uint8(x: Tensor) -> Tensor:
    """The output of a network as pixels.

    Args:
        x: (B, C, H, W), -1 black, 1 white; values beyond are clamped.

    Returns:
        uint8 (B, H, W, C), rounded to the nearest, halves to the even one.
    """
    return (x + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@contextlib.contextmanager
def _eval_mode(generator: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards each module in its own mode again: some may have been in eval mode before."""
    modes = [(module, module.training) for module in generator.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _checked_labels(labels: Sequence[int] | None, *, count: int, classes: int) -> Tensor:
    if labels is None:
        return torch.arange(count) % max(classes, 1)
    if len(labels) != count:
        raise KitError(f"{len(labels)} labels for {count} pictures", "give one label a picture")
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        known = f"0 to {classes - 1}" if classes else "none: the generator is unconditional"
        raise KitError(f"label {wrong} is not one of the generator's classes ({known})")
    return torch.tensor(labels, dtype=torch.int64)
