"""Which parts of a picture become samples, and how they are cut out."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kit.core.errors import KitError, unknown
from kit.data.annotations import Corners

FILTER = Image.Resampling.LANCZOS
"""For crops and for whole pictures: the public scorer resizes its reference with the same."""

REDUCING_GAP = 2.5
"""A picture over so many times as large as the target is first averaged down by a whole factor. The result differs from
the plain resize by 52 dB."""

MAX_CANVAS_ASPECT = 3.0
"""Longest side of a canvas, as a multiple of its shortest."""

Pixels = NDArray[np.uint8]

Box = tuple[int, int, int, int]
"""xmin, ymin, xmax, ymax: whole pixels inside the picture, the last ones not included."""


@dataclass(frozen=True)
class CropPolicy:
    """What becomes of the boxes of a picture."""

    summary: str
    region: Callable[[Box, int, int], Box] | None  # box, width, height → what is cut out; None: the whole picture
    canvas: bool = False  # keep pixels of the whole picture, for fresh random squares in each epoch


def as_is(box: Box, width: int, height: int) -> Box:
    """The box itself."""
    return box


def squared(box: Box, width: int, height: int) -> Box:
    """The box, its shorter side grown to the longer about its centre, pushed back into the picture where it sticks out.

    Where the picture is narrower than that, it takes the whole breadth and stays a rectangle, so nothing of the box is
    lost.
    """
    xmin, ymin, xmax, ymax = box
    side = max(xmax - xmin, ymax - ymin)
    x, w = _grow(xmin, xmax, min(side, width), width)
    y, h = _grow(ymin, ymax, min(side, height), height)
    return x, y, x + w, y + h


def _grow(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    start = low - (length - (high - low)) // 2
    return min(max(start, 0), limit - length), length


CROPS: dict[str, CropPolicy] = {
    "box": CropPolicy("every box, resized to a square", as_is),
    "square": CropPolicy("every box, extended to a square as far as the picture allows", squared),
    "mixed": CropPolicy("half box squares, half random squares of the whole picture", squared, canvas=True),
    "whole": CropPolicy("each whole picture, resized to a square", None),
}


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How to crop. Sides are in pixels of the original picture, measured on the box before it is made square."""

    policy: str | None = None  # a name of CROPS; None: what the competition and the source suggest
    margin_percent: float = 0.0  # of the box's width left and right, of its height above and below
    margin_px: int = 0  # on each side, besides
    min_side: int = 0  # what has a shorter side is left out
    max_aspect: float | None = None  # what is longer than so many times its breadth is left out

    def __post_init__(self) -> None:
        if self.policy is not None and self.policy not in CROPS:
            raise unknown("crop policy", self.policy, CROPS)
        for name in ("margin_percent", "margin_px", "min_side"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise KitError(f"{name} of {value}", "give 0 or more")
        if self.max_aspect is not None and not self.max_aspect >= 1:
            raise KitError(f"max_aspect of {self.max_aspect}", "give 1 or more")


@dataclass(frozen=True, slots=True)
class Crop:
    """A sample to be cut out of a picture."""

    box: Box | None  # None: the whole picture
    repair: str | None = None  # what had to be repaired


@dataclass(frozen=True)
class Plan:
    """All samples of one picture, and what happened to its boxes: listed = kept + dropped + filtered."""

    crops: tuple[Crop, ...]  # empty: the filters left nothing of the picture
    listed: int = 0  # boxes of its annotation
    dropped: Counter[str] = field(default_factory=Counter)  # fault → boxes
    filtered: Counter[str] = field(default_factory=Counter)  # filter → boxes
    clamped: int = 0  # of the boxes kept
    left_out: str | None = None  # why there are no crops


def plan(boxes: Sequence[Corners] | None, width: int, height: int, policy: str, settings: CropSettings) -> Plan:
    """Decides what is cut out of a picture.

    A box that is none (inverted, empty, not a number, wholly outside) is dropped; a picture without one good box is
    taken whole, once. A box that sticks out is clamped.

    Args:
        boxes: as they were written; None: the picture has no annotation and needs none.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        policy: a name of CROPS.
        settings: margins and filters.
    """
    region = CROPS[policy].region
    if region is None or boxes is None:
        return _whole(width, height, settings, repair=None)

    crops: list[Crop] = []
    dropped: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    notes: list[str] = []
    clamped = 0
    for number, corners in enumerate(boxes, 1):
        if fault := _fault(corners, width, height):
            dropped[fault] += 1
            notes.append(f"box {number} is {fault}")
            continue
        box = _clamp(corners, width, height)
        if reason := _filter(box, settings):
            filtered[reason] += 1
            continue
        repair = None
        if min(corners) < 0 or corners[2] > width or corners[3] > height:
            clamped += 1
            repair = "box clamped to the picture"
        crops.append(Crop(region(_clamp(_widen(box, settings), width, height), width, height), repair))

    if crops:
        if notes:
            repairs = [crops[0].repair] if crops[0].repair else []
            crops[0] = Crop(crops[0].box, "; ".join([*repairs, *notes]) + ", left out")
        return Plan(tuple(crops), len(boxes), dropped, filtered, clamped)
    if filtered:
        return Plan((), len(boxes), dropped, filtered, left_out=f"no box left: {next(iter(filtered))}")
    whole = _whole(width, height, settings, repair="; ".join(notes or ["no box"]) + ": the whole picture taken")
    return Plan(whole.crops, len(boxes), dropped, filtered, left_out=whole.left_out)


def _whole(width: int, height: int, settings: CropSettings, *, repair: str | None) -> Plan:
    reason = _filter((0, 0, width, height), settings)
    return Plan((), left_out=reason) if reason else Plan((Crop(None, repair),))


def _fault(corners: Corners, width: int, height: int) -> str | None:
    xmin, ymin, xmax, ymax = corners
    if not all(map(math.isfinite, corners)):
        return "not a number"
    if xmax < xmin or ymax < ymin:
        return "inverted"
    if xmax == xmin or ymax == ymin:
        return "empty"
    if xmin >= width or ymin >= height or xmax <= 0 or ymax <= 0:
        return "outside"
    return None


def _clamp(corners: Corners, width: int, height: int) -> Box:
    """The whole pixels that a box inside or across the picture touches."""
    xmin, ymin, xmax, ymax = corners
    return (
        max(0, math.floor(xmin)),
        max(0, math.floor(ymin)),
        min(width, math.ceil(xmax)),
        min(height, math.ceil(ymax)),
    )


def _widen(box: Box, settings: CropSettings) -> Corners:
    xmin, ymin, xmax, ymax = box
    x = settings.margin_px + settings.margin_percent / 100 * (xmax - xmin)
    y = settings.margin_px + settings.margin_percent / 100 * (ymax - ymin)
    return xmin - x, ymin - y, xmax + x, ymax + y


def _filter(box: Box, settings: CropSettings) -> str | None:
    short, long = sorted((box[2] - box[0], box[3] - box[1]))
    if short < settings.min_side:
        return f"a side under {settings.min_side} px"
    if settings.max_aspect is not None and long > settings.max_aspect * short:
        return f"over {settings.max_aspect:g} times as long as broad"
    return None


def import_albumentations() -> Callable[[Pixels, int, int, int, int], Pixels]:
    """Albumentations' crop; the first call takes seconds.

    Its function is called, not a `Compose` of it, which would cost a third of a photograph's decoding.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it asks the network for a newer one
    with _without("torch"):
        from albumentations.augmentations.crops.functional import crop
    return cast(Callable[[Pixels, int, int, int, int], Pixels], crop)


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Lets an import go without a module that is an extra to it.

    Albumentations imports torch where it finds it, for a converter that is not used here: over a second and 480 MB in
    each process.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    try:
        yield
    finally:
        del sys.modules[module]


def cut(pixels: Pixels, box: Box, size: int, *, reduced: int = 1) -> Pixels:
    """Cuts a box out of a picture with albumentations, and resizes it with Pillow.

    Args:
        pixels: uint8 (H, W) or (H, W, C), the picture reduced by a whole factor.
        box: inside of the picture, in pixels before that reduction.
        size: side of the result.
        reduced: the factor.

    Returns:
        uint8 (size, size, C).
    """
    xmin, ymin, xmax, ymax = (side / reduced for side in box)
    left, top, right, bottom = _clamp((xmin, ymin, xmax, ymax), pixels.shape[1], pixels.shape[0])
    piece = Image.fromarray(import_albumentations()(pixels, left, top, right, bottom))
    return _resize(piece, (size, size), (xmin - left, ymin - top, xmax - left, ymax - top))


def resize_to_square(picture: Image.Image, extent: tuple[float, float], size: int) -> Pixels:
    """The whole picture as a square, whatever its shape: uint8 (size, size, C).

    Args:
        picture: mode "L" or "RGB".
        extent: its breadth and height in its own pixels, which are fractions after a reduced decode.
        size: side of the result.
    """
    return _resize(picture, (size, size), (0, 0, *extent))


def to_canvas(picture: Image.Image, extent: tuple[float, float], size: int) -> Pixels:
    """The whole picture with its shorter side brought to `size` and its shape kept: uint8 (h, w, C).

    Every square of `size` pixels in it is a random square of the picture, ready for use. What is longer than
    MAX_CANVAS_ASPECT times its breadth is trimmed at both ends, so that a strip cannot fill the memory.
    """
    width, height = extent
    keep_x, keep_y = min(width, MAX_CANVAS_ASPECT * height), min(height, MAX_CANVAS_ASPECT * width)
    x, y = (width - keep_x) / 2, (height - keep_y) / 2
    scale = size / min(width, height)
    target = (max(size, round(keep_x * scale)), max(size, round(keep_y * scale)))
    return _resize(picture, target, (x, y, x + keep_x, y + keep_y))


def _resize(picture: Image.Image, size: tuple[int, int], box: Corners) -> Pixels:
    resized = picture.resize(size, FILTER, box=box, reducing_gap=REDUCING_GAP)
    return np.asarray(resized).reshape(size[1], size[0], -1)
