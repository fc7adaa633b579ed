"""One photograph that never was: a place, one to three dogs, and a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kit.demo import background
from kit.demo.breeds import Breed
from kit.demo.dog import POSES, Dog, Pose
from kit.demo.paint import SUPERSAMPLING, Canvas, Place, ellipse

Box = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax in pixels, the last ones included, as in Pascal VOC


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
    canvas = Canvas(background.draw(high, wide, horizon, rng), rng)
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
