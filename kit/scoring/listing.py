"""The table of `kit runs`: scores in an order only where they compare, and no score of pictures that are gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.runs import SCORE, read_run
from kit.scoring.ranking import groups
from kit.scoring.record import Score, load

STALE = "its score is of another images.zip: run `kit score` again"


@dataclass(frozen=True)
class Section:
    """Some rows of the table, in order, and why they stand apart from those before."""

    rows: list[dict[str, Any]]
    apart: str | None


def sections(rows: list[dict[str, Any]], root: Path) -> list[Section]:
    """The rows of `kit.runs.all_runs`, those with comparable scores together and best first.

    Args:
        rows: a row for each run.
        root: the folder that the runs lie in.

    Returns:
        First the largest group of runs whose scores compare, then each other one with what it differs in, then runs
        whose score is none of their pictures now, then those without a score.
    """
    scored: list[tuple[dict[str, Any], Score]] = []
    apart: dict[str, list[dict[str, Any]]] = {}
    bare = []
    for row in rows:
        run = root / row["name"]
        if not (run / SCORE).is_file():
            bare.append(row)
            continue
        try:
            score = load(run / SCORE)
        except KitError as error:
            apart.setdefault(str(error), []).append(row)
            continue
        if stale(score, read_run(run)):
            apart.setdefault(STALE, []).append(row)
        else:
            scored.append((row, score))
    found = [Section(group.members, group.apart) for group in groups(scored)]
    found += [Section(members, reason) for reason, members in apart.items()]
    return [*found, *([Section(bare, "not scored yet" if found else None)] if bare else [])]


def stale(score: Score, record: dict[str, Any]) -> bool:
    """Whether a score is of other pictures than a run's zip holds now.

    Args:
        score: of the run.
        record: the run's `run.json`.
    """
    result = record.get("result")
    return bool(score.archive and result and score.archive != result.get("sha256"))
