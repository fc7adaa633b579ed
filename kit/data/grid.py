"""Grids: many pictures on one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHOWN, COLUMNS = 64, 8
"""Pictures on the grid of a prepared set, and how many stand in a row."""


def make_grid(images: NDArray[np.uint8], *, columns: int, gap: int = 2, scale: int = 1) -> Image.Image:
    """Lays pictures out in rows, from left to right and from top to bottom, on white.

    Args:
        images: uint8 (N, H, W, C) with C 1 (grey) or 3 (RGB), N at least 1.
        columns: pictures in a row; the last row may be shorter.
        gap: white pixels between two pictures.
        scale: how many pixels wide and high each pixel becomes, without smoothing.

    Returns:
        A picture of mode "L" or "RGB".

    Raises:
        ValueError: the array is not of that shape, or `columns` is not positive.
    """
    if images.ndim != 4 or not len(images) or images.shape[3] not in (1, 3) or columns < 1:
        raise ValueError(f"a grid of shape {images.shape} in {columns} columns")
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


def sample_grid(folder: Path, *, size: int, seed: int) -> Image.Image:
    """Random samples of a set as training sees them: where it has a canvas, half are random squares from there.

    Args:
        folder: the set's files.
        size: side of a sample, in pixels.
        seed: decides which.
    """
    images = np.load(folder / "images.npy", mmap_mode="r")
    rng = np.random.default_rng(seed)
    count = min(SHOWN, len(images))
    picked = list(images[np.sort(rng.choice(len(images), count, replace=False))])
    if (folder / "canvas.npy").exists():
        canvas, index = np.load(folder / "canvas.npy", mmap_mode="r"), np.load(folder / "canvas_index.npy")
        for place in range(1, count, 2):
            offset, height, width = index[rng.integers(len(index))]
            y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
            whole = canvas[offset : offset + height * width].reshape(height, width, -1)
            picked[place] = whole[y : y + size, x : x + size]
    return make_grid(np.stack(picked), columns=COLUMNS)
