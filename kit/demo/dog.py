"""A dog, drawn part by part: trunk and legs by pose, and a head that looks at the camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kit.demo.breeds import Breed
from kit.demo.paint import Canvas, Colour, Place, Points, blob, ellipse, limb, ruffled

NOSE: Colour = (38, 32, 34)
TONGUE: Colour = (226, 120, 124)
PINK: Colour = (214, 160, 150)


@dataclass(frozen=True)
class Dog:
    """One dog: a breed, and what makes it differ from the next one."""

    breed: Breed
    base: Colour
    second: Colour
    legs: float
    body: float
    girth: float
    head: float
    tilt: float  # of the head, in degrees
    turn: float  # of the face, −1 (its right) to 1
    panting: bool
    rng: np.random.Generator

    @classmethod
    def born(cls, breed: Breed, rng: np.random.Generator) -> Dog:
        """A dog of a breed; the generator also decides its markings as it is drawn."""
        warmth, light = rng.normal(0, 7), rng.uniform(0.86, 1.07)

        def tinted(colour: Colour) -> Colour:
            red, green, blue = colour
            return ((red + warmth) * light, green * light, (blue - warmth) * light)

        def about(length: float) -> float:
            return length * rng.uniform(0.92, 1.08)

        return cls(
            breed=breed,
            base=tinted(breed.base),
            second=tinted(breed.second),
            legs=about(breed.legs),
            body=about(breed.body),
            girth=about(breed.girth),
            head=about(breed.head),
            tilt=rng.normal(0, 7),
            turn=float(np.clip(rng.normal(0, 0.5), -1, 1)),
            panting=rng.random() < 0.45,
            rng=rng,
        )

    @property
    def height(self) -> float:
        """From the ground to the withers."""
        return self.legs + self.girth

    @property
    def chest(self) -> Colour:
        """Colour of the front of the trunk."""
        light = {"cream", "collie", "beard"}
        return self.second if self.breed.coat in light else mix(self.base, (255, 250, 240), 0.12)

    @property
    def feet(self) -> Colour:
        """Colour of the paws."""
        return self.second if self.breed.coat in {"cream", "collie", "beard"} else self.base

    def coat(self, outline: Points) -> list[Points]:
        """An outline of the trunk as its fur leaves it."""
        return [ruffled(outline, self.breed.fur, self.rng) if self.breed.fur else outline]

    def curls(self, outline: Points, radius: float) -> list[Points]:
        """Balls of wool over an outline, for coats that are curly."""
        picked = outline[:: max(len(outline) // 16, 1)]
        return [ellipse(x, y, *self.rng.uniform(0.8, 1.2, 2) * radius) for x, y in picked]


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two; `share` is the other's."""
    r, g, b = (a + (z - a) * share for a, z in zip(one, other, strict=True))
    return (r, g, b)


def standing(canvas: Canvas, dog: Dog, place: Place) -> None:
    """Seen from its left side, the face towards the camera. Origin: the ground under its middle."""
    half, legs, girth = dog.body / 2, dog.legs, dog.girth
    far = mix(dog.base, (20, 16, 24), 0.4)
    stride = dog.rng.uniform(-0.06, 0.06)
    _foreleg(canvas, dog, place, -half * 0.62 - stride, far)
    _hindleg(canvas, dog, place, half * 0.72 + stride, far)
    _tail(canvas, dog, place, (half * 0.96, -legs - girth * 0.82))
    trunk = blob(
        (-half * 1.0, -legs - girth * 0.5),
        (-half * 0.72, -legs - girth),
        (0.0, -legs - girth * 0.93),
        (half * 0.75, -legs - girth * 0.98),
        (half * 1.03, -legs - girth * 0.6),
        (half * 0.72, -legs - girth * 0.16),
        (0.0, -legs - girth * 0.06),
        (-half * 0.66, -legs + girth * 0.04),
    )
    outline = dog.coat(trunk)
    canvas.paint(outline, dog.base, place)
    _hindleg(canvas, dog, place, half * 0.82 - stride, dog.base)
    _foreleg(canvas, dog, place, -half * 0.72 + stride, dog.base)
    _markings(canvas, dog, place, outline, trunk)
    neck = limb([(-half * 0.72, -legs - girth * 0.62), (-half * 0.98, -legs - girth * 1.1)], [girth * 0.8, girth * 0.6])
    canvas.paint(neck, dog.base, place)
    bib = ellipse(-half * 0.98, -legs - girth * 0.6, girth * 0.26, girth * 0.42, 18)
    canvas.paint(dog.coat(bib), dog.chest, place, soft=3, opacity=0.9, inside=[*outline, *neck])
    head(canvas, dog, place.within(-half * 1.02, -legs - girth * 1.12 - dog.head * 0.5, dog.head, dog.tilt))


