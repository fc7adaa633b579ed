"""Many pictures on one sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def mosaic(images: NDArray[np.uint8], *, columns: int, gap: int = 2, scale: int = 1) -> Image.Image:
    """Lays pictures out in rows, from left to right and from top to bottom, on white.

    Args:
        images: uint8 (N, H, W, C) with C 1 (grey) or 3 (RGB), N at least 1.
        columns: pictures in a row; the last row may be shorter.
        gap: white pixels between two pictures.
        scale: how many pixels wide and high each pixel becomes; sharp, so that a small picture can be judged as it is.

    Returns:
        A picture of mode "L" or "RGB".

    Raises:
        ValueError: the array is not of that shape, or `columns` is not positive.
    """
    if images.ndim != 4 or not len(images) or images.shape[3] not in (1, 3) or columns < 1:
        raise ValueError(f"a mosaic of shape {images.shape} in {columns} columns")
    tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = tiles.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    step_y, step_x = height + gap, width + gap
    sheet = np.full((rows * step_y - gap, columns * step_x - gap, channels), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * step_y, i % columns * step_x
        sheet[y : y + height, x : x + width] = tile
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
