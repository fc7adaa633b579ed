"""Pictures inside a page, within a limit of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kit.report.pictures import Grid, evenly, open_picture

QUALITY = 75
"""Of a film's frames, as JPEG."""

FRAME_SIDE = 528
"""Longest side of a film's frames: a grid of 8 × 8 pictures of 64 px as it is."""

FRAMES = 120
"""More than these nobody tells apart on a slider."""

_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


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