def sitting(canvas: Canvas, dog: Dog, place: Place) -> None:
    """Seen from the front. Origin: the ground between its paws."""
    tall, wide = dog.height * 0.98, dog.girth * 0.62
    _tail(canvas, dog, place, (wide * 1.15, -0.12))
    trunk = blob(
        (0.0, -tall),
        (wide * 0.72, -tall * 0.85),
        (wide * 0.86, -tall * 0.5),
        (wide * 1.12, -tall * 0.18),
        (0.0, -0.03),
        (-wide * 1.12, -tall * 0.18),
        (-wide * 0.86, -tall * 0.5),
        (-wide * 0.72, -tall * 0.85),
    )
    outline = dog.coat(trunk)
    for side in (-1, 1):
        haunch = ellipse(side * wide * 1.0, -tall * 0.2, wide * 0.5, tall * 0.22, side * 14)
        canvas.paint(dog.coat(haunch), mix(dog.base, (20, 16, 24), 0.12), place)
        canvas.paint([ellipse(side * wide * 1.18, -0.035, 0.11, 0.05)], dog.feet, place)
    canvas.paint(outline, dog.base, place)
    _markings(canvas, dog, place, outline, trunk)
    bib = blob((0.0, -tall * 0.98), (wide * 0.5, -tall * 0.72), (0.0, -tall * 0.3), (-wide * 0.5, -tall * 0.72))
    canvas.paint(dog.coat(bib), dog.chest, place, soft=3, opacity=0.9, inside=outline)
    for side in (-1, 1):
        x = side * wide * 0.42
        width = 0.15 + dog.breed.fur
        canvas.paint(limb([(x, -tall * 0.52), (x * 1.1, -0.07)], [width, width * 0.82]), dog.base, place, relief=0.3)
        canvas.paint([ellipse(x * 1.15, -0.045, width * 0.62, 0.06)], dog.feet, place)
        for toe in (-1, 1):
            line = limb([(x * 1.15 + toe * 0.03, -0.06), (x * 1.15 + toe * 0.03, -0.01)], [0.012, 0.012])
            canvas.paint(line, mix(dog.feet, (20, 10, 10), 0.6), place, relief=0, fur=0)
    head(canvas, dog, place.within(0.0, -tall - dog.head * 0.45, dog.head * 1.08, dog.tilt))


def lying(canvas: Canvas, dog: Dog, place: Place) -> None:
    """On its belly, seen half from the front. Origin: the ground under its middle."""
    half, girth = dog.body * 0.46, dog.girth
    _tail(canvas, dog, place, (half * 1.05, -girth * 0.3))
    trunk = blob(
        (-half * 0.95, -girth * 0.4),
        (-half * 0.6, -girth * 1.02),
        (half * 0.3, -girth * 0.94),
        (half * 1.05, -girth * 0.6),
        (half * 1.08, -0.05),
        (0.0, -0.01),
        (-half * 0.8, -0.03),
    )
    outline = dog.coat(trunk)
    canvas.paint(outline, dog.base, place)
    _markings(canvas, dog, place, outline, trunk)
    haunch = ellipse(half * 0.72, -girth * 0.36, girth * 0.42, girth * 0.36, -20)
    canvas.paint(dog.coat(haunch), dog.base, place, relief=0.3)
    canvas.paint(limb([(half * 0.8, -0.05), (half * 0.3, -0.04)], [0.1, 0.09]), dog.feet, place)
    bib = ellipse(-half * 0.72, -girth * 0.55, girth * 0.42, girth * 0.5)
    canvas.paint(dog.coat(bib), dog.chest, place, soft=3, opacity=0.9, inside=outline)
    for x, y in ((-half * 0.35, -0.07), (-half * 0.95, -0.05)):
        width = 0.13 + dog.breed.fur * 0.6
        canvas.paint(limb([(x + 0.12, y - 0.08), (x - 0.16, y + 0.02)], [width, width]), dog.base, place)
        canvas.paint([ellipse(x - 0.2, y + 0.015, 0.085, 0.06)], dog.feet, place)
    head(canvas, dog, place.within(-half * 0.72, -girth * 1.1 - dog.head * 0.4, dog.head * 1.05, dog.tilt))


