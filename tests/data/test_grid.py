from __future__ import annotations

import numpy as np
import pytest

from kit.data.grid import make_grid


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 8), (6, 3), (7, 3)])
@pytest.mark.parametrize(("gap", "scale"), [(0, 1), (2, 1), (3, 2)])
def test_every_picture_stands_in_its_place_on_white(
    channels: int, count: int, columns: int, gap: int, scale: int
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (count, 4, 5, channels), np.uint8)  # never 255: that is white
    sheet = make_grid(images, columns=columns, gap=gap, scale=scale)
    assert sheet.mode == {1: "L", 3: "RGB"}[channels]
    across, down = min(count, columns), -(-count // columns)
    width, height = 5 * scale, 4 * scale
    assert sheet.size == (across * width + (across - 1) * gap, down * height + (down - 1) * gap)

    for i, image in enumerate(images):
        left, top = i % columns * (width + gap), i // columns * (height + gap)
        tile = np.asarray(sheet.crop((left, top, left + width, top + height))).reshape(height, width, channels)
        for y, x in np.ndindex(height, width):
            assert (tile[y, x] == image[y // scale, x // scale]).all()
    drawn = np.asarray(sheet).reshape(*sheet.size[::-1], channels) != 255
    assert drawn.any(axis=2).sum() == count * width * height


@pytest.mark.parametrize("shape", [(4, 4, 3), (0, 4, 4, 3), (2, 4, 4, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a grid of shape"):
        make_grid(np.zeros(shape, np.uint8), columns=2)
