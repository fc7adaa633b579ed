"""Runs beside each other: the table that `kit runs` prints, and the page that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import atomic
from kit.report import page_pictures
from kit.report.charts import PLOTS, SCORES, Axis, Chart, Plot, chart
from kit.report.page import STATES, grid_alt, render, require_page, show
from kit.report.run_data import RunData, ScoreTick, rate, read_all
from kit.scoring.score_record import FLAGS, Group, groups
from kit.training.run_record import TickRecord

STALE = "its score is of another images.zip: run `kit score` again"

UNSCORED = "not scored yet"

COLUMNS: tuple[tuple[str, str], ...] = (
    ("run", "text"),
    ("model", "text"),
    ("set", "text"),
    ("state", "text"),
    ("pictures seen", "number"),
    ("time", "number"),
    ("pictures/s", "number"),
    ("generated", "number"),
    ("FID", "number score"),
    ("MiFID", "number score"),
    ("rank", "number score"),
    ("features", "text"),
)
"""The table's columns, and the class of their cells."""

SPARE = tuple(
    [name for name, _ in COLUMNS].index(name)
    for name in ("generated", "pictures/s", "set", "features", "state", "time", "model", "MiFID", "pictures seen")
)
"""Columns that a narrow terminal does without, the first ones first."""

COLOURS, DASHES = 6, 4
"""Styles of the page's lines; after their product they repeat."""

GRIDS_BYTES = 5_500_000
"""What all grids together may weigh, before they grow by a third as text."""

AXES: tuple[Axis, ...] = ("pictures", "seconds")


class Section(NamedTuple):
    """Runs that stand together in the terminal's table, and why they stand apart from those before."""

    members: list[int]  # indices of runs, in order
    apart: str | None


class Cell(NamedTuple):
    """A cell of a table: what is shown, and what it is sorted by (None: always at the end)."""

    text: str
    key: float | str | None
    group: int = 0  # of the ranking: sorting never mixes two


def rankings(found: Sequence[RunData]) -> list[Group[int]]:
    """Rankings of runs by their indices; a score of an older `images.zip` is in none."""
    return groups([(i, run.score) for i, run in enumerate(found) if run.score and not run.stale_score])


def sections(found: Sequence[RunData], ranked: Sequence[Group[int]]) -> list[Section]:
    """All runs: first each of their rankings, then those that are in none by the reason for it, then the unscored."""
    places = {i for group in ranked for i in group.members}
    rest: dict[str, list[int]] = {}
    for i, run in enumerate(found):
        if i not in places:
            reason = STALE if run.stale_score else run.score_problem or UNSCORED
            rest.setdefault(reason, []).append(i)
    unscored = rest.pop(UNSCORED, [])
    parted = [Section(group.members, group.apart) for group in ranked]
    parted += [Section(members, reason) for reason, members in rest.items()]
    return [*parted, *([Section(unscored, UNSCORED if parted else None)] if unscored else [])]


def rows(found: Sequence[RunData], ranked: Sequence[Group[int]]) -> list[list[Cell]]:
    """A row of cells a run, a cell a column of COLUMNS; `ranked` are their rankings."""
    called = names(found)
    places = {i: (group, place) for group, r in enumerate(ranked) for place, i in enumerate(r.members, 1)}

    def text(value: str) -> Cell:
        return Cell(value, value.lower())

    def number(value: float | None, form: str = ",.0f", group: int = 0) -> Cell:
        return Cell("–" if value is None else f"{value:{form}}", value, group)

    table = []
    for i, run in enumerate(found):
        group, place = places.get(i, (len(ranked), 0))
        score, result = run.score, run.record.result
        cells = [
            text(called[i]),
            text(run.record.recipe.model),
            text(run.record.data.name),
            text(STATES[run.state].lower()),
            number(run.pictures),
            Cell(show_duration(run.elapsed_s), run.elapsed_s),
            number(rate(run)),
            number(result.count if result else None),
            number(score.fid if score else None, ".2f", group),
            number(score.mifid if score else None, ".2f", group),
            Cell(f"{ranked[group].letter} {place}" if place else "–", place or None, group),
            text(score.features.name if score else "–"),
        ]
        table.append(cells)
    return table


