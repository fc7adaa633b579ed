"""What the page shows of a finished generator beside its grids: a walk through its latents, and every class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from kit.core.progress import no_progress
from kit.data.grid import mosaic
from kit.generation import interpolate
from kit.generation.export import RunGenerator

WALKS, COLUMNS, STEPS = 9, 3, 60
"""Walks beside each other and in a row, and frames of one round."""

BREED = 4
"""Pictures of each class."""


@dataclass(frozen=True)
class Breed:
    """A class by its name, and a strip of pictures of it."""

    name: str
    strip: Image.Image


@dataclass(frozen=True)
class Gallery:
    """Pictures in RGB."""

    walk: list[Image.Image] = field(default_factory=list)  # a loop
    breeds: list[Breed] = field(default_factory=list)  # none for an unconditional model


def size(classes: int) -> int:
    """How many pictures a gallery of so many classes draws."""
    return WALKS * STEPS + BREED * classes


def draw(run: Path, *, trust: bool = False, progress: Callable[[int, int], None] = no_progress) -> Gallery:
    """Draws the gallery of a run, from its checkpoint alone.

    Args:
        run: the run's folder.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Raises:
        KitError: no checkpoint, a damaged one, one that brings code and is not trusted, or a generator that has
            diverged.
    """
    saved = RunGenerator.load(run, seed=None, trust=trust)
    generator, threshold = saved.prepare()
    latent, names = saved.recipe.latent, saved.shape.classes if saved.recipe.conditional else ()
    whole = size(len(names))

    z = interpolate.loop_latents(latent, count=WALKS, frames=STEPS, seed=saved.seed, truncation=threshold)
    y = torch.tensor(saved.labels(WALKS, class_name=None) or [0] * WALKS).expand(STEPS, -1)
    steps = saved.render_frames(generator, z, y, progress=lambda done, _: progress(done, whole))
    film = [mosaic(step, columns=COLUMNS).convert("RGB") for step in steps]

    if not names:
        return Gallery(walk=film)
    z = interpolate.first_latents(latent, count=BREED, seed=saved.seed, truncation=threshold)
    y = torch.arange(len(names))[:, None].expand(-1, BREED)
    strips = saved.render_frames(
        generator, z.expand(len(names), -1, -1), y, progress=lambda done, _: progress(WALKS * STEPS + done, whole)
    )
    breeds = [
        Breed(name.replace("_", " "), mosaic(strip, columns=BREED).convert("RGB"))
        for name, strip in zip(names, strips, strict=True)
    ]
    return Gallery(walk=film, breeds=breeds)
