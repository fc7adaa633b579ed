"""Ladders: which width a row takes for a budget, by the pictures that a run can see in it.

A wide network sees fewer pictures in the same time, and is better only once it has seen enough. The numbers are
estimates until `bench/widths.py` has measured them. Known of `dcgan` on real dogs, by KID×1000 on ImageNet's features:
width 32 has 185 after 100,000 pictures (480 CPU seconds) and 114 after 482,000. Without self-modulation width 64 had
191 after 81,000 (878 CPU seconds), width 32 had 200 after 148,000 and 161 after 391,000.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """A width, and from how many pictures on it is worth it."""

    width: int
    pictures: int  # that a run has to see for this width to be better than the next smaller one
    settings: tuple[str, ...] = ()  # that go with it, as KEY=VALUE: batch size, learning rates


DCGAN = (
    Rung(32, 0),
    Rung(48, 700_000),
    Rung(64, 1_500_000),
)

SNDCGAN = (
    Rung(16, 0),
    Rung(24, 200_000),
    Rung(32, 400_000),
    Rung(48, 1_000_000),
    Rung(64, 2_000_000),
)

RESIDUAL = (
    Rung(16, 0),
    Rung(24, 500_000),
    Rung(32, 1_000_000),
    Rung(48, 5_000_000),
    Rung(64, 10_000_000),
)
"""For sagan and biggan: the competition's winners saw about 4 million pictures with 24 to 32 channels."""

R3GAN = (
    Rung(16, 0),
    Rung(24, 500_000),
    Rung(32, 1_500_000),
    Rung(48, 8_000_000),
)