def names(found: Sequence[RunData]) -> list[str]:
    """What runs are called: their folders' names, or where two are alike their paths."""
    called = [run.path.name or str(run.path) for run in found]
    return [name if called.count(name) == 1 else str(f.path) for f, name in zip(found, called, strict=True)]


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
    called = names(found)
    notes = [f"Left out: {problem}." for _, problem in damaged]
    notes += [f"{name}: {note}" for run, name in zip(found, called, strict=True) for note in run.notes]
    ranked = rankings(found)
    share = GRIDS_BYTES // len(found)
    settings = _settings(found)
    page = render(
        "comparison.html",
        now=now,
        runs=found,
        names=called,
        roles=[_role(i) for i in range(len(found))],
        columns=COLUMNS,
        rows=rows(found, ranked),
        rankings=ranked,
        too_near={
            group.letter: [called[i] for i in group.members if (score := found[i].score) and score.too_near]
            for group in ranked
        },
        flags=FLAGS,
        charts={axis: _charts(found, called, axis) for axis in AXES},
        grids=[page_pictures.picture(run.grids[-1].path, most=share) if run.grids else None for run in found],
        alts=[grid_alt(run) for run in found],
        latents=_latents(found, called),
        differences=differences(found),
        same=[(key, values[0]) for key, values in settings.items() if len(set(values)) == 1 and values[0]],
        notes=notes,
    )
    with atomic(out) as file:
        file.write(page)
    return out


def differences(found: Sequence[RunData]) -> list[Difference]:
    """The settings in which runs differ, in the recipe and in what else decides a run."""
    different = []
    for key, values in _settings(found).items():
        if len(set(values)) > 1:
            usual = max(dict.fromkeys(values), key=values.count)
            marked = values.count(usual) > 1  # among two that differ neither is the odd one
            different.append(Difference(key, values, [marked and value != usual for value in values]))
    return different


def _charts(found: Sequence[RunData], called: Sequence[str], axis: Axis) -> list[Chart]:
    """A chart a column: with several runs there is no room for two of its lines in one."""
    every: dict[int, Sequence[TickRecord | ScoreTick]] = {i: run.ticks for i, run in enumerate(found)}
    plots: list[tuple[Plot, dict[int, Sequence[TickRecord | ScoreTick]]]] = [(plot, every) for plot in PLOTS]
    # Of the scores on the way those of the most runs that can be compared.
    for group in groups([(i, run.scored_as) for i, run in enumerate(found) if run.scored_as])[:1]:
        what = f"{group.score.count:,} pictures, {group.score.features.name} features; lower is better"
        plots.append((replace(SCORES, unit=what), {i: found[i].scored for i in sorted(group.members)}))
    charts = []
    for plot, ticks in plots:
        for single in plot.alone():
            lines = [(replace(single.lines[0], label=called[i], role=_role(i)), own) for i, own in ticks.items()]
            charts.append(chart(single, lines, axis=axis))
    return [laid for laid in charts if laid]


def _role(index: int) -> str:
    return f"run-{index % COLOURS} dash-{index // COLOURS % DASHES}"


def _settings(found: Sequence[RunData]) -> dict[str, list[str]]:
    """What decides a run, a list of values a key."""
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
    return {key: [show(record[key]) for record in records] for key in records[0]}


def _latents(found: Sequence[RunData], called: Sequence[str]) -> str:
    """Whether tile k of one grid and tile k of another come from the same latent."""
    keys = [(run.record.seed, run.record.recipe.latent, run.record.recipe.truncation) for run in found]
    if len(set(keys)) == 1:
        return "Every grid is drawn from the same latents: equal places can be compared."
    alike = [name for name, key in zip(called, keys, strict=True) if key == max(keys, key=keys.count)]
    if len(alike) == 1:
        return "No two grids are drawn from the same latents: seed, length or truncation differ."
    others = "The others differ in seed, length or truncation."
    return f"The same latents, place by place, only in: {', '.join(alike)}. {others}"
