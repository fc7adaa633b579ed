"""The table of `kit submissions`, and how local scores and the boards agree: by ranks, and only where they compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from submission_tools import LOCAL, RECEIPT, answer

from kit.core.errors import KitError
from kit.submission.make_submission import make_submission
from kit.submission.submission_record import Submission
from kit.submission.submissions_table import COLUMNS, Row, damaged_row, leaderboard_correlations, row


@pytest.fixture
def submission(make_run: Callable[..., Path], tmp_path: Path) -> Submission:
    return make_submission(make_run(), root=tmp_path / "submissions")


def test_a_row_of_one_not_scored_yet(submission: Submission) -> None:
    found = row(dataclasses.replace(submission, packed="2026-01-02T03:04:05+00:00"))
    assert found == Row(
        name="dcgan-demo-1", model="dcgan", packed="2026-01-02T03:04:05+00:00", count=12, state="packed"
    )
    assert found.cells() == ["dcgan-demo-1", "dcgan", "2026-01-02 03:04", "12", "–", "–", "–", "–", "–", "packed"]


def test_a_row_with_scores(submission: Submission) -> None:
    done = answer("COMPLETE", public=31.1, private=55.42)
    found = row(dataclasses.replace(submission, scores=[LOCAL], receipts=[RECEIPT], answer=done))
    assert (found.fid, found.mifid, found.public, found.private, found.state) == (61.234, 75.5, 31.1, 55.42, "scored")
    assert found.cells()[4:] == ["61.23", "75.50", "random, uncalibrated", "31.10", "55.42", "scored"]


def test_features_without_a_threshold_give_a_fid_only(submission: Submission) -> None:
    score = dataclasses.replace(LOCAL, mifid=None, flags=())
    assert row(dataclasses.replace(submission, scores=[score])).cells()[4:7] == ["61.23", "–", "random"]


@pytest.mark.abuse("F32")
def test_a_damaged_one_is_a_line_of_its_own(tmp_path: Path) -> None:
    cells = damaged_row(tmp_path / "broken", KitError("it is damaged")).cells()
    assert cells == ["broken", *["–"] * (len(COLUMNS) - 2), "damaged"]


@pytest.fixture
def scored(submission: Submission) -> Callable[..., Submission]:
    """`scored(fid=…, public=…, mifid=…)`: a submission with these scores."""

    def make(*, fid: float, public: float | None, private: float | None = None, **score: Any) -> Submission:
        local = dataclasses.replace(LOCAL, **{"fid": fid, "mifid": None, **score})
        done = answer("COMPLETE", public=public, private=private)
        return dataclasses.replace(submission, answer=done, scores=[local])

    return make


def spearman(pairs: list[tuple[float, float]]) -> float:
    """ρ = 1 − 6 Σ d² / (n (n² − 1)), which holds where no two values are alike."""
    ranks = [[sorted(column).index(value) for value in column] for column in zip(*pairs, strict=True)]
    n = len(pairs)
    assert all(a < b for column in zip(*pairs, strict=True) for a, b in pairwise(sorted(column)))
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (n * (n**2 - 1))


PAIRS = [(61.0, 70.0), (55.5, 31.1), (80.0, 60.0), (99.0, 200.0), (40.0, 35.0)]


def test_it_is_spearmans(scored: Callable[..., Submission]) -> None:
    [found] = leaderboard_correlations([scored(fid=fid, public=public) for fid, public in PAIRS])
    assert found.rho == pytest.approx(spearman(PAIRS))
    assert (found.measure, found.board, found.count) == ("fid", "public", 5)
    assert found.line() == "rank correlation of local FID (random) with the public score: 0.80 over 5 submissions"


def test_each_measure_and_each_board(scored: Callable[..., Submission]) -> None:
    found = leaderboard_correlations(
        [scored(fid=fid, mifid=-fid, public=board, private=-board) for fid, board in PAIRS]
    )
    rho = spearman(PAIRS)
    assert {(one.measure, one.board): one.rho for one in found} == pytest.approx(
        {("mifid", "public"): -rho, ("mifid", "private"): rho, ("fid", "public"): rho, ("fid", "private"): -rho}
    )


def test_two_are_too_few_and_one_value_is_no_order(scored: Callable[..., Submission]) -> None:
    assert leaderboard_correlations([scored(fid=fid, public=public) for fid, public in PAIRS[:2]]) == []
    assert leaderboard_correlations([scored(fid=61.0, public=public) for _, public in PAIRS]) == []
    assert leaderboard_correlations([scored(fid=fid, public=None) for fid, _ in PAIRS]) == []


def test_scores_that_do_not_compare_are_not_mixed(scored: Callable[..., Submission]) -> None:
    other = {"features": dataclasses.replace(LOCAL.features, name="timm", weights="w" * 64)}
    submissions = [
        scored(fid=fid, public=public, **(other if number >= 2 else {})) for number, (fid, public) in enumerate(PAIRS)
    ]
    [found] = leaderboard_correlations(submissions)
    assert (found.features, found.count) == ("timm", 3)
    assert found.rho == pytest.approx(spearman(PAIRS[2:]))


def test_what_is_not_scored_here_or_there_does_not_count(scored: Callable[..., Submission]) -> None:
    whole = [scored(fid=fid, public=public) for fid, public in PAIRS]
    holes = [dataclasses.replace(whole[0], answer=None), dataclasses.replace(whole[1], scores=[])]
    assert leaderboard_correlations([*whole, *holes]) == leaderboard_correlations(whole)
