"""Walks through what a generator knows: from latent to latent, and from one class to another."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from kit.core.seeds import derive
from kit.generation.generate import latents

KEYS = 5
"""Latents that a loop comes by."""


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From a to b along the sphere they lie on (Shoemake 1985; White 2016, arXiv:1609.04468, section 2).

    A straight line between two latents comes close to the origin, where a normal distribution of many dimensions has
    next to no mass, and where the generator has never been.

    Args:
        a: (N, latent).
        b: (N, latent).
        share: (F,), 0 to 1.

    Returns:
        (F, N, latent): a at share 0, b at share 1.
    """
    cosine = torch.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    angle = torch.arccos(cosine)
    share = share[:, None, None]
    # Along one line there is no arc: latents of length 1, or the same one twice.
    flat = (1 - cosine.abs() < 1e-6)[None, :, None]
    arc = torch.where(flat, 1.0, angle[None, :, None])
    curved = (torch.sin((1 - share) * arc) * a + torch.sin(share * arc) * b) / torch.sin(arc)
    return torch.where(flat, (1 - share) * a + share * b, curved)


def loop(latent: int, *, count: int, frames: int, seed: int, truncation: float | None = None) -> Tensor:
    """Latents of `count` walks that end where they began; each comes by KEYS latents at an even pace.

    Walk i depends on the seed and on i alone, and its first latent is latent i of `kit.generation.generate.sample`.

    Args:
        latent: length of z.
        count: walks.
        frames: of one round, the first not repeated at its end.
        seed: of the latents.
        truncation: as for `sample`, of the latents that are come by.

    Returns:
        float32 (frames, count, latent).
    """
    seeds = [seed, *(derive(seed, "walk", key) for key in range(1, KEYS))]
    keys = [_latents(latent, count=count, seed=s, truncation=truncation) for s in seeds]
    moments = torch.arange(frames, dtype=torch.float64) * KEYS / frames
    stretches = []
    for key in range(KEYS):
        shares = moments[(moments >= key) & (moments < key + 1)] - key
        stretches.append(slerp(keys[key].double(), keys[(key + 1) % KEYS].double(), shares))
    return torch.cat(stretches).float()


def still(latent: int, *, count: int, frames: int, seed: int, truncation: float | None = None) -> Tensor:
    """The first latents of `sample`, the same ones in every frame: float32 (frames, count, latent)."""
    return _latents(latent, count=count, seed=seed, truncation=truncation).expand(frames, -1, -1)


def there_and_back(frames: int) -> Tensor:
    """Shares from 0 to 1 and back that turn gently, float64 (frames,); what follows the last one is the first."""
    moments = torch.arange(frames, dtype=torch.float64) / frames
    return (1 - torch.cos(2 * math.pi * moments)) / 2


def between(generator: nn.Module, ends: tuple[int, int], shares: Tensor) -> nn.Module:
    """A copy of a conditional generator whose "classes" are points on the way from one class to another.

    A generator knows a class as one vector or several. Class i of the copy has the vectors that lie at share i of the
    straight way between them (as in Brock et al. 2019, figure 8).

    Args:
        generator: see `kit.generation.generate.sample`.
        ends: the classes at share 0 and at share 1.
        shares: (F,), 0 to 1.
    """
    own, (start, end) = copy.deepcopy(generator), ends
    for name, module in list(own.named_modules()):
        if isinstance(module, nn.Embedding):
            weight = module.weight.detach()
            way = shares.to(weight)[:, None]
            own.set_submodule(name, nn.Embedding.from_pretrained((1 - way) * weight[start] + way * weight[end]))
    own.classes = len(shares)  # type: ignore[assignment]  # a plain number, which nn.Module's types do not foresee
    return own


def _latents(latent: int, *, count: int, seed: int, truncation: float | None) -> Tensor:
    return torch.cat(list(latents(latent, count=count, seed=seed, truncation=truncation)))[:count]
