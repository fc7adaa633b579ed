"""One photograph that never was: a place with a ground to stand on, one to three dogs, and a camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kit.demo.breeds import Breed
from kit.demo.dog import POSES, Dog, Pose
from kit.demo.paint import SUPERSAMPLING, Canvas, Colour, Place, ellipse, noise

Box = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax in pixels, the last ones included, as in Pascal VOC
Pixels = NDArray[np.float32]  # (H, W, 3), 0 to 255


@dataclass(frozen=True)
class Setting:
    """A kind of place."""

    draw: Callable[[int, int, float, np.random.Generator], Pixels]  # height, width, horizon 0 to 1 → pixels
    share: float


def _flat(height: int, width: int, colour: Colour) -> Pixels:
    return np.broadcast_to(np.array(colour, np.float32), (height, width, 3)).copy()


def _fade(height: int, width: int, top: Colour, bottom: Colour) -> Pixels:
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(
        np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t, (height, width, 3)
    ).copy()


def _grained(scene: Pixels, cell: float, depth: float, rng: np.random.Generator, *, stretch: float = 1.0) -> Pixels:
    """Adds relief; `stretch` above 1 makes it lie, below 1 stand."""
    height, width = scene.shape[:2]
    grain = noise(max(int(height * stretch), 2), width, cell, rng)
    lying = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BILINEAR))
    return (scene * (1 + depth * lying[..., None])).astype(np.float32)


def _over_ground(sky: Pixels, ground: Pixels, horizon: float) -> Pixels:
    rows = int(sky.shape[0] * horizon)
    return np.concatenate([sky[:rows], ground[rows:]])


def _tinted(colour: Colour, rng: np.random.Generator, much: float = 14) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, much, 3), 0, 255)
    return (float(red), float(green), float(blue))


def meadow(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
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


def lawn(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """Grass from above."""
    scene = _grained(_flat(height, width, _tinted((98, 138, 62), rng)), 7, 0.13, rng, stretch=0.5)
    return _grained(scene, width / 2, 0.08, rng)


def room(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
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


def sofa(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
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


def shore(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """Sand, the sea, and a sky."""
    sky = _fade(height, width, _tinted((140, 186, 222), rng), (236, 234, 224))
    sand = _grained(_fade(height, width, (204, 182, 142), _tinted((222, 200, 158), rng)), 12, 0.06, rng, stretch=2)
    scene = _over_ground(sky, sand, horizon)
    edge = int(height * horizon)
    sea = slice(int(edge * 0.72), edge)
    scene[sea] = _grained(_flat(height, width, _tinted((62, 124, 150), rng)), 20, 0.12, rng, stretch=5)[sea]
    return scene


def snow(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """A white field before a dark wood."""
    trunks = _grained(_flat(height, width, _tinted((92, 104, 112), rng)), 14, 0.22, rng, stretch=0.12)
    field = _grained(_fade(height, width, (214, 224, 236), (240, 243, 248)), width / 4, 0.03, rng)
    return _over_ground(trunks, field, horizon)


def bricks(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """A brick wall over paving."""
    wall = _grained(_flat(height, width, _tinted((158, 86, 66), rng)), 12, 0.1, rng)
    course = max(height // 14, 5)
    y, x = np.mgrid[:height, :width]
    joint = (y % course < course * 0.14) | ((x + (y // course % 2) * course) % (2 * course) < course * 0.14)
    wall[joint] = (196, 186, 174)
    paving = _grained(_fade(height, width, (150, 148, 144), _tinted((122, 120, 116), rng)), 8, 0.06, rng)
    return _over_ground(wall, paving, horizon)


def studio(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """A plain backdrop with a spot of light."""
    colour = _tinted((120, 132, 150), rng, 48)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    spot: Pixels = np.exp(-(((x - rng.uniform(0.3, 0.7)) ** 2 + (y - 0.4) ** 2) / 0.16)).astype(np.float32)
    lit: Pixels = _flat(height, width, colour) * (0.62 + 0.6 * spot[..., None])
    return lit


def lights(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """An evening out of focus: discs of light in the dark."""
    scene = _grained(_flat(height, width, _tinted((52, 56, 70), rng, 18)), width / 2, 0.2, rng)
    y, x = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(14, 30))):
        radius = rng.uniform(0.03, 0.09) * height
        disc = (x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height * 0.8)) ** 2 < radius**2
        scene[disc] += np.array(_tinted((150, 120, 70), rng, 50), np.float32) * rng.uniform(0.3, 0.8)
    return scene


BACKGROUNDS = (
    Setting(meadow, 0.2),
    Setting(lawn, 0.16),
    Setting(room, 0.16),
    Setting(sofa, 0.12),
    Setting(shore, 0.08),
    Setting(snow, 0.07),
    Setting(bricks, 0.08),
    Setting(studio, 0.08),
    Setting(lights, 0.05),
)


def background(height: int, width: int, horizon: float, rng: np.random.Generator) -> Pixels:
    """A background of any kind, a little out of focus: float32 (height, width, 3), 0 to 255."""
    shares = np.array([kind.share for kind in BACKGROUNDS])
    kind = BACKGROUNDS[rng.choice(len(BACKGROUNDS), p=shares / shares.sum())]
    scene = np.clip(kind.draw(height, width, horizon, rng), 0, 255)
    picture = Image.fromarray(scene.astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 3.0)))
    return np.asarray(picture).astype(np.float32)


@dataclass(frozen=True)
class Photograph:
    """A picture and what is in it."""

    image: Image.Image  # RGB
    boxes: list[Box]  # one a dog
    silhouette: NDArray[np.bool_]  # (H, W): where the dogs are


def photograph(breed: Breed, rng: np.random.Generator) -> Photograph:
    """A photograph of dogs of one breed; the generator decides everything else."""
    short = int(np.clip(rng.lognormal(np.log(140), 0.25), 97, 260))
    long = int(short * rng.choice([1.0, 1.25, 4 / 3, 1.5], p=[0.1, 0.2, 0.5, 0.2]))
    width, height = (long, short) if rng.random() < 0.75 else (short, long)
    high, wide = height * SUPERSAMPLING, width * SUPERSAMPLING

    pose = POSES[rng.choice(len(POSES), p=_shares())]
    count = 1 if pose.close else int(rng.choice([1, 2, 3], p=[0.84, 0.13, 0.03]))
    horizon = rng.uniform(0.3, 0.62)
    canvas = Canvas(background(high, wide, horizon, rng), rng)
    everywhere = np.zeros((high, wide), np.bool_)
    boxes = []
    for number in range(count):
        canvas.silhouette[:] = False
        dog = Dog.born(breed, rng)
        place = _close(high, wide, rng) if pose.close else _on_the_ground(high, wide, pose, dog, number, count, rng)
        if not pose.close:
            _shadow(canvas, place, dog)
        pose.draw(canvas, dog, place)
        rows, columns = (np.flatnonzero(canvas.silhouette.any(axis)) // SUPERSAMPLING for axis in (1, 0))
        if len(rows):
            boxes.append((int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])))
            everywhere |= canvas.silhouette
    silhouette = everywhere[::SUPERSAMPLING, ::SUPERSAMPLING]
    return Photograph(_developed(canvas.pixels, width, height, rng), boxes, silhouette)


def _shares() -> NDArray[np.float64]:
    shares = np.array([pose.share for pose in POSES], np.float64)
    normal: NDArray[np.float64] = shares / shares.sum()
    return normal


def _close(high: int, wide: int, rng: np.random.Generator) -> Place:
    """A head that fills a good part of the picture."""
    scale = min(high, wide) * rng.uniform(0.85, 1.25)
    return Place(wide * rng.uniform(0.4, 0.6), high * rng.uniform(0.36, 0.5), scale, mirror=rng.random() < 0.5)


def _on_the_ground(
    high: int, wide: int, pose: Pose, dog: Dog, number: int, count: int, rng: np.random.Generator
) -> Place:
    """A whole dog, most often as large as the picture allows, sometimes far away."""
    tall, broad = dog.height + 2.2 * dog.head, max(dog.body, 0.9) + 2 * dog.head
    fits = min(high * 0.9 / tall, wide * 0.94 / broad / count**0.7)
    scale = fits * rng.choice([rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.5)], p=[0.6, 0.3, 0.1])
    lowest = 0.97 - 0.06 * (count - 1 - number)
    y = high * rng.uniform(max(lowest - 0.1, 0.7), lowest)
    x = wide * ((number + 0.5) / count + rng.normal(0, 0.04))
    return Place(float(x), float(y), float(scale), mirror=rng.random() < 0.5)


def _shadow(canvas: Canvas, place: Place, dog: Dog) -> None:
    """What a dog that stands on the ground throws on it."""
    spot = ellipse(0.0, 0.0, dog.body * 0.6, 0.07)
    canvas.paint([spot], (24, 24, 30), place, relief=0, fur=0, soft=5, opacity=0.4, silhouette=False)


def _developed(pixels: NDArray[np.float32], width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """From the canvas to the picture: exposure, white balance, focus, grain."""
    exposure, warmth = rng.normal(1.0, 0.09), rng.normal(0, 0.035)
    light = np.array([1 + warmth, 1.0, 1 - warmth], np.float32) * exposure
    image = Image.fromarray(np.clip(pixels * light, 0, 255).astype(np.uint8))
    small = image.resize((width, height), Image.Resampling.BOX)
    if rng.random() < 0.2:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    grain = rng.normal(0, rng.uniform(0.5, 3.0), (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8))
