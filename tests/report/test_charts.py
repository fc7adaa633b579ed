from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.report.charts import POINTS, Line, Plot, chart, compact, nice, thinned, time_labels
from kit.training.run_record import TickRecord

PLOT = Plot(key="loss", title="Loss", unit="mean", lines=(Line("loss_d", "A", "d"),), digits=3)


def ticks(*values, step=100):
    return [TickRecord(pictures=step * i, seconds=10.0 * i, loss_d=value) for i, value in enumerate(values, 1)]


def points(path):
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([^ML]+)", path)]


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_round_numbers_cover_the_range_in_equal_steps(low, width):
    marks = nice(low, low + width)
    step = marks[1] - marks[0]
    assert 2 <= len(marks) <= 12
    assert marks[0] <= low + 1e-6 * step
    assert marks[-1] >= low + width - 1e-6 * step
    assert [b - a for a, b in itertools.pairwise(marks)] == pytest.approx([step] * (len(marks) - 1), rel=1e-3)


def test_a_line_is_drawn_where_its_values_are():
    laid = chart(PLOT, [(PLOT.lines[0], ticks(0.0, 4.0, 2.0))])
    assert (laid.low, laid.high, laid.x_high) == (0, 4, 300)
    expected = [(1000 * x / 300, 1000 * (4 - y) / 4) for x, y in ((100, 0), (200, 4), (300, 2))]
    drawn = points(laid.curves[0].path)
    assert [v for p in drawn for v in p] == pytest.approx([v for p in expected for v in p], abs=0.06)
    assert laid.data()["curves"] == [{"label": "A", "x": [100, 200, 300], "y": [0, 4, 2]}]


def test_numbers_that_are_none_leave_no_mark():
    laid = chart(PLOT, [(PLOT.lines[0], ticks(1.0, None, 2.0))])
    assert [x for x, _ in laid.curves[0].points] == [100, 300]
    assert chart(PLOT, [(PLOT.lines[0], ticks(None, None))]) is None
    assert chart(PLOT, [(PLOT.lines[0], ticks())]) is None


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-9])
def test_a_flat_curve_and_a_single_tick_have_an_axis(value):
    laid = chart(PLOT, [(PLOT.lines[0], ticks(value))])
    assert laid.low < laid.high
    assert 0 <= points(laid.curves[0].path)[0][1] <= 1000


@settings(max_examples=30)
@given(count=st.integers(POINTS + 1, 3 * POINTS), seed=st.integers(0, 2**32))
def test_thinning_loses_neither_spike_nor_end(count, seed):
    draw = random.Random(seed)
    values = [draw.gauss(0, 1) for _ in range(count)]
    pairs = [(float(i), value) for i, value in enumerate(values)]
    kept = thinned(pairs)
    assert len(kept) <= POINTS + 1
    assert set(kept) <= set(pairs)
    assert kept == sorted(set(kept))
    assert kept[-1] == pairs[-1]
    assert (min(y for _, y in kept), max(y for _, y in kept)) == (min(values), max(values))


@pytest.mark.parametrize(
    ("seconds", "name", "last"),
    [
        (70, "seconds since the start", "60"),
        (600, "minutes since the start", "10"),
        (32400, "hours since the start", "8"),
    ],
)
def test_time_counts_in_a_unit_that_suits(seconds, name, last):
    labels, said = time_labels(seconds)
    assert said == name
    assert labels[-1].text == last
    assert all(0 <= label.at <= 100 for label in labels)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.25, "0.25"), (0.001, "0.001"), (2.5e-4, "2.5e-4"), (1e-5, "1e-5")),
        *((2500, "2,500"), (12_000, "12k"), (1_500_000, "1.5M"), (-20_000, "-20k")),
    ],
)
def test_short_numbers(value, text):
    assert compact(value) == text
