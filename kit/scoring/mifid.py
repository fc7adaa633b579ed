"""The memorization-informed FID, the number that the competitions rank by."""

from __future__ import annotations

TINY = 1e-14
"""What the scorer adds to the distance before it divides by it."""


def mifid(fid: float, distance: float, epsilon: float) -> float:
    """The memorization-informed FID (Bai et al. 2021): FID / (d + 1e-14), with d = 1 unless the distance is below ε.

    Args:
        fid: the Fréchet distance.
        distance: the memorization distance, 0 to 1.
        epsilon: the threshold ε. A distance of exactly ε is not below it, and is not penalized.
    """
    return fid / ((distance if distance < epsilon else 1.0) + TINY)
