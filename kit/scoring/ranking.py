"""Scores in an order: like with like only, and nothing that lies too near to the training set in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kit.scoring.record import Score, comparable

T = TypeVar("T")

NEAR = 1.2
"""A memorization distance below so many times the threshold is too near to it to be risked."""


def near(score: Score) -> bool:
    """Whether the memorization distance is below the threshold, or so little above it that it should not be risked."""
    return score.epsilon is not None and score.distance < NEAR * score.epsilon


def key(score: Score) -> tuple[bool, float]:
    """What comparable scores are sorted by: whether the pictures are too near to the training set, then the number."""
    return near(score), score.fid if score.mifid is None else score.mifid


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What groups are called."""


@dataclass(frozen=True)
class Group(Generic[T]):
    """Things whose scores may stand in one ranking."""

    members: list[T]  # the best first
    score: Score  # of the best; what it is a score of holds for all of them
    letter: str  # "A" for the first group
    apart: str | None  # why it is not one with the first group; None for that

    @property
    def by(self) -> str:
        """The number that ranks them."""
        return "FID" if self.score.mifid is None else "MiFID"


def groups(scored: Sequence[tuple[T, Score]]) -> list[Group[T]]:
    """Sorts like with like: the largest group first, of equally large ones that of the earlier score.

    Args:
        scored: things with their scores.
    """
    found: list[list[tuple[T, Score]]] = []
    for pair in scored:
        home = next((group for group in found if comparable(group[0][1], pair[1]) is None), None)
        if home is None:
            found.append(home := [])
        home.append(pair)
    found.sort(key=len, reverse=True)
    sorted_groups = [sorted(group, key=lambda pair: key(pair[1])) for group in found]
    return [
        Group(
            members=[thing for thing, _ in group],
            score=group[0][1],
            letter=LETTERS[number] if number < len(LETTERS) else str(number + 1),
            apart=comparable(sorted_groups[0][0][1], group[0][1]) if number else None,
        )
        for number, group in enumerate(sorted_groups)
    ]
