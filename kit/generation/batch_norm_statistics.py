"""Standing statistics: batch norm's means and variances taken from many samples of the finished generator.

Training's own running averages follow weights that have moved on since, and an averaged generator (EMA) never had
statistics of its own. Brock et al. 2019, appendix B, take them anew before sampling.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.core.seeds import derive
from kit.generation.folded import fold
from kit.generation.generate import latents, sample
from kit.generation.pictures import Pixels
from kit.models.recipe import Recipe
from kit.training.device import autocast


def standing_statistics(
    generator: nn.Module,
    *,
    batches: int,
    seed: int,
    device: torch.device,
    truncation: float | None = None,
    batch: int = 64,
    precision: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of a generator, ready to sample, whose batch norms know the statistics of its own samples.

    A pure function of its arguments; neither the generator nor the global random state changes. In the passes spectral
    norm's singular vectors catch up with the weights, too.

    Args:
        generator: on `device` already, see `kit.generation.generate.sample`.
        batches: passes to take statistics from; 0 copies the generator with the statistics it has.
        seed: of the latents and labels, a stream of its own.
        device: where the network lives.
        truncation: as the samples will have it: truncated latents have statistics of their own.
        batch: pictures in a pass; labels are uniform over the classes.
        precision: of the passes, as the samples will have it.
    """
    own = copy.deepcopy(generator).requires_grad_(False)
    norms = [module for module in own.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if batches and norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all passes
        latent, classes = cast(int, own.latent), cast(int, own.classes)
        random = torch.Generator().manual_seed(derive(seed, "standing labels"))
        stream = latents(
            latent, count=batches * batch, seed=derive(seed, "standing latents"), truncation=truncation, batch=batch
        )
        own.train()
        with torch.no_grad(), autocast(device, precision):
            for z in stream:
                y = torch.randint(max(classes, 1), (batch,), generator=random)
                own(z.to(device), y.to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return own.eval()


def settled(
    generator: nn.Module,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    truncation: float | None = None,
) -> tuple[nn.Module, float | None]:
    """A copy of an averaged generator, and the threshold its latents are drawn with, as its recipe wants to be sampled.

    The copy is for inference alone: layers are put together where that is faster (see `kit.generation.folded`).

    Statistics are taken at the recipe's own threshold, whatever the samples' is. Taken at a smaller one they would undo
    it: a first batch norm scales few and small latents up to the usual variance.

    Args:
        generator: the average, as training leaves it.
        recipe: its `standing_batches` and `truncation`.
        seed: of the latents that statistics are taken from.
        device: where the network lives.
        precision: of the passes.
        truncation: in place of the recipe's; infinity: no threshold; None leaves the recipe's.
    """
    threshold = truncation if truncation is not None else (recipe.truncation or None)
    threshold = None if threshold == math.inf else threshold
    standing = standing_statistics(
        generator,
        batches=recipe.standing_batches,
        seed=seed,
        device=device,
        truncation=recipe.truncation or None,
        precision=precision,
    )
    return fold(standing), threshold


def draw(
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
) -> Iterator[Pixels]:
    """Pictures from an averaged generator as its recipe wants them drawn; see `kit.generation.generate.sample`.

    Args:
        generator: the average, as training leaves it.
        recipe: its `standing_batches` and `truncation`.
        count: pictures.
        size: side of the pictures that come out.
        seed: of the latents.
        device: where the network lives.
        precision: of the passes.
        truncation: in place of the recipe's; infinity: none; None leaves the recipe's.
        labels: the class of each picture (see `kit.generation.classes`); None: the classes in turn.
    """
    generator, threshold = settled(
        generator, recipe, seed=seed, device=device, precision=precision, truncation=truncation
    )
    return sample(
        generator,
        count=count,
        size=size,
        seed=seed,
        device=device,
        truncation=threshold,
        labels=labels,
        precision=precision,
    )
