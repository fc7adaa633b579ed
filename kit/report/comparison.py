"""The page that compares runs: a table, curves over each other, grids and recipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit.clock import show_duration
from kit.errors import KitError
from kit.files import atomic
from kit.report import embed
from kit.report.command import show
from kit.report.curves import PLOTS, Axis, Chart, Line, Plot, chart
from kit.report.facts import Facts, read
from kit.report.page import STATES, grid_alt, render
from kit.scoring.record import FLAGS, Score, comparable

COLOURS, DASHES = 6, 4
"""Styles of the page's lines; after their product they repeat."""

GRIDS_BYTES = 5_500_000
"""What all grids together may weigh, before they grow by a third as text."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

AXES: tuple[Axis, ...] = ("pictures", "time")


@dataclass(frozen=True)
class Ranking:
    """Scores that may stand in one ranking."""

    letter: str
    members: list[int]  # indices of runs, the best first
    score: Score  # one of them, to say what they are
    by: str  # MiFID or FID
    why: str  # why it is not one with the first ranking


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted by (None: always at the end)."""

    text: str
    key: float | str | None
    group: int = 0  # of the ranking: sorting never mixes two


@dataclass(frozen=True)
class Difference:
    """A setting in which the runs differ."""

    key: str
    values: list[str]
    odd: list[bool]  # which values are not the most common one


def write_comparison(runs: Sequence[Path], out: Path, *, now: datetime | None = None) -> Path:
    """Writes a page that compares runs.

    A folder that cannot be read is left out, and named on the page. Only like scores are ranked (`comparable`).

    Args:
        runs: run folders.
        out: where the page goes.
        now: the time it is written; None: the clock's.

    Returns:
        `out`: self-contained, under 10 MB.

    Raises:
        KitError: none of them can be read, or the disk is full.
    """
    now = now or datetime.now(UTC)
    found: list[Facts] = []
    notes: list[str] = []
    for path in runs:
        try:
            found.append(read(path, now=now))
        except KitError as error:
            notes.append(f"Left out: {error}.")
    if not found:
        raise KitError(notes[0].removeprefix("Left out: ").rstrip(".") if notes else "no runs to compare", "")
    names = _names(found)
    for facts, name in zip(found, names, strict=True):
        notes += [f"{name}: {note}" for note in facts.notes]
    rankings = rank([facts.score for facts in found])
    share = GRIDS_BYTES // len(found)
    page = render(
        "comparison.html",
        now=now,
        runs=found,
        names=names,
        roles=[f"run-{i % COLOURS} dash-{i // COLOURS % DASHES}" for i in range(len(found))],
        columns=COLUMNS,
        rows=_rows(found, names, rankings),
        rankings=rankings,
        flags=FLAGS,
        charts={axis: _charts(found, names, axis) for axis in AXES},
        grids=[embed.picture(facts.grids[-1].path, most=share) if facts.grids else None for facts in found],
        alts=[grid_alt(facts) for facts in found],
        latents=_latents(found, names),
        differences=differences(found),
        same=_same(found),
        notes=notes,
    )
    with atomic(out) as file:
        file.write(page)
    return out


def rank(scores: Sequence[Score | None]) -> list[Ranking]:
    """Rankings of like scores; the one with the most scores first, and no score in two."""
    groups: list[list[int]] = []
    for index, score in enumerate(scores):
        if score is None:
            continue
        home = next((g for g in groups if comparable(_of(scores, g[0]), score) is None), None)
        if home is None:
            groups.append([index])
        else:
            home.append(index)
    groups.sort(key=len, reverse=True)
    rankings = []
    for number, group in enumerate(groups):
        first = _of(scores, group[0])
        by = "FID" if first.mifid is None else "MiFID"
        rankings.append(
            Ranking(
                letter=LETTERS[number] if number < len(LETTERS) else str(number + 1),
                members=sorted(group, key=lambda i: _number(_of(scores, i), by)),
                score=first,
                by=by,
                why=(comparable(_of(scores, groups[0][0]), first) or "") if number else "",
            )
        )
    return rankings


def differences(found: Sequence[Facts]) -> list[Difference]:
    """The settings in which runs differ, in the recipe and in what else decides a run."""
    rows = []
    for key, values in _settings(found).items():
        if len(set(values)) > 1:
            usual = max(dict.fromkeys(values), key=values.count)
            marked = values.count(usual) > 1  # among two that differ neither is the odd one
            rows.append(Difference(key, values, [marked and value != usual for value in values]))
    return rows


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
)
"""The table's columns, and the class of their cells."""


