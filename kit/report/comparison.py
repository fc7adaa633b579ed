"""The page that compares runs: a table, curves over each other, grids and recipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import atomic
from kit.report import page_pictures, run_table
from kit.report.charts import PLOTS, SCORES, Axis, Chart, Plot, chart
from kit.report.page import grid_alt, render, require_page, show
from kit.report.run_data import RunData, Ticks
from kit.report.run_table import read_all
from kit.scoring.score_record import FLAGS, groups

COLOURS, DASHES = 6, 4
"""Styles of the page's lines; after their product they repeat."""

GRIDS_BYTES = 5_500_000
"""What all grids together may weigh, before they grow by a third as text."""

AXES: tuple[Axis, ...] = ("pictures", "time")


@dataclass(frozen=True)
class Difference:
    """A setting in which the runs differ."""

    key: str
    values: list[str]
    odd: list[bool]  # which values are not the most common one


def write_comparison(runs: Sequence[Path], out: Path, *, overwrite: bool = False, now: datetime | None = None) -> Path:
    """Writes a page that compares runs.

    A folder that cannot be read is left out, and named on the page. Only like scores are ranked (`comparable`).

    Args:
        runs: run folders.
        out: where the page goes.
        overwrite: whether a file that the kit did not write may be replaced.
        now: the time it is written; None: the clock's.

    Returns:
        `out`: self-contained, under 10 MB.

    Raises:
        KitError: none of them can be read, the disk is full, or a foreign file is in the way.
    """
    require_page(out, overwrite=overwrite)
    now = now or datetime.now(UTC)
    found, damaged = read_all(runs, now=now)
    if not found:
        raise KitError(damaged[0][1] if damaged else "no runs to compare", "")
    notes = [f"Left out: {problem}." for _, problem in damaged]
    names = run_table.names(found)
    for run, name in zip(found, names, strict=True):
        notes += [f"{name}: {note}" for note in run.notes]
    rankings = run_table.rankings(found)
    share = GRIDS_BYTES // len(found)
    page = render(
        "comparison.html",
        now=now,
        runs=found,
        names=names,
        roles=[_role(i) for i in range(len(found))],
        columns=run_table.COLUMNS,
        rows=run_table.rows(found, rankings),
        rankings=rankings,
        too_near={group.letter: [names[i] for i in group.members if found[i].too_near] for group in rankings},
        flags=FLAGS,
        charts={axis: _charts(found, names, axis) for axis in AXES},
        grids=[page_pictures.picture(run.grids[-1].path, most=share) if run.grids else None for run in found],
        alts=[grid_alt(run) for run in found],
        latents=_latents(found, names),
        differences=differences(found),
        same=_same(found),
        notes=notes,
    )
    with atomic(out) as file:
        file.write(page)
    return out


def differences(found: Sequence[RunData]) -> list[Difference]:
    """The settings in which runs differ, in the recipe and in what else decides a run."""
    rows = []
    for key, values in _settings(found).items():
        if len(set(values)) > 1:
            usual = max(dict.fromkeys(values), key=values.count)
            marked = values.count(usual) > 1  # among two that differ neither is the odd one
            rows.append(Difference(key, values, [marked and value != usual for value in values]))
    return rows


def _charts(found: Sequence[RunData], names: Sequence[str], axis: Axis) -> list[Chart]:
    """A chart a column: with several runs there is no room for two of its lines in one."""

    def over(plot: Plot, ticks: Sequence[tuple[int, Ticks]]) -> list[Chart | None]:
        charts = []
        for single in plot.alone():
            (line,) = single.lines
            series = [(replace(line, label=names[i], role=_role(i)), columns) for i, columns in ticks]
            charts.append(chart(single, series, axis=axis))
        return charts

    every = [(i, run.ticks) for i, run in enumerate(found)]
    charts = [laid for plot in PLOTS for laid in over(plot, every)]
    # Of the scores on the way those of the most runs that can be compared.
    alike = groups([(i, run.scored_as) for i, run in enumerate(found) if run.scored_as])
    for group in alike[:1]:
        what = f"{group.score.count:,} pictures, {group.score.features.name} features; lower is better"
        charts += over(replace(SCORES, unit=what), [(i, found[i].scored) for i in sorted(group.members)])
    return [laid for laid in charts if laid]


def _role(index: int) -> str:
    return f"run-{index % COLOURS} dash-{index // COLOURS % DASHES}"


def _settings(found: Sequence[RunData]) -> dict[str, list[str]]:
    """What decides a run, a list of values a key, "–" where a run does not know it."""
    records: list[dict[str, Any]] = [
        {
            **asdict(run.record.recipe),
            "seed": run.record.seed,
            "budget": show_duration(run.record.budget_s) if run.record.budget_s else "none",
            "images": "none" if run.record.images is None else run.record.images,
            "count": run.record.count,
            "competition": run.record.competition,
            "set": f"{run.record.data.name} {run.record.data.digest[:12]}",
            "picture size": run.record.data.size,
            "device": f"{run.record.device.name}, {run.record.device.precision}",
            "kit": f"{run.record.kit} {(run.record.commit or '')[:12]}{' with changes' if run.record.dirty else ''}",
        }
        for run in found
    ]
    keys = dict.fromkeys(key for record in records for key in record)
    return {key: [show(record[key]) if key in record else "–" for record in records] for key in keys}


def _same(found: Sequence[RunData]) -> list[tuple[str, str]]:
    return [(key, values[0]) for key, values in _settings(found).items() if len(set(values)) == 1 and values[0]]


def _latents(found: Sequence[RunData], names: Sequence[str]) -> str:
    """Whether tile k of one grid and tile k of another come from the same latent."""
    keys = [(run.record.seed, run.record.recipe.latent, run.record.recipe.truncation) for run in found]
    if len(set(keys)) == 1:
        return "Every grid is drawn from the same latents: equal places can be compared."
    alike = [name for name, key in zip(names, keys, strict=True) if key == max(keys, key=keys.count)]
    if len(alike) == 1:
        return "No two grids are drawn from the same latents: seed, length or truncation differ."
    others = "The others differ in seed, length or truncation."
    return f"The same latents, place by place, only in: {', '.join(alike)}. {others}"
