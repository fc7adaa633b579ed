"""Where the dogs are: places with a ground to stand on, in changing light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kit.demo.paint import Colour, noise

Scene = NDArray[np.float32]  # (H, W, 3), 0 to 255


@dataclass(frozen=True)
class Background:
    """A kind of place."""

    draw: Callable[[int, int, float, np.random.Generator], Scene]  # height, width, horizon 0 to 1 → pixels
    share: float


def _flat(height: int, width: int, colour: Colour) -> Scene:
    return np.broadcast_to(np.array(colour, np.float32), (height, width, 3)).copy()


def _fade(height: int, width: int, top: Colour, bottom: Colour) -> Scene:
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(
        np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t, (height, width, 3)
    ).copy()


def _grained(scene: Scene, cell: float, depth: float, rng: np.random.Generator, *, stretch: float = 1.0) -> Scene:
    """Adds relief; `stretch` above 1 makes it lie, below 1 stand."""
    height, width = scene.shape[:2]
    grain = noise(max(int(height * stretch), 2), width, cell, rng)
    lying = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BILINEAR))
    return (scene * (1 + depth * lying[..., None])).astype(np.float32)


def _over_ground(sky: Scene, ground: Scene, horizon: float) -> Scene:
    rows = int(sky.shape[0] * horizon)
    return np.concatenate([sky[:rows], ground[rows:]])


def _tinted(colour: Colour, rng: np.random.Generator, much: float = 14) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, much, 3), 0, 255)
    return (float(red), float(green), float(blue))


def meadow(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """Grass under a sky, with a row of bushes between them."""
    sky = _grained(_fade(height, width, _tinted((120, 172, 226), rng), (228, 236, 240)), width / 2, 0.035, rng)
    grass = _fade(height, width, (128, 158, 84), _tinted((74, 116, 46), rng))
    scene = _over_ground(sky, _grained(grass, 9, 0.09, rng, stretch=0.5), horizon)
    edge = int(height * horizon)
    tops = edge - np.abs(noise(1, width, width / 5, rng)[0]) * height * 0.07 - height * 0.02
    y = np.arange(height)[:, None]
    bushes = (y > tops[None, :]) & (y < edge + 2)
    leaves = _grained(_flat(height, width, _tinted((58, 92, 50), rng)), 10, 0.14, rng)
    scene[bushes] = leaves[bushes]
    return scene


def lawn(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """Grass from above."""
    scene = _grained(_flat(height, width, _tinted((98, 138, 62), rng)), 7, 0.13, rng, stretch=0.5)
    return _grained(scene, width / 2, 0.08, rng)


def room(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """A wall and a floor of boards."""
    wall = _grained(_flat(height, width, _tinted((206, 196, 180), rng, 24)), width, 0.05, rng)
    floor = _grained(_flat(height, width, _tinted((166, 112, 68), rng)), width / 3, 0.09, rng, stretch=6)
    y = np.arange(height, dtype=np.float32)
    depth = np.clip((y / height - horizon) / max(1 - horizon, 0.05), 0, 1)
    board = (np.sqrt(depth) * 7) % 1 < 0.06
    floor[board] *= 0.72
    scene = _over_ground(wall, floor, horizon)
    edge = int(height * horizon)
    scene[max(edge - height // 40, 0) : edge] = _tinted((236, 232, 224), rng, 6)
    return scene


def sofa(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """Upholstery: a back rest with cushions, and a seat."""
    cloth = _tinted((128, 104, 112), rng, 30)
    back = _grained(_flat(height, width, cloth), width / 2, 0.06, rng)
    x = np.linspace(0, rng.uniform(2, 3.5), width) + rng.random()
    back *= (0.82 + 0.18 * np.abs(np.sin(np.pi * x)) ** 0.4)[None, :, None].astype(np.float32)
    seat = _flat(height, width, cloth) * np.linspace(1, 0.82, height, dtype=np.float32)[:, None, None]
    scene = _over_ground(back, seat, horizon)
    edge = int(height * horizon)
    scene[edge : edge + max(height // 30, 1)] *= 0.66
    return _grained(scene, 4, 0.03, rng)


def shore(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """Sand, the sea, and a sky."""
    sky = _fade(height, width, _tinted((140, 186, 222), rng), (236, 234, 224))
    sand = _grained(_fade(height, width, (204, 182, 142), _tinted((222, 200, 158), rng)), 12, 0.06, rng, stretch=2)
    scene = _over_ground(sky, sand, horizon)
    edge = int(height * horizon)
    sea = slice(int(edge * 0.72), edge)
    scene[sea] = _grained(_flat(height, width, _tinted((62, 124, 150), rng)), 20, 0.12, rng, stretch=5)[sea]
    return scene


def snow(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """A white field before a dark wood."""
    trunks = _grained(_flat(height, width, _tinted((92, 104, 112), rng)), 14, 0.22, rng, stretch=0.12)
    field = _grained(_fade(height, width, (214, 224, 236), (240, 243, 248)), width / 4, 0.03, rng)
    return _over_ground(trunks, field, horizon)


def bricks(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """A brick wall over paving."""
    wall = _grained(_flat(height, width, _tinted((158, 86, 66), rng)), 12, 0.1, rng)
    course = max(height // 14, 5)
    y, x = np.mgrid[:height, :width]
    joint = (y % course < course * 0.14) | ((x + (y // course % 2) * course) % (2 * course) < course * 0.14)
    wall[joint] = (196, 186, 174)
    paving = _grained(_fade(height, width, (150, 148, 144), _tinted((122, 120, 116), rng)), 8, 0.06, rng)
    return _over_ground(wall, paving, horizon)


def studio(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """A plain backdrop with a spot of light."""
    colour = _tinted((120, 132, 150), rng, 48)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    spot: Scene = np.exp(-(((x - rng.uniform(0.3, 0.7)) ** 2 + (y - 0.4) ** 2) / 0.16)).astype(np.float32)
    lit: Scene = _flat(height, width, colour) * (0.62 + 0.6 * spot[..., None])
    return lit


def lights(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """An evening out of focus: discs of light in the dark."""
    scene = _grained(_flat(height, width, _tinted((52, 56, 70), rng, 18)), width / 2, 0.2, rng)
    y, x = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(14, 30))):
        radius = rng.uniform(0.03, 0.09) * height
        disc = (x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height * 0.8)) ** 2 < radius**2
        scene[disc] += np.array(_tinted((150, 120, 70), rng, 50), np.float32) * rng.uniform(0.3, 0.8)
    return scene


BACKGROUNDS = (
    Background(meadow, 0.2),
    Background(lawn, 0.16),
    Background(room, 0.16),
    Background(sofa, 0.12),
    Background(shore, 0.08),
    Background(snow, 0.07),
    Background(bricks, 0.08),
    Background(studio, 0.08),
    Background(lights, 0.05),
)


def draw(height: int, width: int, horizon: float, rng: np.random.Generator) -> Scene:
    """A background of any kind, a little out of focus.

    Args:
        height: pixels.
        width: pixels.
        horizon: where the ground begins, as a share of the height from above.
        rng: decides everything.

    Returns:
        float32 (height, width, 3), 0 to 255.
    """
    shares = np.array([kind.share for kind in BACKGROUNDS])
    kind = BACKGROUNDS[rng.choice(len(BACKGROUNDS), p=shares / shares.sum())]
    scene = np.clip(kind.draw(height, width, horizon, rng), 0, 255)
    picture = Image.fromarray(scene.astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 3.0)))
    return np.asarray(picture).astype(np.float32)
