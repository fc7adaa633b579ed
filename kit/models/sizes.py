"""Which picture sizes the networks can be built for."""

from __future__ import annotations

from kit.core.errors import KitError

BASES = (4, 5, 6, 7)
SMALLEST, LARGEST = 16, 256


def split_size(size: int) -> tuple[int, int]:
    """Splits a picture's side into the side a generator starts from and how often it is doubled.

    Args:
        size: side in pixels, b·2^k with b from 4 to 7 and 16 ≤ size ≤ 256 (28, 64, 96 and 256 among them).

    Returns:
        (b, k); the largest k is taken, so 64 = 4·2⁴ and 28 = 7·2².

    Raises:
        KitError: the size is none of these.
    """
    base, doublings = size, 0
    while base % 2 == 0 and base > BASES[-1]:
        base, doublings = base // 2, doublings + 1
    if base not in BASES or not SMALLEST <= size <= LARGEST:
        allowed = sorted(b << k for b in BASES for k in range(1, 7) if SMALLEST <= b << k <= LARGEST)
        raise KitError(f"no network for pictures of {size} px", f"choose from {', '.join(map(str, allowed))}")
    return base, doublings
