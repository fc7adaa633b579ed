"""Interpolation between latents, and between the classes of a conditional generator."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from kit.core.seeds import derive
from kit.generation.generate import latents

KEY_LATENTS = 5
"""Latents that an interpolation passes through before it is back at the first."""


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

    Args:
        latent: length of z.
        count: interpolations.
        frames: of one round, the first not repeated at the end.
        seed: of the latents.
        truncation: of the key latents, see `sample`.

    Returns:
        float32 (frames, count, latent).
    """
    seeds = [seed, *(derive(seed, "interpolation", key) for key in range(1, KEY_LATENTS))]
    keys = [first_latents(latent, count=count, seed=s, truncation=truncation) for s in seeds]
    times = torch.arange(frames, dtype=torch.float64) * KEY_LATENTS / frames
    parts = []
    for key in range(KEY_LATENTS):
        t = times[(times >= key) & (times < key + 1)] - key
        parts.append(slerp(keys[key].double(), keys[(key + 1) % KEY_LATENTS].double(), t))
    return torch.cat(parts).float()


def first_latents(latent: int, *, count: int, seed: int, truncation: float | None = None) -> Tensor:
    """The first latents of `kit.generation.generate.sample`: float32 (count, latent)."""
    return torch.cat(list(latents(latent, count=count, seed=seed, truncation=truncation)))[:count]


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
