"""Curves over training as shapes for a page: lines in a stretched SVG, labels as text beside it.

Text inside a stretched drawing would be stretched with it, and would be unreadable on a phone; so the drawing holds
nothing but lines, and every label stands outside at a share of its width or height.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kit.report.run_data import Ticks

POINTS = 800
"""Points of a line; a longer one keeps the lowest and the highest point of each stretch, so no spike is lost."""

UNITS = ((3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on a time axis counts in which unit."""

Axis = Literal["pictures", "time"]


@dataclass(frozen=True)
class Line:
    """A column of `progress.jsonl` and how it is called; `role` decides its colour on every page."""

    column: str
    label: str
    role: str
    title: str = ""  # of a chart of this line alone; empty: the plot's own


@dataclass(frozen=True)
class Plot:
    """A plot of a run."""

    key: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    digits: int  # decimals in the readout
    low: float | None = None  # bounds of the axis; None: from the values
    high: float | None = None

    def alone(self) -> list[Plot]:
        """The same as plots of one line each."""
        return [replace(self, key=line.column, title=line.title or self.title, lines=(line,)) for line in self.lines]


def _of_both(column: str, name: str) -> tuple[Line, Line]:
    """What is known of each player."""
    return Line(f"{column}_d", "D", "d", f"{name} of D"), Line(f"{column}_g", "G", "g", f"{name} of G")


_BELIEF = Line("d_real", "D(x), real pictures", "d", "D(x)"), Line("d_fake", "D(G(z)), generated ones", "g", "D(G(z))")
_BUDGET = (
    Line("budget_used", "used", "training", "Budget used"),
    Line("budget_reserve", "kept back for the end", "reserve", "Budget kept back"),
)
_GREY = "grey levels, standard deviation over the grid's pictures"

PLOTS: tuple[Plot, ...] = (
    Plot("loss", "Losses", "mean over a tick", _of_both("loss", "Loss"), 3),
    Plot("belief", "What D believes", "probability of real", _BELIEF, 3, low=0.0, high=1.0),
    Plot("speed", "Speed", "pictures per second", (Line("pictures_per_s", "training", "training"),), 0, low=0.0),
    Plot("gradient", "Gradients", "norm over all weights, mean over a tick", _of_both("grad", "Gradient"), 3, low=0.0),
    Plot("rate", "Learning rates", "per step", _of_both("lr", "Learning rate"), 6, low=0.0),
    Plot("diversity", "Diversity", _GREY, (Line("diversity", "generated", "g"),), 1, low=0.0),
    Plot("budget", "Budget", "share of the whole", _BUDGET, 3, low=0.0, high=1.0),
)
"""What is plotted of every tick."""

_FIDS = Line("mifid", "MiFID", "g", "MiFID on the way"), Line("fid", "FID", "fid", "FID on the way")
_DISTANCES = Line("distance", "generated to nearest real", "g"), Line("epsilon", "threshold ε", "reserve")

SCORES = Plot("score", "Scores on the way", "lower is better", _FIDS, 2, low=0.0)

SCORED: tuple[Plot, ...] = (
    SCORES,
    Plot("distance", "Memorization distance", "cosine, 0 to 1; below ε it is penalised", _DISTANCES, 4, low=0.0),
)
"""What is plotted of the scores that were taken during training."""


@dataclass(frozen=True)
class Label:
    """A number beside an axis."""

    at: float  # % of the axis, from the left or from the top
    text: str


@dataclass(frozen=True)
class Curve:
    """A line of a chart."""

    label: str
    role: str
    path: str  # SVG, in a box of 1000 × 1000; a single point is a line of no length
    x: list[float]
    y: list[float]

    @property
    def single(self) -> bool:
        """There is one point only, to be drawn as a dot."""
        return len(self.x) == 1

    @property
    def last(self) -> float:
        """The value at its end."""
        return self.y[-1]


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be placed."""

    key: str
    title: str
    unit: str
    axis: Axis
    x_label: str
    x_labels: list[Label]
    y_labels: list[Label]
    curves: list[Curve]
    summary: str  # what a reader who cannot see it is told
    low: float
    high: float
    x_high: float
    digits: int

    def points(self) -> dict[str, Any]:
        """What the page's script needs to answer the mouse; pictures are whole numbers, times seconds."""
        return {
            "axis": self.axis,
            "low": self.low,
            "high": self.high,
            "xHigh": self.x_high,
            "digits": self.digits,
            "curves": [
                {"label": c.label, "x": [_short(v) for v in c.x], "y": [_short(v) for v in c.y]} for c in self.curves
            ],
        }


