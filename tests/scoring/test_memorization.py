"""The memorization distance against loops, the scorer's edge cases, and its last line: the MiFID."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from kit.scoring.memorization import CHUNK, memorization_distance, nearest_distances
from kit.scoring.mifid import mifid

Array = NDArray[np.float64]


def by_loops(generated: Array, real: Array) -> float:
    def keep(rows: Array) -> list[list[float]]:
        return [row for row in rows.tolist() if sum(row) != 0]

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    nearest = [min(1 - abs(cosine(g, r)) for r in keep(real)) for g in keep(generated)]
    return sum(nearest) / len(nearest)


def features(count: int, dim: int = 5, *, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0.3, 1, (count, dim))


@pytest.mark.parametrize(("n", "m", "dim"), [(1, 1, 3), (4, 9, 2), (20, 20, 11)])
def test_equals_loops(n: int, m: int, dim: int) -> None:
    generated, real = features(n, dim, seed=1), features(m, dim, seed=2)
    assert memorization_distance(generated, real) == pytest.approx(by_loops(generated, real), abs=1e-12)
    narrow = [rows.astype(np.float32) for rows in (generated, real)]  # compared in float64
    expected = by_loops(*(rows.astype(np.float64) for rows in narrow))
    assert memorization_distance(*narrow) == pytest.approx(expected, abs=1e-12)


def test_direction_is_from_generated_to_real() -> None:
    real = np.eye(4)
    generated = np.eye(4)[[0, 0, 0]]
    assert memorization_distance(generated, real) == 0  # each is a training picture
    assert memorization_distance(real, generated) == pytest.approx(3 / 4)


def test_rows_that_sum_to_zero_are_left_out_on_either_side() -> None:
    generated = np.array([[1.0, 0, 0], [0, 0, 0], [1, -1, 0]])
    real = np.array([[1.0, 1, 0], [0, 0, 0], [2, -1, -1]])
    assert memorization_distance(generated, real) == pytest.approx(1 - 1 / math.sqrt(2))
    assert np.flatnonzero(np.isnan(nearest_distances(generated, real))).tolist() == [1, 2]


def test_opposite_features_count_as_near() -> None:
    rows = features(5, seed=3)
    assert memorization_distance(-rows, rows) == pytest.approx(0, abs=1e-12)


def test_one_duplicated_row() -> None:
    real, fresh = features(30, seed=4), features(10, seed=5)
    stolen = fresh.copy()
    stolen[0] = real[17]
    others = memorization_distance(fresh[1:], real)
    assert memorization_distance(stolen, real) == pytest.approx(others * 9 / 10, abs=1e-12)


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_pieces_change_nothing(size: int) -> None:
    generated, real = features(size, 3, seed=6), features(size + 5, 3, seed=7)
    real[:CHUNK] = 0  # a whole piece without a row that counts
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (generated, real[CHUNK:])]
    expected = (1 - np.abs(unit[0] @ unit[1].T)).min(axis=1).mean()
    assert memorization_distance(generated, real) == pytest.approx(expected, abs=1e-12)


@given(
    rows=arrays(np.float64, (6, 3), elements=st.floats(-5, 5)),
    scale=arrays(np.float64, (6, 1), elements=st.floats(0.01, 100)),
)
def test_length_does_not_matter_and_the_range_is_0_to_1(rows: Array, scale: Array) -> None:
    # Sums that are nearly 0 may become 0, or cease to be, by the scaling's rounding.
    assume((np.abs(rows.sum(axis=1)) > 1e-6).all())
    distance = memorization_distance(rows[:3], rows[3:])
    assert -1e-12 <= distance <= 1
    assert memorization_distance(rows[:3] * scale[:3], rows[3:] * scale[3:]) == pytest.approx(distance, abs=1e-9)


@pytest.mark.parametrize(
    ("generated", "real", "match"),
    [
        (np.zeros((3, 4)), np.ones((3, 4)), "sum to 0"),
        (np.ones((3, 4)), np.zeros((3, 4)), "sum to 0"),
        (np.ones((3, 4)), np.ones((3, 5)), "belong together"),
        (np.ones(4), np.ones((3, 4)), "belong together"),
        (np.array([[1, np.nan]]), np.ones((3, 2)), "NaN"),
        (np.ones((3, 2)), np.array([[1, np.inf]]), "NaN or infinity"),
    ],
)
def test_what_cannot_be_compared_is_refused(generated: Array, real: Array, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        memorization_distance(generated, real)


@pytest.mark.parametrize("epsilon", [0.1, 0.0113])
def test_mifid_around_the_threshold(epsilon: float) -> None:
    fid, under, over = 12.46, math.nextafter(epsilon, 0), math.nextafter(epsilon, 1)
    assert mifid(fid, under, epsilon) == pytest.approx(fid / epsilon)
    assert mifid(fid, epsilon, epsilon) == pytest.approx(fid)
    assert mifid(fid, over, epsilon) == pytest.approx(fid)


def test_1e_minus_14_is_added_before_the_division() -> None:
    assert mifid(2.0, 0.0, 0.1) == pytest.approx(2e14)
    assert mifid(55.42, 0.3, 0.25) == 55.42 / (1 + 1e-14)
