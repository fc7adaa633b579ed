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


@dataclass(frozen=True)
class Group(Generic[T]):
    """Things whose scores may stand in one ranking, best first, and why they do not stand in the first group's."""

    members: list[T]
    apart: str | None  # None for the first group


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
    return [
        Group(
            [thing for thing, _ in sorted(group, key=lambda pair: key(pair[1]))],
            None if group is found[0] else comparable(found[0][0][1], group[0][1]),
        )
        for group in found
    ]
