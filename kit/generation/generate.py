"""Generating pictures: from latents, or from pictures to be translated, through a generator to pixels."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.generation.pictures import Pixels, parallel_map, resize
from kit.models.recipe import Recipe
from kit.training.device import autocast

BLOCK = 64
"""Latents are drawn in blocks of this many, whatever the batch size: torch fills a tensor of another length in another
order, so the same seed would give other latents."""

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
        generator: the EMA of G, on `device`; it is copied.
        recipe: its `standing_batches` and `truncation` are used.
        count: number of pictures.
        size: side of the pictures, pixels; see `sample`.
        seed: of the latents.
        device: where the network lives.
        precision: of the passes.
        truncation: in place of the recipe's; infinity: none; None: the recipe's.
        labels: the class of each picture (see `kit.generation.classes`); None: the classes in turn.
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
        generator: the EMA of G.
        recipe: its `standing_batches` and `truncation` are used.
        seed: of the latents that statistics are taken from.
        device: where the network lives.
        precision: of the passes.
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
    changes.

    Args:
        generator: on `device`, see `sample`.
        batches: passes to take the statistics from; 0 keeps the statistics that are there.
        seed: of the latents and labels.
        device: where the network lives.
        truncation: of the latents.
        batch: pictures in a pass; labels are uniform over the classes.
        precision: of the passes.
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
        generator: on `device`. Called with z float32 (B, latent) and y int64 (B,), it returns (B, C, H, W) in [-1, 1];
            its attribute `latent` is the length of z, `classes` the number of classes (0: it ignores y).
        count: number of pictures.
        size: side of the pictures, pixels; where the network's differs, Pillow's LANCZOS resizes.
        seed: of the latents.
        device: where the network lives.
        truncation: threshold T > 0: latents are drawn from the normal distribution truncated to ±T (the truncation
            trick of Brock et al. 2019, section 3.1). None: no truncation.
        labels: the class of each picture, `count` of them. None: 0, 1, 2, … in turn for a conditional generator.
        batch: pictures in a pass; the last pass is filled up, so that all passes are alike.
        precision: of the passes; bfloat16 is twice as fast where it is native and changes a pixel by a level or two.

    Yields:
        uint8 (b, size, size, C): round((x + 1) · 127.5), clamped to 0..255.

    Raises:
        KitError: the generator returns NaN or infinity; a label out of range; a truncation that is not positive.
    """
    if truncation is not None and not truncation > 0:
        raise KitError(f"truncation {truncation} is not above 0", "choose one between 0.1 and 2")
    latent, classes = cast(int, generator.latent), cast(int, generator.classes)
    every_y = torch.from_numpy(_checked_labels(labels, count=count, classes=classes))
    stream = latents(latent, count=count, seed=seed, truncation=truncation, batch=batch)
    starts = range(0, count, batch)
    passes = (
        (start, min(batch, count - start), (z, _filled(every_y[start : start + batch], batch)))
        for start, z in zip(starts, stream, strict=True)
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
    """Pictures of given latents and labels; otherwise as `sample`.

    Args:
        generator: see `sample`.
        z: float32 (N, latent).
        y: int64 (N,).
        size: side of the pictures, pixels.
        device: where the network lives.
        batch: pictures in a pass.
        precision: of the passes.

    Yields:
        uint8 (b, size, size, C).

    Raises:
        KitError: the generator returns NaN or infinity.
    """
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
        generator: on `device`. Called with x (B, C, H, W) in [-1, 1], it returns the same shape and range.
        pictures: batches, uint8 (N, H, W, C) each, of one size.
        size: side of the pictures that are returned, pixels.
        device: where the network lives.
        batch: pictures in a pass.
        precision: of the passes.

    Yields:
        uint8 (b, size, size, C).

    Raises:
        KitError: the generator returns NaN or infinity.
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

    if device.type == "cpu" and not any(module.training for module in generator.modules()):
        return _run_in_parallel(run, passes)
    return map(run, passes)


def _run_in_parallel(run: Callable[[Pass], Pixels], passes: Iterable[Pass]) -> Iterator[Pixels]:
    """Threads with a pass each take half the time of threads that share one (bench/generation.py)."""
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


def latents(
    latent: int, *, count: int, seed: int, truncation: float | None = None, batch: int = 64
) -> Iterator[Tensor]:
    """The latents of `sample`, on the CPU.

    Args:
        latent: length of z.
        count: how many are needed; the last batch is filled up with the latents that would come next.
        seed: of their random stream.
        truncation: see `sample`.
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


def _block(latent: int, random: torch.Generator, truncation: float | None) -> Tensor:
    # In float64, so that processors whose float32 logarithms differ in the last bit still round to the same latents.
    z = torch.empty(BLOCK, latent, dtype=torch.float64).normal_(generator=random)
    if truncation is not None:
        # Through the quantiles of the truncated distribution: the same distribution as drawing again until all is
        # within ±T, but a latent stays the same one at every T.
        tail = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
        z = torch.special.ndtri(tail + (1 - 2 * tail) * torch.special.ndtr(z)).clamp(-truncation, truncation)
    return z.float()


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


def _checked_labels(
    labels: Sequence[int] | None, *, count: int, classes: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if labels is None:
        return np.arange(count, dtype=np.int64) % max(classes, 1)
    if len(labels) != count:
        raise KitError(f"{len(labels)} labels for {count} pictures", "give one label a picture")
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        known = f"0 to {classes - 1}" if classes else "none: the generator is unconditional"
        raise KitError(f"label {wrong} is not one of the generator's classes ({known})")
    return np.asarray(labels, dtype=np.int64)
