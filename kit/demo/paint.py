"""Shapes as outlines, and a canvas that paints them with light, relief and fur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]  # (n, 2): x to the right, y downwards
Colour = tuple[float, float, float]  # red, green, blue, 0 to 255

SUPERSAMPLING = 2  # canvas pixels per picture pixel, each way

_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_CIRCLE: Points = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Points:
    """The outline of an ellipse around (x, y), turned by `tilt` degrees clockwise."""
    outline: Points = turned(_CIRCLE * np.array([rx, ry]), tilt) + np.array([x, y])
    return outline


def blob(*corners: tuple[float, float]) -> Points:
    """A smooth closed outline through the corners (a periodic Catmull-Rom spline)."""
    points = np.array(corners, np.float64)
    before, after, beyond = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    return np.concatenate([_catmull_rom(*quad, steps=10) for quad in zip(before, points, after, beyond, strict=True)])


def limb(path: Sequence[tuple[float, float]], widths: Sequence[float]) -> list[Points]:
    """A stroke along a smooth path, its width changing from end to end: legs, tails, necks.

    Args:
        path: two points or more.
        widths: one for each point.
    """
    knots = np.array([(*point, width) for point, width in zip(path, widths, strict=True)])
    padded = np.concatenate([knots[:1], knots, knots[-1:]])
    line = np.concatenate([_catmull_rom(*padded[i : i + 4], steps=12) for i in range(len(knots) - 1)] + [knots[-1:]])
    return [ellipse(x, y, width / 2, width / 2) for x, y, width in line]


def ruffled(outline: Points, depth: float, rng: np.random.Generator) -> Points:
    """The outline of long fur: every other point is pushed out or in, at random, by up to `depth`."""
    middle = outline.mean(0)
    out = (outline - middle) / np.maximum(np.linalg.norm(outline - middle, axis=1, keepdims=True), 1e-9)
    push = np.where(np.arange(len(outline)) % 2, 1.0, -0.6) * rng.uniform(0.3, 1, len(outline)) * depth
    moved: Points = outline + out * push[:, None]
    return moved


def turned(points: Points, degrees: float) -> Points:
    """Points turned clockwise about the origin."""
    if not degrees:
        return points
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotated: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return rotated


def _catmull_rom(a: Points, b: Points, c: Points, d: Points, *, steps: int) -> Points:
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


@dataclass(frozen=True)
class Place:
    """Where a drawing's own coordinates lie on the canvas."""

    x: float  # canvas pixels: where its origin goes
    y: float
    scale: float  # canvas pixels per unit
    tilt: float = 0.0  # degrees, clockwise
    mirror: bool = False

    def __call__(self, points: Points) -> Points:
        """From the drawing's units to canvas pixels."""
        scaled = turned(points, self.tilt) * (-self.scale if self.mirror else self.scale, self.scale)
        placed: Points = scaled + np.array([self.x, self.y])
        return placed

    def within(self, x: float, y: float, scale: float, tilt: float = 0.0) -> Place:
        """The place of a part whose origin is at (x, y) here, and whose unit is `scale` of the units here."""
        px, py = self(np.array([[x, y]]))[0]
        return replace(self, x=px, y=py, scale=self.scale * scale, tilt=self.tilt + tilt)


def noise(height: int, width: int, cell: float, rng: np.random.Generator, *, octaves: int = 3) -> NDArray[np.float32]:
    """Smooth random relief (height, width) of mean 0 and deviation 1; `cell` is its coarsest grain, in pixels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grain = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / grain) + 2, int(width / grain) + 2)).astype(np.float32)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) / 2**octave
    normal: NDArray[np.float32] = (total - total.mean()) / (total.std() + 1e-6)
    return normal


class Canvas:
    """A picture in the making, and the silhouette of what was painted in front of the background.

    Args:
        background: float32 (H, W, 3), 0 to 255; painted over.
        rng: decides the fur.
    """

    def __init__(self, background: NDArray[np.float32], rng: np.random.Generator) -> None:
        self.pixels = background
        self.height, self.width = background.shape[:2]
        self.silhouette = np.zeros((self.height, self.width), np.bool_)
        # Hairs are longer than wide, and mostly hang.
        hairs = noise(self.height // 3 + 1, self.width, 3 * SUPERSAMPLING, rng, octaves=2)
        stretched = Image.fromarray(hairs).resize((self.width, self.height), Image.Resampling.BILINEAR)
        self._fur = np.asarray(stretched)

    def paint(
        self,
        shapes: Sequence[Points],
        colour: Colour,
        place: Place,
        *,
        relief: float = 0.35,
        fur: float = 0.05,
        soft: float = 0.5,
        opacity: float = 1.0,
        inside: Sequence[Points] | None = None,
        silhouette: bool = True,
    ) -> None:
        """Fills shapes with one colour, lit from the upper left.

        Args:
            shapes: outlines in the units of `place`; they are painted as one.
            colour: of its lit middle.
            place: where the outlines lie.
            relief: how much darker the edges are; 0 is flat.
            fur: contrast of the hairs.
            soft: blur of the edge, in canvas pixels.
            opacity: 0 to 1.
            inside: other outlines of the same place that the shapes are cut off at, as a marking is at the coat's edge.
            silhouette: whether this belongs to the dog.
        """
        outlines = [place(shape) for shape in shapes]
        points = np.concatenate(outlines)
        margin = int(3 * soft) + 2
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - margin, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + margin + 1, (self.width, self.height))
        if x0 >= x1 or y0 >= y1:
            return
        mask = _mask(outlines, x0, y0, x1, y1)
        edge = mask.filter(ImageFilter.GaussianBlur(soft)) if soft else mask
        alpha = np.asarray(edge, np.float32) / 255 * opacity
        if inside is not None:
            cut = _mask([place(shape) for shape in inside], x0, y0, x1, y1)
            alpha = alpha * (np.asarray(cut.filter(ImageFilter.GaussianBlur(0.5)), np.float32) / 255)
        shade = 1 + fur * self._fur[y0:y1, x0:x1]
        if relief:
            shade = shade + relief * _relief(mask)
        window = self.pixels[y0:y1, x0:x1]
        window += alpha[..., None] * (shade[..., None] * np.array(colour, np.float32) - window)
        if silhouette:
            self.silhouette[y0:y1, x0:x1] |= alpha > 0.5


def _mask(outlines: Sequence[Points], x0: int, y0: int, x1: int, y1: int) -> Image.Image:
    mask = Image.new("L", (x1 - x0, y1 - y0))
    pen = ImageDraw.Draw(mask)
    for outline in outlines:
        pen.polygon((outline - np.array([x0, y0])).ravel().tolist(), fill=255)
    return mask


def _relief(mask: Image.Image) -> NDArray[np.float32]:
    """About −1 at edges that lie in the shade, 0 in the middle, slightly positive at edges that are lit."""
    depth = max(min(mask.size) * 0.11, 1.0)
    height = np.asarray(mask.filter(ImageFilter.GaussianBlur(depth)), np.float32) / 255
    step = max(int(depth * 0.7), 1)
    lit = height - np.pad(height, ((step, 0), (step, 0)), mode="edge")[:-step, :-step]
    return ((height - 1) * 0.9 + lit * 0.8).astype(np.float32)
