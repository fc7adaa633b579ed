"""How well local scores foretell the competition's: Spearman's rank correlation, over scores that may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kit.core.errors import KitError
from kit.scoring.score_record import Score, comparable
from kit.submission.ledger import Submission

LEAST = 3
"""Two points always lie in order or against it."""

Measure = Literal["mifid", "fid"]
Board = Literal["public", "private"]

NAMES: dict[Measure, str] = {"mifid": "MiFID", "fid": "FID"}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The rank correlation of a local measure with a board."""

    measure: Measure
    features: str  # that the local scores were taken on
    board: Board
    count: int  # submissions
    rho: float  # Spearman's ρ, −1 to 1; 1: the local scores rank submissions as the board does

    def line(self) -> str:
        """It for a person to read."""
        return (
            f"rank correlation of local {NAMES[self.measure]} ({self.features}) with the {self.board} score: "
            f"{self.rho:.2f} over {self.count} submissions"
        )


def agreements(submissions: Sequence[Submission]) -> list[Agreement]:
    """The rank correlation of each local measure with each board, where there are enough comparable scores.

    Scores that differ in network, reference or counts are in different rankings; of each submission the last local
    score counts.
    """
    found = []
    for group in _comparable(submissions):
        for measure in NAMES:
            for board in ("public", "private"):
                agreement = _agreement(group, measure, board)
                if agreement is not None:
                    found.append(agreement)
    return found


def _comparable(submissions: Sequence[Submission]) -> list[list[tuple[Submission, Score]]]:
    groups: list[list[tuple[Submission, Score]]] = []
    for submission in submissions:
        if not submission.scores:
            continue
        try:
            score = Score.from_json(submission.scores[-1])
        except KitError:
            continue  # of another version: in no ranking
        for group in groups:
            other, first = group[0]
            if submission.competition == other.competition and comparable(first, score) is None:
                group.append((submission, score))
                break
        else:
            groups.append([(submission, score)])
    return groups


def _agreement(group: Sequence[tuple[Submission, Score]], measure: Measure, board: Board) -> Agreement | None:
    from scipy.stats import spearmanr

    pairs = [
        (getattr(score, measure), getattr(submission.answer, board))
        for submission, score in group
        if submission.answer is not None
    ]
    pairs = [(local, kaggle) for local, kaggle in pairs if local is not None and kaggle is not None]
    ours, theirs = [local for local, _ in pairs], [kaggle for _, kaggle in pairs]
    if len(pairs) < LEAST or len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None  # too few, or all alike: there is no order to agree on
    rho = float(spearmanr(ours, theirs).statistic)
    return Agreement(measure=measure, features=group[0][1].features.name, board=board, count=len(pairs), rho=rho)