def portrait(canvas: Canvas, dog: Dog, place: Place) -> None:
    """Head and shoulders; the rest is below the picture. Origin: the middle of the head; its half width is 0.3."""
    wide = 0.3 * dog.girth / dog.head
    shoulders = blob(
        (0.0, 0.0),
        (wide * 0.55, 0.16),
        (wide * 0.95, 0.6),
        (wide * 1.1, 1.6),
        (-wide * 1.1, 1.6),
        (-wide * 0.95, 0.6),
        (-wide * 0.55, 0.16),
    )
    outline = dog.coat(shoulders)
    canvas.paint(outline, dog.base, place)
    _markings(canvas, dog, place, outline, shoulders)
    bib = ellipse(0.0, 0.62, wide * 0.5, 0.46)
    canvas.paint(dog.coat(bib), dog.chest, place, soft=5, opacity=0.9, inside=outline)
    head(canvas, dog, place.within(0.0, 0.0, 0.3, dog.tilt))


# How often each pose is met, and how tall and wide it is in its own units.
@dataclass(frozen=True)
class Pose:
    """A way to hold still for the camera."""

    draw: Callable[[Canvas, Dog, Place], None]
    share: float
    close: bool  # fills the picture, cut off by its lower edge


POSES = (
    Pose(standing, 0.28, close=False),
    Pose(sitting, 0.3, close=False),
    Pose(lying, 0.14, close=False),
    Pose(portrait, 0.28, close=True),
)


def head(canvas: Canvas, dog: Dog, place: Place) -> None:
    """The face. Origin: between the eyes and the crown; the unit is half the width of the skull."""
    breed, turn = dog.breed, dog.turn
    behind = breed.ears in {"pricked", "round"}
    if behind:
        _ears(canvas, dog, place)
    ruff = max(breed.fur * 2.6, 0.02)
    jaw = 0.5 + 0.2 * breed.muzzle
    skull = blob(
        (0.0, -0.82),
        (0.62, -0.7),
        (0.98, -0.12),
        (0.86, 0.46),
        (jaw * 0.7, 0.82),
        (0.0, 0.94),
        (-jaw * 0.7, 0.82),
        (-0.86, 0.46),
        (-0.98, -0.12),
        (-0.62, -0.7),
    )
    outline = [ruffled(skull, ruff, dog.rng)] if breed.fur else [skull]
    if breed.coat == "curls":
        outline += dog.curls(skull, 0.22)
    canvas.paint(outline, mix(dog.base, (20, 12, 16), 0.45), place.within(0.03, 0.12, 1.0), soft=6, opacity=0.4)
    canvas.paint(outline, dog.base, place)
    _face_markings(canvas, dog, place, outline)

    nose_x, nose_y = 0.3 * turn, 0.12 + breed.snout * 0.42
    chin = nose_y + 0.34 + breed.snout * 0.16
    _muzzle(canvas, dog, place, nose_x, nose_y, chin, outline)
    for side in (-1, 1):
        _eye(canvas, dog, place, side * 0.4 + turn * 0.16)
    if not behind:
        _ears(canvas, dog, place)
    if breed.coat == "curls":
        top = blob((0.0, -1.05), (0.5, -0.85), (0.55, -0.5), (0.0, -0.45), (-0.55, -0.5), (-0.5, -0.85))
        canvas.paint([top, *dog.curls(top, 0.17)], dog.second, place)