def _rows(found: Sequence[Facts], names: Sequence[str], rankings: Sequence[Ranking]) -> list[list[Cell]]:
    places = {i: (group, place) for group, r in enumerate(rankings) for place, i in enumerate(r.members, 1)}
    rows = []
    for i, facts in enumerate(found):
        group, place = places.get(i, (len(rankings), 0))
        score = facts.score
        count = int(facts.result["count"]) if facts.result else None
        cells = [
            _text(names[i]),
            _text(facts.model),
            _text(str(facts.data["name"])),
            _text(STATES[facts.state].lower()),
            Cell(f"{facts.pictures:,}", facts.pictures),
            Cell(show_duration(facts.elapsed_s), facts.elapsed_s),
            Cell(f"{facts.rate:,.0f}" if facts.rate else "–", facts.rate),
            Cell(f"{count:,}" if count is not None else "–", count),
            Cell(f"{score.fid:.2f}" if score else "–", score.fid if score else None, group),
            Cell(*_optional(score.mifid if score else None), group),
            Cell(f"{rankings[group].letter} {place}" if place else "–", place or None, group),
        ]
        rows.append(cells)
    return rows


def _charts(found: Sequence[Facts], names: Sequence[str], axis: Axis) -> list[Chart]:
    """A chart a column: with several runs there is no room for two of its lines in one."""
    charts = []
    for plot in PLOTS:
        for line in plot.lines:
            single = _single(plot, line)
            series = [(Line(line.column, names[i], _role(i)), facts.ticks) for i, facts in enumerate(found)]
            laid = chart(single, series, axis=axis)
            if laid:
                charts.append(laid)
    return charts


def _single(plot: Plot, line: Line) -> Plot:
    title = {"loss_d": "Loss of D", "loss_g": "Loss of G", "d_real": "D(x)", "d_fake": "D(G(z))"}
    return replace(plot, key=line.column, title=title.get(line.column, plot.title), lines=(line,))


def _role(index: int) -> str:
    return f"run-{index % COLOURS} dash-{index // COLOURS % DASHES}"


def _settings(found: Sequence[Facts]) -> dict[str, list[str]]:
    """What decides a run, a list of values a key, "–" where a run does not know it."""
    records: list[dict[str, Any]] = [
        {
            **facts.recipe,
            "seed": facts.seed,
            "budget": show_duration(facts.budget_s) if facts.budget_s else "none",
            "images": "none" if facts.images is None else facts.images,
            "count": facts.count,
            "competition": facts.competition,
            "set": f"{facts.data['name']} {str(facts.data['digest'])[:12]}",
            "picture size": facts.data["size"],
            "device": f"{facts.device.get('name', '–')}, {facts.device.get('precision', '–')}",
            "kit": f"{facts.kit} {(facts.commit or '')[:12]}{' with changes' if facts.dirty else ''}",
        }
        for facts in found
    ]
    keys = dict.fromkeys(key for record in records for key in record)
    return {key: [show(record[key]) if key in record else "–" for record in records] for key in keys}


def _same(found: Sequence[Facts]) -> list[tuple[str, str]]:
    return [(key, values[0]) for key, values in _settings(found).items() if len(set(values)) == 1]


def _latents(found: Sequence[Facts], names: Sequence[str]) -> str:
    """Whether tile k of one grid and tile k of another come from the same latent."""
    keys = [(facts.seed, facts.recipe.get("latent"), facts.recipe.get("truncation")) for facts in found]
    if len(set(keys)) == 1:
        return "Every grid is drawn from the same latents: equal places can be compared."
    alike = [name for name, key in zip(names, keys, strict=True) if key == max(keys, key=keys.count)]
    if len(alike) == 1:
        return "No two grids are drawn from the same latents: seed, length or truncation differ."
    others = "The others differ in seed, length or truncation."
    return f"The same latents, place by place, only in: {', '.join(alike)}. {others}"


def _names(found: Sequence[Facts]) -> list[str]:
    names = [facts.path.name or str(facts.path) for facts in found]
    return [name if names.count(name) == 1 else str(f.path) for f, name in zip(found, names, strict=True)]


def _of(scores: Sequence[Score | None], index: int) -> Score:
    score = scores[index]
    if score is None:
        raise ValueError(f"run {index} has no score")
    return score


def _number(score: Score, by: str) -> float:
    return score.fid if by == "FID" or score.mifid is None else score.mifid


def _text(text: str) -> Cell:
    return Cell(text, text.lower())


def _optional(value: float | None) -> tuple[str, float | None]:
    return ("–" if value is None else f"{value:.2f}"), value
