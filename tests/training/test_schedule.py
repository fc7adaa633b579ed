"""Schedules: their ends, their middle, and that they are functions of progress alone."""

from __future__ import annotations

import pytest

from kit.training.train_state import SCHEDULES, scale, train_progress


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_one_way_from_the_first_value_to_the_last(name):
    values = [scale(name, percent / 100, end=0.25) for percent in range(101)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(1 if name == "constant" else 0.25)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_half_way_is_half_of_the_planned_pictures(name):
    assert scale(name, 0.5, end=0.2) == pytest.approx(0.6)


def test_a_cosine_begins_and_ends_slowly():
    assert scale("cosine", 0.1, end=0) > scale("linear", 0.1, end=0)
    assert scale("cosine", 0.9, end=0) < scale("linear", 0.9, end=0)


def test_progress_counts_pictures_and_stays_at_the_end():
    assert [train_progress(pictures, 400) for pictures in (0, 100, 400, 500)] == [0, 0.25, 1, 1]
    assert train_progress(10**9, None) == 0


def test_a_schedule_can_begin_in_the_middle():
    # CycleGAN: constant for the first half, then linear to 0.
    factors = [scale("linear", tenths / 10, end=0, start=0.5) for tenths in (0, 4, 5, 6, 10)]
    assert factors == pytest.approx([1, 1, 1, 0.8, 0])