def _muzzle(
    canvas: Canvas, dog: Dog, place: Place, nose_x: float, nose_y: float, chin: float, skull: Sequence[Points]
) -> None:
    breed, wide = dog.breed, dog.breed.muzzle
    colour = {
        "mask": mix(dog.second, dog.base, 0.1),
        "plain": mix(dog.base, dog.second, 0.6),
        "curls": dog.second,
        "spots": dog.base,
        "saddle": mix(dog.second, dog.base, 0.25),
    }.get(breed.coat, dog.second)
    dark = mix(colour, (24, 14, 16), 0.75)
    if dog.panting:
        mouth = blob(
            (nose_x, chin - 0.22),
            (nose_x + wide * 0.5, chin - 0.1),
            (nose_x, chin + 0.24),
            (nose_x - wide * 0.5, chin - 0.1),
        )
        canvas.paint([mouth], (92, 36, 42), place, relief=0.1, fur=0)
        tongue = ellipse(nose_x + 0.02, chin + 0.12, wide * 0.3, 0.24)
        canvas.paint([tongue], TONGUE, place, fur=0)
    bridge = limb([(nose_x * 0.4, -0.2), (nose_x, nose_y + 0.05)], [wide * 0.7, wide * 1.2])
    canvas.paint(bridge, colour, place, soft=4, opacity=0.75, inside=skull)
    cheeks = [
        ellipse(nose_x - wide * 0.42, nose_y + 0.2, wide * 0.62, 0.28 + breed.snout * 0.1, 12),
        ellipse(nose_x + wide * 0.42, nose_y + 0.2, wide * 0.62, 0.28 + breed.snout * 0.1, -12),
        ellipse(nose_x, nose_y + 0.02, wide * 0.7, 0.26),
    ]
    if breed.coat == "beard":
        beard = blob(
            (nose_x - wide * 1.1, nose_y + 0.1),
            (nose_x + wide * 1.1, nose_y + 0.1),
            (nose_x + wide * 0.9, chin + 0.25),
            (nose_x, chin + 0.4),
            (nose_x - wide * 0.9, chin + 0.25),
        )
        cheeks.append(ruffled(beard, 0.12, dog.rng))
    canvas.paint(cheeks, colour, place, relief=0.4)
    canvas.paint(limb([(nose_x, nose_y + 0.1), (nose_x, nose_y + 0.3)], [0.04, 0.04]), dark, place, relief=0, fur=0)
    for side in (-1, 1):
        smile = [
            (nose_x, nose_y + 0.3),
            (nose_x + side * wide * 0.35, nose_y + 0.4),
            (nose_x + side * wide * 0.75, nose_y + 0.27),
        ]
        canvas.paint(limb(smile, [0.05, 0.045, 0.03]), dark, place, relief=0, fur=0)
    nose = blob(
        (nose_x - 0.21, nose_y - 0.07),
        (nose_x, nose_y - 0.12),
        (nose_x + 0.21, nose_y - 0.07),
        (nose_x + 0.1, nose_y + 0.1),
        (nose_x, nose_y + 0.15),
        (nose_x - 0.1, nose_y + 0.1),
    )
    canvas.paint([nose], NOSE, place, fur=0, relief=0.2)
    canvas.paint([ellipse(nose_x - 0.06, nose_y - 0.05, 0.08, 0.03)], (150, 146, 150), place, fur=0, relief=0, soft=1)


def _eye(canvas: Canvas, dog: Dog, place: Place, x: float) -> None:
    y = -0.08
    canvas.paint(
        [ellipse(x, y, 0.19, 0.17)], mix(dog.base, (20, 12, 14), 0.72), place, soft=1.5, opacity=0.8, relief=0, fur=0
    )
    canvas.paint([ellipse(x, y, 0.15, 0.145)], dog.breed.eyes, place, relief=0, fur=0)
    canvas.paint([ellipse(x + dog.turn * 0.03, y, 0.085, 0.09)], (14, 10, 12), place, relief=0, fur=0)
    canvas.paint([ellipse(x - 0.045, y - 0.055, 0.04, 0.04)], (250, 250, 250), place, relief=0, fur=0)


