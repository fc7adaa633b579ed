"""Runs as a table: what `kit runs` prints and the page that compares them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.report.run_data import RunData, rate, read
from kit.scoring.score_record import Group, groups

STALE = "its score is of another images.zip: run `kit score` again"

UNSCORED = "not scored yet"

STATES = {
    "finished": "Finished",
    "stopped": "Cut short",
    "failed": "Failed",
    "running": "Still running",
    "silent": "Went silent",
}


@dataclass(frozen=True)
class Section:
    """Runs that stand together in the terminal's table, and why they stand apart from those before."""

    members: list[int]  # indices of runs, in order
    apart: str | None


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted by (None: always at the end)."""

    text: str
    key: float | str | None
    group: int = 0  # of the ranking: sorting never mixes two


def read_all(paths: Sequence[Path], *, now: datetime) -> tuple[list[RunData], list[tuple[Path, str]]]:
    """Reads run folders, and says of those that cannot be read why.

    Args:
        paths: run folders.
        now: the time, to tell a run that goes on from one that was killed.
    """
    found: list[RunData] = []
    damaged: list[tuple[Path, str]] = []
    for path in paths:
        try:
            found.append(read(path, now=now))
        except KitError as error:
            damaged.append((path, str(error)))
    return found, damaged


def rankings(found: Sequence[RunData]) -> list[Group[int]]:
    """Rankings of runs by their indices; a score of an older `images.zip` is in none."""
    scored = [(i, run.score) for i, run in enumerate(found) if run.score and not run.stale_score]
    return groups(scored)


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


def rows(found: Sequence[RunData], ranked: Sequence[Group[int]]) -> list[list[Cell]]:
    """A row of cells a run, a cell a column of COLUMNS; `ranked` are their rankings."""
    called = names(found)
    places = {i: (group, place) for group, r in enumerate(ranked) for place, i in enumerate(r.members, 1)}
    table = []
    for i, run in enumerate(found):
        group, place = places.get(i, (len(ranked), 0))
        score, speed = run.score, rate(run)
        count = run.record.result.count if run.record.result else None
        cells = [
            _text(called[i]),
            _text(run.record.recipe.model),
            _text(run.record.data.name),
            _text(STATES[run.state].lower()),
            Cell(f"{run.pictures:,}", run.pictures),
            Cell(show_duration(run.elapsed_s), run.elapsed_s),
            Cell(f"{speed:,.0f}" if speed else "–", speed),
            Cell(f"{count:,}" if count is not None else "–", count),
            Cell(f"{score.fid:.2f}" if score else "–", score.fid if score else None, group),
            Cell(*_optional(score.mifid if score else None), group),
            Cell(f"{ranked[group].letter} {place}" if place else "–", place or None, group),
            _text(score.features.name if score else "–"),
        ]
        table.append(cells)
    return table


def names(found: Sequence[RunData]) -> list[str]:
    """What runs are called: their folders' names, or where two are alike their paths."""
    called = [run.path.name or str(run.path) for run in found]
    return [name if called.count(name) == 1 else str(f.path) for f, name in zip(found, called, strict=True)]


def _text(text: str) -> Cell:
    return Cell(text, text.lower())


def _optional(value: float | None) -> tuple[str, float | None]:
    return ("–" if value is None else f"{value:.2f}"), value