def chart(plot: Plot, series: Sequence[tuple[Line, Ticks]], *, axis: Axis = "pictures") -> Chart | None:
    """Lays out a plot.

    Args:
        plot: what is shown.
        series: each line with the ticks it is taken from, of one run or of several.
        axis: what runs along the bottom: pictures seen, or seconds since the start.

    Returns:
        The chart; None where there is no number to show.
    """
    raw: list[tuple[Line, list[tuple[float, float]]]] = []
    for line, ticks in series:
        along = ticks.pictures if axis == "pictures" else ticks.seconds
        values = ticks.columns.get(line.column, [None] * len(ticks))
        pairs = [(float(x), y) for x, y in zip(along, values, strict=True) if y is not None]
        if pairs:
            raw.append((line, thinned(pairs)))
    if not raw:
        return None
    heights = [y for _, pairs in raw for _, y in pairs]
    low, high, steps = _scale(
        min(heights) if plot.low is None else plot.low, max(heights) if plot.high is None else plot.high
    )
    x_high = max(x for _, pairs in raw for x, _ in pairs) or 1.0
    x_labels, x_label = time_labels(x_high) if axis == "time" else (_marks(x_high, 1.0), "pictures seen")
    curves = [
        Curve(
            label=line.label,
            role=line.role,
            path=_path(pairs, x_high, low, high),
            x=[x for x, _ in pairs],
            y=[y for _, y in pairs],
        )
        for line, pairs in raw
    ]
    return Chart(
        key=f"{plot.key}-{axis}",
        title=plot.title,
        unit=plot.unit,
        axis=axis,
        x_label=x_label,
        x_labels=x_labels,
        y_labels=[Label(100 * (high - v) / (high - low), compact(v)) for v in steps],
        curves=curves,
        summary="; ".join(_summary(plot, curve) for curve in curves),
        low=low,
        high=high,
        x_high=x_high,
        digits=plot.digits,
    )


def time_labels(longest: float) -> tuple[list[Label], str]:
    """Marks for an axis of 0 to `longest` seconds, and its name with the unit they count in."""
    per, name = next((per, name) for least, per, name in UNITS if longest >= least)
    return _marks(longest, per), f"{name} since the start"


def thinned(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same curve with at most POINTS points and the end: the extremes of each stretch, in their order."""
    if len(pairs) <= POINTS:
        return pairs
    stretches = POINTS // 2
    kept: list[tuple[float, float]] = []
    for i in range(stretches):
        stretch = pairs[i * len(pairs) // stretches : (i + 1) * len(pairs) // stretches]
        extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept if kept[-1] == pairs[-1] else [*kept, pairs[-1]]


def nice(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(k * step, digits) for k in range(first, last + 1)]


def compact(value: float) -> str:
    """A number as short as an axis needs it: 12000 → 12k, 0.0002 → 2e-4."""
    if 0 < abs(value) < 1e-3:
        digits, _, power = f"{value:.4e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if letter == 'M' else 1e3):g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def nearest(xs: Sequence[float], x: float) -> int:
    """The index of the value nearest to x in an increasing list."""
    i = bisect.bisect_left(xs, x)
    return min((j for j in (i - 1, i) if 0 <= j < len(xs)), key=lambda j: abs(xs[j] - x))


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    if low > 0 and low < 0.5 * high:
        low = 0.0  # a curve that comes near to 0 shows how near
    if low == high:
        low, high = low - 0.5, high + 0.5
    steps = nice(low, high)
    return steps[0], steps[-1], steps


def _marks(longest: float, per: float) -> list[Label]:
    return [Label(100 * v * per / longest, compact(v)) for v in nice(0.0, longest / per) if v * per <= longest]


def _path(pairs: list[tuple[float, float]], x_high: float, low: float, high: float) -> str:
    points = [f"{1000 * x / x_high:.1f} {1000 * (high - y) / (high - low):.1f}" for x, y in pairs]
    if len(points) == 1:
        points *= 2  # a line of no length with round ends is a dot
    return "M" + "L".join(points)


def _summary(plot: Plot, curve: Curve) -> str:
    first, last = f"{curve.y[0]:.{plot.digits}f}", f"{curve.last:.{plot.digits}f}"
    lowest, highest = f"{min(curve.y):.{plot.digits}f}", f"{max(curve.y):.{plot.digits}f}"
    return f"{curve.label}: from {first} to {last}, between {lowest} and {highest}"


def _short(value: float) -> float:
    return float(f"{value:.6g}") if value != int(value) else value
