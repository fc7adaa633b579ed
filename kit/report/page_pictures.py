"""The pictures inside a page, within a limit of bytes: frames of its film, grids, an interpolation, every class."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from kit.core.progress import Progress, no_progress
from kit.data.archives import BadFile
from kit.data.decoding import open_image
from kit.data.grid import make_grid
from kit.generation import interpolate
from kit.generation.export import RunGenerator
from kit.report.run_data import Grid

QUALITY = 75
"""Of a film's frames, as JPEG."""

FRAME_SIDE = 528
"""Longest side of a film's frames: a grid of 8 × 8 pictures of 64 px as it is."""

FRAMES = 120
"""More than these nobody tells apart on a slider."""

_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


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


@dataclass(frozen=True)
class Embedded:
    """A picture as text, for `src`."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """A frame of the film in the page."""

    uri: str
    pictures: int  # seen when it was drawn


def data_uri(content: bytes, kind: str) -> str:
    """The bytes of a picture as a `data:` address; `kind` is Pillow's name of the format."""
    return f"data:{_TYPES[kind]};base64,{base64.b64encode(content).decode('ascii')}"


def picture(path: Path, *, most: int) -> Embedded | None:
    """A picture, exact where its PNG has at most `most` bytes; else as WebP, reduced until it has. None: unreadable."""
    opened = open_picture(path)
    if opened is None:
        return None
    size = opened.size
    content, kind, quality = path.read_bytes(), "PNG", 95
    exact = content.startswith(b"\x89PNG") and len(content) <= most
    while not exact and (kind == "PNG" or len(content) > most):
        if quality < QUALITY:
            opened = opened.resize((max(1, opened.width * 3 // 4), max(1, opened.height * 3 // 4)))
        content, kind, quality = _encoded(opened, "WEBP", quality), "WEBP", quality - 10
        quality = max(quality, QUALITY - 10)
    return Embedded(data_uri(content, kind), *size)


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
            return [Frame(data_uri(content, "JPEG"), pictures) for content, pictures in made if content]
        count = max(1, min(count - 1, int(count * most / sizes)))
    return []


def sheets(pictures: Sequence[Image.Image], *, most: int) -> list[Embedded]:
    """Pictures as JPEG, all in one quality, the best of three that keeps them within `most` bytes, or else reduced."""
    scale = 1.0
    while True:
        for quality in (85, QUALITY, 60):
            made = [_encoded(_reduced(picture, scale), "JPEG", quality) for picture in pictures]
            if sum(map(len, made)) <= most or scale < 0.2:
                return [
                    Embedded(data_uri(content, "JPEG"), *picture.size)
                    for content, picture in zip(made, pictures, strict=True)
                ]
        scale *= 0.75


def _reduced(picture: Image.Image, scale: float) -> Image.Image:
    if scale == 1:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _jpeg(path: Path) -> bytes | None:
    opened = open_picture(path)
    if opened is None:
        return None
    opened.thumbnail((FRAME_SIDE, FRAME_SIDE), Image.Resampling.LANCZOS)
    return _encoded(opened, "JPEG", QUALITY)


def _encoded(opened: Image.Image, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    opened.save(file, kind, quality=quality)
    return file.getvalue()


TILES, COLUMNS, STEPS = 9, 3, 60
"""Interpolations beside each other and in a row, and frames of one round."""

PER_CLASS = 4
"""Pictures of each class."""


@dataclass(frozen=True)
class ClassStrip:
    """A class by its name, and pictures of it side by side."""

    name: str
    strip: Image.Image


@dataclass(frozen=True)
class Gallery:
    """Pictures in RGB."""

    interpolation: list[Image.Image] = field(default_factory=list)  # a loop
    classes: list[ClassStrip] = field(default_factory=list)  # none for an unconditional model


def gallery_size(classes: int) -> int:
    """How many pictures a gallery of so many classes draws."""
    return TILES * STEPS + PER_CLASS * classes


def draw_gallery(run: Path, *, trust: bool = False, progress: Progress = no_progress) -> Gallery:
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
    whole = gallery_size(len(names))

    z = interpolate.loop_latents(latent, count=TILES, frames=STEPS, seed=saved.seed, truncation=threshold)
    y = torch.tensor(saved.labels(TILES, class_name=None) or [0] * TILES).expand(STEPS, -1)
    steps = saved.render_frames(generator, z, y, progress=lambda done, _: progress(done, whole))
    video = [make_grid(step, columns=COLUMNS).convert("RGB") for step in steps]

    if not names:
        return Gallery(interpolation=video)
    z = interpolate.first_latents(latent, count=PER_CLASS, seed=saved.seed, truncation=threshold)
    y = torch.arange(len(names))[:, None].expand(-1, PER_CLASS)
    strips = saved.render_frames(
        generator, z.expand(len(names), -1, -1), y, progress=lambda done, _: progress(TILES * STEPS + done, whole)
    )
    classes = [
        ClassStrip(name.replace("_", " "), make_grid(strip, columns=PER_CLASS).convert("RGB"))
        for name, strip in zip(names, strips, strict=True)
    ]
    return Gallery(interpolation=video, classes=classes)