def _ears(canvas: Canvas, dog: Dog, place: Place) -> None:
    breed = dog.breed
    colour = {
        "spots": dog.second,
        "mask": dog.second,
        "saddle": mix(dog.second, dog.base, 0.35),
        "curls": dog.second,
    }.get(breed.coat, mix(dog.base, (40, 20, 16), 0.18))
    for side in (-1, 1):
        # The ear on the side that the face turns to is seen narrower.
        lean = side * (1 + 0.12 * dog.turn * side)
        if breed.ears == "pricked":
            ear = blob(
                (0.3 * lean, -0.55), (0.5 * lean, -1.1), (0.74 * lean, -1.5), (0.94 * lean, -1.0), (0.95 * lean, -0.25)
            )
            inner = blob(
                (0.48 * lean, -0.6), (0.58 * lean, -1.0), (0.72 * lean, -1.28), (0.82 * lean, -0.95), (0.8 * lean, -0.5)
            )
        elif breed.ears == "round":
            ear = ellipse(0.78 * lean, -0.72, 0.34, 0.36)
            inner = ellipse(0.78 * lean, -0.68, 0.18, 0.2)
        elif breed.ears == "folded":
            ear = blob(
                (0.34 * lean, -0.86),
                (0.72 * lean, -1.0),
                (1.06 * lean, -0.62),
                (1.0 * lean, -0.16),
                (0.7 * lean, -0.46),
            )
            inner = None
        elif breed.ears == "drop":
            ear = blob(
                (0.5 * lean, -0.78),
                (0.95 * lean, -0.66),
                (1.24 * lean, -0.1),
                (1.16 * lean, 0.5),
                (0.94 * lean, 0.36),
                (0.8 * lean, -0.3),
            )
            inner = None
        else:
            ear = blob(
                (0.52 * lean, -0.72),
                (0.98 * lean, -0.6),
                (1.28 * lean, 0.2),
                (1.22 * lean, 0.98),
                (0.9 * lean, 0.92),
                (0.82 * lean, 0.0),
            )
            inner = None
        shapes = [ruffled(ear, breed.fur * 2, dog.rng)] if breed.fur else [ear]
        if breed.coat == "curls":
            shapes += dog.curls(ear, 0.2)
        canvas.paint(shapes, colour, place, relief=0.45)
        if inner is not None:
            canvas.paint([inner], mix(PINK, dog.base, 0.35), place, soft=2, opacity=0.85, relief=0.3)


def _face_markings(canvas: Canvas, dog: Dog, place: Place, skull: Sequence[Points]) -> None:
    rng, turn, second = dog.rng, dog.turn * 0.2, dog.second

    def mark(shapes: list[Points], colour: Colour, opacity: float = 0.95, soft: float = 2.5) -> None:
        canvas.paint(shapes, colour, place, relief=0, soft=soft, opacity=opacity, inside=skull)

    match dog.breed.coat:
        case "cream":
            mark(
                [ellipse(side * 0.72, 0.5, 0.42, 0.42) for side in (-1, 1)] + [ellipse(turn, 0.75, 0.7, 0.36)],
                second,
                0.85,
                6,
            )
            mark([ellipse(side * 0.36 + turn, -0.32, 0.12, 0.07) for side in (-1, 1)], second, 0.6)
        case "spots":
            if rng.random() < 0.6:
                mark([ellipse(rng.choice((-0.45, 0.45)) + turn, -0.1, 0.36, 0.42)], second)
            mark([ellipse(*rng.uniform(-0.7, 0.7, 2), *rng.uniform(0.05, 0.12, 2)) for _ in range(6)], second)
        case "saddle":
            mark(
                [blob((-0.5, -0.9), (0.5, -0.9), (0.34 + turn, -0.3), (turn, 0.1), (-0.34 + turn, -0.3))],
                second,
                0.7,
                5,
            )
            mark(
                [ellipse(side * 0.36 + turn, -0.3, 0.1, 0.06) for side in (-1, 1)], mix(dog.base, (255, 220, 170), 0.3)
            )
        case "mask":
            mark(
                [
                    ellipse(turn * 1.3, 0.42, 0.6, 0.5),
                    *(ellipse(side * 0.42 + turn, -0.06, 0.27, 0.24) for side in (-1, 1)),
                ],
                second,
                0.8,
                5,
            )
            mark(limb([(-0.3 + turn, -0.46), (turn, -0.38), (0.3 + turn, -0.46)], [0.05, 0.07, 0.05]), second, 0.4)
        case "collie":
            blaze = rng.uniform(0.16, 0.3)
            mark(limb([(turn * 0.4, -0.95), (turn, -0.2), (turn * 1.4, 0.6)], [blaze * 0.9, blaze, 1.0]), second)
            mark([ellipse(side * 0.38 + turn, -0.32, 0.09, 0.06) for side in (-1, 1)], (190, 120, 66))
        case "beard":
            for side in (-1, 1):
                brow = blob(
                    (side * 0.14 + turn, -0.22),
                    (side * 0.5 + turn, -0.42),
                    (side * 0.74 + turn, -0.2),
                    (side * 0.4 + turn, -0.2),
                )
                canvas.paint([ruffled(brow, 0.06, rng)], second, place, soft=1)
        case "plain" | "curls":
            mark([ellipse(turn, -0.5, 0.4, 0.34)], mix(dog.base, (255, 245, 225), 0.25), 0.5, 8)


