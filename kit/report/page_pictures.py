"""The pictures in a page, within a limit of bytes: frames of its film, grids, an interpolation, classes, neighbours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kit import competition
from kit.core.errors import KitError
from kit.core.progress import Progress, no_progress
from kit.data.archives import BadFile
from kit.data.decoding import open_image
from kit.data.grid import make_grid
from kit.report.run_data import Grid, RunData
from kit.training.run_folder import IMAGES

QUALITY = 75
"""Of a film's frames, as JPEG."""

FRAME_SIDE = 528
"""Longest side of a film's frames: a grid of 8 × 8 pictures of 64 px as it is."""

FRAMES = 120
"""More than these nobody tells apart on a slider."""


def evenly(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [count - 1]


def open_picture(path: Path) -> Image.Image | None:
    """A picture in RGB, decoded; None where it cannot be."""
    try:
        with path.open("rb") as file:
            return open_image(file).convert("RGB")
    except (BadFile, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


class Embedded(NamedTuple):
    """A picture as text, for `src`."""

    uri: str
    width: int
    height: int


class Frame(NamedTuple):
    """A frame of the film in the page."""

    uri: str
    pictures: int  # seen when it was drawn


def picture(path: Path, *, most: int) -> Embedded | None:
    """A picture, exact where its PNG has at most `most` bytes; else as WebP, reduced until it has. None: unreadable."""
    opened = open_picture(path)
    if opened is None:
        return None
    size, content = opened.size, path.read_bytes()
    if content.startswith(b"\x89PNG") and len(content) <= most:
        return Embedded(_uri(content, "png"), *size)
    for quality in (95, 85, QUALITY):
        content = _encoded(opened, "webp", quality)
        if len(content) <= most:
            return Embedded(_uri(content, "webp"), *size)
    while len(content) > most:
        opened = opened.resize((max(1, opened.width * 3 // 4), max(1, opened.height * 3 // 4)))
        content = _encoded(opened, "webp", QUALITY - 10)
    return Embedded(_uri(content, "webp"), *size)


def frames(grids: Sequence[Grid], *, most: int, count: int = FRAMES) -> list[Frame]:
    """Frames for the page's film: at most `count`, evenly spaced, the last grid always among them.

    Args:
        grids: in the order of training.
        most: bytes of all of them together; they are fewer where that is too little.
        count: frames.
    """
    count = min(len(grids), count)
    while count:
        made = [(_jpeg(grids[i].path), grids[i].pictures) for i in evenly(len(grids), count)]
        sizes = sum(len(content) for content, _ in made if content)
        if sizes <= most or count == 1:
            return [Frame(_uri(content, "jpeg"), pictures) for content, pictures in made if content]
        count = max(1, min(count - 1, int(count * most / sizes)))
    return []


def sheets(pictures: Sequence[Image.Image], *, most: int) -> list[Embedded]:
    """Pictures as JPEG, all in one quality, the best of three that keeps them within `most` bytes, or else reduced."""
    scale = 1.0
    while True:
        reduced = [p.resize((max(1, round(p.width * scale)), max(1, round(p.height * scale)))) for p in pictures]
        for quality in (85, QUALITY, 60):
            made = [_encoded(picture, "jpeg", quality) for picture in reduced]
            if sum(map(len, made)) <= most or scale < 0.2:
                return [Embedded(_uri(content, "jpeg"), *p.size) for content, p in zip(made, pictures, strict=True)]
        scale *= 0.75


def _jpeg(path: Path) -> bytes | None:
    opened = open_picture(path)
    if opened is None:
        return None
    opened.thumbnail((FRAME_SIDE, FRAME_SIDE), Image.Resampling.LANCZOS)
    return _encoded(opened, "jpeg", QUALITY)


def _encoded(opened: Image.Image, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    opened.save(file, kind, quality=quality)
    return file.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


# ---- an interpolation and every class, from the checkpoint

TILES, COLUMNS, STEPS = 9, 3, 60
"""Interpolations beside each other and in a row, and frames of one round."""

PER_CLASS = 4
"""Pictures of each class."""


@dataclass(frozen=True)
class Gallery:
    """Pictures in RGB."""

    interpolation: list[Image.Image] = field(default_factory=list)  # a loop
    classes: dict[str, Image.Image] = field(default_factory=dict)  # side by side; none for an unconditional model


def draw_gallery(run: Path, *, trust: bool = False, progress: Progress = no_progress) -> Gallery | None:
    """Draws the gallery of a run, from its checkpoint alone; None for a translation, which has no latents.

    Args:
        run: the run's folder.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Raises:
        KitError: no checkpoint, a damaged one, one that brings code and is not trusted, or a generator that has
            diverged.
    """
    import torch

    from kit.generation.export import RunGenerator
    from kit.generation.latents import first_latents, loop_latents

    source = RunGenerator.load(run, trust=trust)
    if source.recipe.task == "translation":
        return None
    generator, truncation = source.prepare()
    latent, names = source.recipe.latent, source.shape.classes if source.recipe.conditional else ()
    total = TILES * STEPS + PER_CLASS * len(names)

    z = loop_latents(latent, count=TILES, frames=STEPS, seed=source.seed, truncation=truncation)
    y = torch.tensor(source.labels(TILES, class_name=None) or [0] * TILES).expand(STEPS, -1)
    steps = source.render_frames(generator, z, y, progress=lambda done, _: progress(done, total))
    interpolation = [make_grid(step, columns=COLUMNS).convert("RGB") for step in steps]
    if not names:
        return Gallery(interpolation)

    z = first_latents(latent, count=PER_CLASS, seed=source.seed, truncation=truncation)
    y = torch.arange(len(names))[:, None].expand(-1, PER_CLASS)
    strips = source.render_frames(
        generator, z.expand(len(names), -1, -1), y, progress=lambda done, _: progress(TILES * STEPS + done, total)
    )
    classes = {
        name.replace("_", " "): make_grid(strip, columns=PER_CLASS).convert("RGB")
        for name, strip in zip(names, strips, strict=True)
    }
    return Gallery(interpolation, classes)


# ---- the generated pictures that come nearest to the training set

LOOKED_AT = 512
"""Generated pictures that are looked through, the first by name."""

CHEAP = ("own", "random")
"""Feature sets that look at a whole training set in a minute; others would take half an hour on a CPU."""

GAP = 12
"""Pixels between a generated picture, its neighbours in features and those in pixels."""


@dataclass(frozen=True)
class Nearest:
    """What the page shows and says of it."""

    sheet: Image.Image  # in RGB; a row each: the generated picture, its neighbours in features, those in pixels
    rows: int
    each: int  # neighbours of each kind
    looked_at: int  # generated pictures
    features: str
    distance: float  # the smallest in features, 0 to 1
    difference: float  # the smallest in pixels, grey levels


def find_nearest(run: RunData, *, progress: Progress = no_progress) -> Nearest:
    """Looks for the generated pictures that are nearest to what they were trained on.

    The features are those the run was scored on where these are cheap, else those of an untrained network.

    Args:
        run: of a run with an `images.zip`.
        progress: called with (pictures done, pictures in all).

    Raises:
        KitError: no `images.zip`, the set is not here or is another one, or its pictures are of another size.
    """
    from kit.scoring import features
    from kit.scoring.neighbours import neighbours
    from kit.scoring.reference import default_cache, load_reference

    archive = run.path / IMAGES
    if not run.record.result or not archive.is_file():
        raise KitError(f"{run.path}: no {IMAGES} to look through")
    prepared = load_reference(Path(run.record.data.path), digest=run.record.data.digest)
    size = competition.get(run.record.competition).size
    if prepared.size != size:
        raise KitError(f"{archive}: {size} px, and the set has {prepared.size} px")
    name = run.score.features.name if run.score and run.score.features.name in CHEAP else "random"
    found = neighbours(
        archive,
        prepared,
        features=features.build(name, prepared=prepared),
        count=LOOKED_AT,
        cache=default_cache(prepared),
        progress=progress,
    )
    parts = [
        np.asarray(make_grid(part.reshape(-1, *part.shape[2:]), columns=part.shape[1]).convert("RGB"))
        for part in (found.generated[:, None], found.by_features, found.by_pixels)
    ]
    gap = np.full((len(parts[0]), GAP, 3), 255, np.uint8)
    return Nearest(
        sheet=Image.fromarray(np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)),
        rows=len(found.which),
        each=found.by_features.shape[1],
        looked_at=min(LOOKED_AT, run.record.result.count),
        features=name,
        distance=float(found.feature_distances.min()),
        difference=float(found.pixel_distances.min()),
    )
