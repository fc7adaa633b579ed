"""Curves over training as shapes for a page: lines in a stretched SVG, labels as text beside it.

Text inside a stretched drawing would be stretched with it, and would be unreadable on a phone; so the drawing holds
nothing but lines, and every label stands outside at a share of its width or height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kit.report.run_data import ScoreTick
from kit.training.run_record import TickRecord

POINTS = 800
"""Points of a line; a longer one keeps the lowest and the highest point of each stretch, so no spike is lost."""

UNITS = ((3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on a time axis counts in which unit."""

Axis = Literal["pictures", "seconds"]

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A number of each tick and what it is called; `role` decides its colour on every page."""

    column: str
    label: str
    role: str
    title: str = ""  # of a chart of this line alone; empty: the plot's own


@dataclass(frozen=True)
class Plot:
    """What one chart shows."""

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
    points: Points


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be placed."""

    key: str
    plot: Plot
    axis: Axis
    x_label: str
    x_labels: list[Label]
    y_labels: list[Label]
    curves: list[Curve]
    summary: str  # what a reader who cannot see it is told
    low: float
    high: float
    x_high: float

    def data(self) -> dict[str, Any]:
        """What the page's script needs to answer the mouse; pictures are whole numbers, times seconds."""
        curves = [
            {"label": c.label, "x": [_short(x) for x, _ in c.points], "y": [_short(y) for _, y in c.points]}
            for c in self.curves
        ]
        bounds = {"low": self.low, "high": self.high, "xHigh": self.x_high}
        return {"axis": self.axis, **bounds, "digits": self.plot.digits, "curves": curves}


def chart(
    plot: Plot, series: Sequence[tuple[Line, Sequence[TickRecord | ScoreTick]]], *, axis: Axis = "pictures"
) -> Chart | None:
    """Lays out a plot.

    Args:
        plot: what is shown.
        series: each line with the ticks it is taken from, of one run or of several.
        axis: what runs along the bottom: pictures seen, or seconds since the start.

    Returns:
        The chart; None where there is no number to show.
    """
    lines: list[tuple[Line, Points]] = []
    for line, ticks in series:
        pairs = [(float(getattr(tick, axis)), getattr(tick, line.column)) for tick in ticks]
        if points := [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]:
            lines.append((line, thinned(points)))
    if not lines:
        return None
    heights = [y for _, points in lines for _, y in points]
    low = min(heights) if plot.low is None else plot.low
    high = max(heights) if plot.high is None else plot.high
    if 0 < low < 0.5 * high:
        low = 0.0  # a curve that comes near to 0 shows how near
    steps = nice(low, high) if low < high else nice(low - 0.5, high + 0.5)
    low, high = steps[0], steps[-1]
    x_high = max(x for _, points in lines for x, _ in points) or 1.0
    x_labels, x_label = time_labels(x_high) if axis == "seconds" else (_labels(x_high, 1.0), "pictures seen")

    def path(points: Points) -> str:
        drawn = [f"{1000 * x / x_high:.1f} {1000 * (high - y) / (high - low):.1f}" for x, y in points]
        return "M" + "L".join(drawn * 2 if len(drawn) == 1 else drawn)  # no length and round ends: a dot

    return Chart(
        key=f"{plot.key}-{axis}",
        plot=plot,
        axis=axis,
        x_label=x_label,
        x_labels=x_labels,
        y_labels=[Label(100 * (high - v) / (high - low), compact(v)) for v in steps],
        curves=[Curve(line.label, line.role, path(points), points) for line, points in lines],
        summary="; ".join(_summary(line.label, [y for _, y in points], plot.digits) for line, points in lines),
        low=low,
        high=high,
        x_high=x_high,
    )


def time_labels(longest: float) -> tuple[list[Label], str]:
    """Marks for an axis of 0 to `longest` seconds, and its name with the unit they count in."""
    per, name = next((per, name) for least, per, name in UNITS if longest >= least)
    return _labels(longest, per), f"{name} since the start"


def thinned(points: Points) -> Points:
    """The same curve with at most POINTS points and the end: the extremes of each stretch, in their order."""
    if len(points) <= POINTS:
        return points
    stretches = POINTS // 2
    kept: Points = []
    for i in range(stretches):
        stretch = points[i * len(points) // stretches : (i + 1) * len(points) // stretches]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


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
    for limit, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _labels(longest: float, per: float) -> list[Label]:
    return [Label(100 * v * per / longest, compact(v)) for v in nice(0.0, longest / per) if v * per <= longest]


def _summary(label: str, values: list[float], digits: int) -> str:
    first, last, low, high = (f"{v:.{digits}f}" for v in (values[0], values[-1], min(values), max(values)))
    return f"{label}: from {first} to {last}, between {low} and {high}"


def _short(value: float) -> float:
    return float(f"{value:.6g}") if value != int(value) else value