def _markings(canvas: Canvas, dog: Dog, place: Place, outline: Sequence[Points], trunk: Points) -> None:
    """What the coat shows on the trunk; always inside its outline."""
    rng = dog.rng
    low, high = trunk.min(0), trunk.max(0)
    middle, reach = (low + high) / 2, (high - low) / 2
    if dog.breed.coat == "spots":
        spots = []
        for _ in range(22):
            x, y = middle + reach * rng.uniform(-0.95, 0.95, 2)
            rx, ry = rng.uniform(0.025, 0.075, 2)
            spots.append(ellipse(x, y, rx, ry, rng.uniform(0, 180)))
        canvas.paint(spots, dog.second, place, relief=0, soft=1, inside=outline)
    elif dog.breed.coat == "saddle":
        saddle = blob(
            (middle[0] - reach[0] * 0.7, low[1] - 0.1),
            (high[0], low[1] - 0.1),
            (middle[0] + reach[0] * 0.8, middle[1]),
            (middle[0], middle[1] + reach[1] * 0.35),
            (middle[0] - reach[0] * 0.6, middle[1] - reach[1] * 0.3),
        )
        canvas.paint([ruffled(saddle, 0.04, rng)], dog.second, place, relief=0, soft=4, inside=outline)
    elif dog.breed.coat == "curls":
        for _ in range(26):
            x, y = middle + reach * rng.uniform(-0.85, 0.85, 2)
            shade = mix(dog.base, dog.second, rng.uniform(0, 1))
            canvas.paint([ellipse(x, y, 0.07, 0.065)], shade, place, soft=1.5, opacity=0.7, relief=0.5, inside=outline)


def _foreleg(canvas: Canvas, dog: Dog, place: Place, x: float, colour: Colour) -> None:
    width = 0.13 + dog.breed.fur * 0.8
    path = [(x, -dog.legs - dog.girth * 0.35), (x + 0.01, -dog.legs * 0.5), (x, -0.06)]
    canvas.paint(limb(path, [width * 1.3, width, width * 0.8]), colour, place, relief=0.3)
    feet = dog.feet if colour == dog.base else mix(dog.feet, (20, 16, 24), 0.4)
    canvas.paint([ellipse(x - 0.03, -0.045, width * 0.62, 0.05)], feet, place)


def _hindleg(canvas: Canvas, dog: Dog, place: Place, x: float, colour: Colour) -> None:
    width = 0.12 + dog.breed.fur * 0.8
    legs, girth = dog.legs, dog.girth
    thigh = limb([(x, -legs - girth * 0.45), (x - 0.02, -legs * 0.85)], [girth * 0.72, girth * 0.42])
    path = [(x - 0.02, -legs * 0.95), (x + 0.07, -legs * 0.45), (x + 0.04, -0.06)]
    canvas.paint([*thigh, *limb(path, [girth * 0.42, width, width * 0.8])], colour, place, relief=0.3)
    feet = dog.feet if colour == dog.base else mix(dog.feet, (20, 16, 24), 0.4)
    canvas.paint([ellipse(x + 0.005, -0.045, width * 0.65, 0.05)], feet, place)


def _tail(canvas: Canvas, dog: Dog, place: Place, root: tuple[float, float]) -> None:
    x, y = root
    wag = dog.rng.uniform(-0.08, 0.08)
    match dog.breed.tail:
        case "curled":
            path = [(x, y), (x + 0.16, y - 0.16), (x + 0.06 + wag, y - 0.32), (x - 0.1, y - 0.2)]
            widths = [0.1, 0.12, 0.12, 0.07]
        case "sabre":
            path = [(x, y), (x + 0.2, y - 0.06), (x + 0.38 + wag, y - 0.26)]
            widths = [0.09, 0.07, 0.03]
        case "plume":
            path = [(x, y), (x + 0.2, y + 0.04 + wag), (x + 0.4, y - 0.14 + wag)]
            widths = [0.1, 0.18, 0.08]
        case "stub":
            path = [(x, y), (x + 0.09, y - 0.12)]
            widths = [0.1, 0.07]
    widths = [width * (1 + 6 * dog.breed.fur) for width in widths]
    strands = [ruffled(part, dog.breed.fur, dog.rng) for part in limb(path, widths)]
    colour = dog.second if dog.breed.coat in {"cream", "saddle"} else dog.base
    canvas.paint(strands if dog.breed.fur else limb(path, widths), mix(colour, (20, 16, 24), 0.1), place)
    if dog.breed.coat == "collie":
        canvas.paint(limb(path[-1:] * 2, widths[-1:] * 2), dog.second, place)
