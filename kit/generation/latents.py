"""What a generator draws from: latents, interpolations between them, and the class of each picture."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.errors import KitError, unknown
from kit.core.seeds import derive
from kit.data.prepared_set import class_key
from kit.models.recipe import Recipe, SampleClasses
from kit.training.checkpoint import Shape

BLOCK = 64
"""Latents are drawn in blocks of this many, whatever the batch size: torch fills a tensor of another length in another
order, so the same seed would give other latents."""

KEY_LATENTS = 5
"""Latents that an interpolation passes through before it is back at the first."""


def latents(
    latent: int, *, count: int, seed: int, truncation: float | None = None, batch: int = 64
) -> Iterator[Tensor]:
    """The latents of `kit.generation.generate.sample`, on the CPU: tensors float32 (batch, latent).

    At least `count` of them: the last batch is filled up with those that would come next.
    """
    random = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, latent)
    for _ in range(0, count, batch):
        while len(rows) < batch:
            rows = torch.cat([rows, _block(latent, random, truncation)])
        yield rows[:batch]
        rows = rows[batch:]


def _block(latent: int, random: torch.Generator, truncation: float | None) -> Tensor:
    # In float64, so that processors whose float32 logarithms differ in the last bit still round to the same latents.
    z = torch.empty(BLOCK, latent, dtype=torch.float64).normal_(generator=random)
    if truncation is not None:
        # Through the quantiles of the truncated distribution: the same distribution as drawing again until all is
        # within ±T, but a latent stays the same one at every T.
        tail = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
        z = torch.special.ndtri(tail + (1 - 2 * tail) * torch.special.ndtr(z)).clamp(-truncation, truncation)
    return z.float()


def first_latents(latent: int, *, count: int, seed: int, truncation: float | None = None) -> Tensor:
    """The first latents of `kit.generation.generate.sample`: float32 (count, latent)."""
    return torch.cat(list(latents(latent, count=count, seed=seed, truncation=truncation)))[:count]


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985; White 2016, arXiv:1609.04468, section 2).

    A straight line between two latents comes close to the origin, where a normal distribution of many dimensions has
    almost no mass, so that the generator was never trained there.

    Args:
        a: (N, latent).
        b: (N, latent).
        t: (F,), 0 to 1.

    Returns:
        (F, N, latent): a at t = 0, b at t = 1.
    """
    cosine = torch.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    angle = torch.arccos(cosine)
    t = t[:, None, None]
    # Parallel latents have no arc between them: those of length 1, or twice the same.
    parallel = (1 - cosine.abs() < 1e-6)[None, :, None]
    arc = torch.where(parallel, 1.0, angle[None, :, None])
    curved = (torch.sin((1 - t) * arc) * a + torch.sin(t * arc) * b) / torch.sin(arc)
    return torch.where(parallel, (1 - t) * a + t * b, curved)


def loop_latents(latent: int, *, count: int, frames: int, seed: int, truncation: float | None = None) -> Tensor:
    """Latents of `count` interpolations that end where they began, through KEY_LATENTS latents each.

    Interpolation i depends on the seed and on i alone, and begins at latent i of `kit.generation.generate.sample`.

    Returns:
        float32 (frames, count, latent), the first frame not repeated at the end.
    """
    seeds = [seed, *(derive(seed, "interpolation", key) for key in range(1, KEY_LATENTS))]
    keys = [first_latents(latent, count=count, seed=s, truncation=truncation).double() for s in seeds]
    times = torch.arange(frames, dtype=torch.float64) * KEY_LATENTS / frames
    parts = []
    for key in range(KEY_LATENTS):
        t = times[(times >= key) & (times < key + 1)] - key
        parts.append(slerp(keys[key], keys[(key + 1) % KEY_LATENTS], t))
    return torch.cat(parts).float()


def forth_and_back(frames: int) -> Tensor:
    """t from 0 to 1 and back along a cosine, float64 (frames,); the frame after the last is the first."""
    return (1 - torch.cos(2 * math.pi * torch.arange(frames, dtype=torch.float64) / frames)) / 2


def interpolate_classes(generator: nn.Module, start: int, end: int, t: Tensor) -> nn.Module:
    """A copy of a conditional generator whose classes lie between two of the original's.

    Class i of the copy has the embeddings (1 − t[i])·start + t[i]·end (as in Brock et al. 2019, figure 8).

    Args:
        generator: see `kit.generation.generate.sample`.
        start: the class at t = 0.
        end: the class at t = 1.
        t: (F,), 0 to 1.
    """
    blended = copy.deepcopy(generator)
    for name, module in list(blended.named_modules()):
        if isinstance(module, nn.Embedding):
            weight = module.weight.detach()
            weights = torch.lerp(weight[start], weight[end], t.to(weight)[:, None])
            blended.set_submodule(name, nn.Embedding.from_pretrained(weights))
    blended.classes = len(t)  # type: ignore[assignment]  # a plain number, which nn.Module's types do not foresee
    return blended


def class_labels(recipe: Recipe, shape: Shape, count: int, *, how: SampleClasses | None = None) -> list[int] | None:
    """The class of each of `count` pictures: as frequent as in the data, or equally frequent.

    Args:
        recipe: its `sample_classes` is used.
        shape: the classes, and how many pictures of each the generator was trained on.
        count: number of pictures.
        how: in place of the recipe's `sample_classes`.

    Returns:
        Indices into `shape.classes`; None for an unconditional model.
    """
    if not recipe.conditional:
        return None
    proportional = (how or recipe.sample_classes) == "proportional" and any(shape.counts)
    return interleave(shape.counts if proportional else [1] * len(shape.classes), count)


def interleave(weights: Sequence[int], count: int) -> list[int]:
    """Classes in an order whose every beginning is as close to their proportions as whole numbers allow.

    The j-th picture of a class with proportion p comes at time (j − ½)/p: the divisor method of Webster and
    Sainte-Laguë. So the class of picture i does not depend on how many follow, and equal weights give the classes in
    turn.

    Args:
        weights: of each class, at least one above 0.
        count: number of pictures.
    """
    total = sum(weights)
    # By time t a class has had round(t·p) pictures, so by this time there are at least `count` in all.
    end = count + len(weights)
    classes = [np.full(int(end * weight / total + 0.5), k) for k, weight in enumerate(weights)]
    # One division of whole numbers: equal times are equal floats, and the lower class goes first.
    times = [(2 * np.arange(len(own)) + 1) / (2 * w) for own, w in zip(classes, weights, strict=True) if w]
    order = np.argsort(np.concatenate(times), kind="stable")[:count]
    return [int(k) for k in np.concatenate(classes)[order]]


def find_class(name: str, recipe: Recipe, shape: Shape) -> int:
    """The index of a class by its name; case and what stands between its words do not matter.

    Raises:
        KitError: an unconditional model, or no such class, with the closest one.
    """
    if not recipe.conditional:
        raise KitError(
            f"{recipe.model} is an unconditional model: it cannot draw a single class",
            "train a conditional one: `kit models` lists them",
        )
    for index, known in enumerate(shape.classes):
        if class_key(known) == class_key(name):
            return index
    raise unknown("class", name, shape.classes)
