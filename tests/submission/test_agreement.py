"""How local scores and the boards agree: ranks only, and only of scores that compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kit.submission.agreement import agreements
from kit.submission.ledger import Answer, Submission
from kit.submission.make import make_submission

SCORE: dict[str, Any] = {
    "fid": 61.0,
    "distance": 0.2,
    "mifid": None,
    "epsilon": None,
    "epsilon_origin": "none",
    "features": {"name": "timm", "weights": "w" * 64},
    "reference": {"name": "dogs", "digest": "d" * 64, "kind": "whole", "split": "all", "count": 100},
    "count": 12,
    "size": 64,
    "flags": [],
    "seconds": 1.0,
    "archive": None,
}


@pytest.fixture
def scored(make_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Submission]:
    """`scored(fid=…, public=…, mifid=…)`: a submission with these scores."""
    submission = make_submission(make_run(), root=tmp_path / "submissions")

    def make(*, fid: float, public: float | None, private: float | None = None, **score: Any) -> Submission:
        answer = Answer(ref=7, status="COMPLETE", public=public, private=private, error=None)
        return dataclasses.replace(submission, answer=answer, scores=[{**SCORE, "fid": fid, **score}])

    return make


def spearman(pairs: list[tuple[float, float]]) -> float:
    """ρ = 1 − 6 Σ d² / (n (n² − 1)), which holds where no two values are alike."""
    ranks = [[sorted(column).index(value) for value in column] for column in zip(*pairs, strict=True)]
    n = len(pairs)
    assert all(a < b for column in zip(*pairs, strict=True) for a, b in pairwise(sorted(column)))
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (n * (n**2 - 1))


PAIRS = [(61.0, 70.0), (55.5, 31.1), (80.0, 60.0), (99.0, 200.0), (40.0, 35.0)]


def test_it_is_spearmans(scored: Callable[..., Submission]) -> None:
    [agreement] = agreements([scored(fid=fid, public=public) for fid, public in PAIRS])
    assert agreement.rho == pytest.approx(spearman(PAIRS))
    assert (agreement.measure, agreement.board, agreement.count) == ("fid", "public", 5)
    assert agreement.line() == "rank correlation of local FID (timm) with the public score: 0.80 over 5 submissions"


def test_each_measure_and_each_board(scored: Callable[..., Submission]) -> None:
    found = agreements([scored(fid=fid, mifid=-fid, public=board, private=-board) for fid, board in PAIRS])
    rho = spearman(PAIRS)
    assert {(one.measure, one.board): one.rho for one in found} == pytest.approx(
        {("mifid", "public"): -rho, ("mifid", "private"): rho, ("fid", "public"): rho, ("fid", "private"): -rho}
    )


def test_two_are_too_few_and_one_value_is_no_order(scored: Callable[..., Submission]) -> None:
    assert agreements([scored(fid=fid, public=public) for fid, public in PAIRS[:2]]) == []
    assert agreements([scored(fid=61.0, public=public) for _, public in PAIRS]) == []
    assert agreements([scored(fid=fid, public=None) for fid, _ in PAIRS]) == []


def test_scores_that_do_not_compare_are_not_mixed(scored: Callable[..., Submission]) -> None:
    other = {"features": {"name": "random", "weights": "r" * 64}}
    submissions = [
        scored(fid=fid, public=public, **(other if number >= 2 else {})) for number, (fid, public) in enumerate(PAIRS)
    ]
    [agreement] = agreements(submissions)
    assert (agreement.features, agreement.count) == ("random", 3)
    assert agreement.rho == pytest.approx(spearman(PAIRS[2:]))


def test_what_is_not_scored_here_or_there_does_not_count(scored: Callable[..., Submission]) -> None:
    whole = [scored(fid=fid, public=public) for fid, public in PAIRS]
    holes = [dataclasses.replace(whole[0], answer=None), dataclasses.replace(whole[1], scores=[])]
    damaged = dataclasses.replace(whole[2], scores=[{"fid": 1.0, "mifid": 1.0, "features": {}, "flags": []}])
    assert agreements([*whole, *holes, damaged]) == agreements(whole)
