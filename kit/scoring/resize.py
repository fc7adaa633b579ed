"""How a picture is brought to a network's input size. The filter moves a score, so each has a name that is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

Resize = Callable[[Pixels, int], NDArray[Any]]
"""(H, W, 3) uint8 and the wanted side → (side, side, 3), uint8 or float32, in 0..255. The whole picture, no crop."""


def pillow_bicubic(picture: Pixels, side: int) -> Pixels:
    """Pillow's bicubic: antialiased, in fixed point, so the same on every machine; values are rounded to uint8."""
    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def tf1_bilinear(picture: Pixels, side: int) -> NDArray[np.float32]:
    """TensorFlow 1's `resize_bilinear` with align_corners=False, as it stands in the 2015 Inception graph.

    Output pixel i samples the input at i · (input / output): not at pixel centres, so the picture moves up and left
    by up to half a pixel, and not antialiased.
    """
    top, bottom, down = _taps(picture.shape[0], side)
    left, right, across = _taps(picture.shape[1], side)
    pixels = picture.astype(np.float32)
    columns = _mix(pixels[:, left], pixels[:, right], across[None, :, None])
    return _mix(columns[top], columns[bottom], down[:, None, None])


def _taps(length: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each output pixel its two neighbours in the input, and how far it lies from the first to the second."""
    at = np.arange(side, dtype=np.float32) * np.float32(length / side)
    first = at.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), at - first.astype(np.float32)


def _mix(first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    return first + (second - first) * share


RESIZES: dict[str, Resize] = {
    "pillow-bicubic-antialiased": pillow_bicubic,
    "tf1-bilinear": tf1_bilinear,
}
