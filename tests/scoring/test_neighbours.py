"""The pictures nearest to the training set, and what they are near to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scoring_helpers import draw, small_features

from kit.data.prepared_set import PreparedSet
from kit.scoring.neighbours import feature_distances_between, neighbours, pixel_distances_between

HELD = range(0, 30, 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_copies_are_found_beside_their_originals(
    make_set: Callable[..., PreparedSet], make_zip: Callable[..., Path], channels: int
) -> None:
    images = draw(30, channels=channels, seed=1)
    prepared = make_set(images, holdout=HELD)
    generated = draw(12, channels=channels, seed=2)
    generated[7], generated[3] = images[11], images[22]
    generated[5] = images[10]  # held out: nobody could have learned it
    found = neighbours(make_zip(generated), prepared, features=small_features(dim=16), rows=3, each=2)
    assert set(found.which[:2].tolist()) == {3, 7}
    for row, place in enumerate(found.which[:2].tolist()):
        original = images[22] if place == 3 else images[11]
        np.testing.assert_array_equal(found.generated[row], original)
        np.testing.assert_array_equal(found.by_features[row, 0], original)
        np.testing.assert_array_equal(found.by_pixels[row, 0], original)
        assert found.feature_distances[row, 0] == pytest.approx(0, abs=1e-6)
        assert found.pixel_distances[row, 0] == 0
    assert (np.diff(found.feature_distances) >= 0).all()
    assert (np.diff(found.pixel_distances) >= 0).all()
    picture = found.picture()
    assert picture.size == (5 * 18 - 2, 3 * 18 - 2)
    assert picture.mode == ("RGB" if channels == 3 else "L")
    tile = np.asarray(picture)[:16, :16].reshape(16, 16, channels)
    np.testing.assert_array_equal(tile, found.generated[0])


def test_distances_are_the_cosine_and_the_mean_square(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1, 0], [10, 1], [0, 3], [-2, 0.1]], np.float32)
    distances = feature_distances_between(np.array([[5, 0]], np.float32), rows)  # whatever the sign and the length
    assert distances[0] == pytest.approx(1 - np.array([1, 10 / np.hypot(10, 1), 0, 2 / np.hypot(2, 0.1)]), abs=1e-6)

    monkeypatch.setattr("kit.scoring.neighbours.CHUNK", 4)
    real, generated, places = draw(25, seed=1), draw(3, seed=2), np.arange(0, 25, 2)
    found = pixel_distances_between(generated, real, places)
    for row in range(3):
        expected = np.sqrt(((real[places].astype(float) - generated[row]) ** 2).mean(axis=(1, 2, 3)))
        assert found[row] == pytest.approx(expected, rel=1e-5)
