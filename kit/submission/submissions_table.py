"""`kit submissions`: local scores beside the competition's own, and how well the ones foretell the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kit.core.errors import KitError
from kit.scoring.score_record import Score, comparable
from kit.submission.submission_record import State, Submission

COLUMNS = ("submission", "model", "packed (UTC)", "pictures", "FID", "MiFID", "taken on", "public", "private", "state")

LEAST = 3
"""Submissions for a rank correlation: two points always lie in order or against it."""

Measure = Literal["mifid", "fid"]
Board = Literal["public", "private"]

NAMES: dict[Measure, str] = {"mifid": "MiFID", "fid": "FID"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of `kit submissions`. Scores taken on other features do not compare, so it is sorted by time only."""

    name: str
    model: str = ""
    packed: str = ""  # ISO 8601, UTC
    count: int | None = None  # pictures
    fid: float | None = None  # local
    mifid: float | None = None  # local; None also where the features have no ε
    features: str = ""  # what the local scores were taken on
    flags: tuple[str, ...] = ()  # what is said beside them, "uncalibrated" for one
    public: float | None = None
    private: float | None = None
    state: State | Literal["damaged"]
    problem: str = ""  # of a damaged one

    def cells(self) -> list[str]:
        """The row as text, one cell for each of COLUMNS; what is not known is a dash."""
        words = [self.name, self.model, self.packed[:16].replace("T", " "), f"{self.count:,}" if self.count else ""]
        words += [_number(self.fid), _number(self.mifid), ", ".join([self.features, *self.flags])]
        words += [_number(self.public), _number(self.private), self.state]
        return [word or "–" for word in words]


def row(submission: Submission) -> Row:
    """What the table shows of a submission; of several local scores the last."""
    score = submission.scores[-1] if submission.scores else None
    answer = submission.answer
    return Row(
        name=submission.name,
        model=submission.run.recipe.model,
        packed=submission.packed,
        count=submission.images.count,
        fid=score.fid if score else None,
        mifid=score.mifid if score else None,
        features=score.features.name if score else "",
        flags=tuple(score.flags) if score else (),
        public=answer.public if answer else None,
        private=answer.private if answer else None,
        state=submission.state,
    )


def damaged_row(folder: Path, error: KitError) -> Row:
    """The line of a submission whose record cannot be read."""
    return Row(name=folder.name, state="damaged", problem=str(error))


@dataclass(frozen=True, kw_only=True)
class LeaderboardCorrelation:
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


def leaderboard_correlations(submissions: Sequence[Submission]) -> list[LeaderboardCorrelation]:
    """The rank correlation of each local measure with each board, where there are enough comparable scores.

    Scores that differ in network, reference or counts are in different rankings; of each submission the last local
    score counts.
    """
    found = [
        _correlation(group, measure, board)
        for group in _comparable(submissions)
        for measure in NAMES
        for board in ("public", "private")
    ]
    return [one for one in found if one is not None]


def _comparable(submissions: Sequence[Submission]) -> list[list[tuple[Submission, Score]]]:
    groups: list[list[tuple[Submission, Score]]] = []
    for submission in submissions:
        if not submission.scores:
            continue
        score = submission.scores[-1]
        for group in groups:
            other, first = group[0]
            if submission.competition == other.competition and comparable(first, score) is None:
                group.append((submission, score))
                break
        else:
            groups.append([(submission, score)])
    return groups


def _correlation(
    group: Sequence[tuple[Submission, Score]], measure: Measure, board: Board
) -> LeaderboardCorrelation | None:
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
    features = group[0][1].features.name
    return LeaderboardCorrelation(measure=measure, features=features, board=board, count=len(pairs), rho=rho)


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
