"""Runs as a table: what `kit runs` prints and the page that compares them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kit.clock import show_duration
from kit.errors import KitError
from kit.report.facts import Facts, read
from kit.scoring.record import Score, comparable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

STATES = {
    "finished": "Finished",
    "stopped": "Cut short",
    "failed": "Failed",
    "running": "Still running",
    "silent": "Went silent",
}


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


def read_all(paths: Sequence[Path], *, now: datetime) -> tuple[list[Facts], list[str]]:
    """Reads run folders, and says of those that cannot be read why.

    Args:
        paths: run folders.
        now: the time, to tell a run that goes on from one that was killed.
    """
    found: list[Facts] = []
    damaged: list[str] = []
    for path in paths:
        try:
            found.append(read(path, now=now))
        except KitError as error:
            damaged.append(str(error))
    return found, damaged


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


def rankings(found: Sequence[Facts]) -> list[Ranking]:
    """Rankings of runs; a score of an older `images.zip` is in none."""
    return rank([None if facts.stale_score else facts.score for facts in found])


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


def rows(found: Sequence[Facts], ranked: Sequence[Ranking]) -> list[list[Cell]]:
    """A row of cells a run, a cell a column of COLUMNS; `ranked` are their rankings."""
    called = names(found)
    places = {i: (group, place) for group, r in enumerate(ranked) for place, i in enumerate(r.members, 1)}
    table = []
    for i, facts in enumerate(found):
        group, place = places.get(i, (len(ranked), 0))
        score = facts.score
        count = int(facts.result["count"]) if facts.result else None
        cells = [
            _text(called[i]),
            _text(facts.model),
            _text(str(facts.data["name"])),
            _text(STATES[facts.state].lower()),
            Cell(f"{facts.pictures:,}", facts.pictures),
            Cell(show_duration(facts.elapsed_s), facts.elapsed_s),
            Cell(f"{facts.rate:,.0f}" if facts.rate else "–", facts.rate),
            Cell(f"{count:,}" if count is not None else "–", count),
            Cell(f"{score.fid:.2f}" if score else "–", score.fid if score else None, group),
            Cell(*_optional(score.mifid if score else None), group),
            Cell(f"{ranked[group].letter} {place}" if place else "–", place or None, group),
            _text(str(score.features["name"]) if score else "–"),
        ]
        table.append(cells)
    return table


def names(found: Sequence[Facts]) -> list[str]:
    """What runs are called: their folders' names, or where two are alike their paths."""
    called = [facts.path.name or str(facts.path) for facts in found]
    return [name if called.count(name) == 1 else str(f.path) for f, name in zip(found, called, strict=True)]


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
