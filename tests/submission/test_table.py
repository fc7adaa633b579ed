"""The table of `kit submissions`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.submission import table
from kit.submission.ledger import Answer, Receipt, Submission
from kit.submission.make import make_submission

LOCAL = {"fid": 61.234, "mifid": 75.5, "features": {"name": "random"}, "flags": ["uncalibrated"]}
RECEIPT = Receipt(id="r1", when="2026-01-01T00:00:00+00:00", message="m", kernel="me/dogs/3")


@pytest.fixture
def submission(make_run: Callable[..., Path], tmp_path: Path) -> Submission:
    return make_submission(make_run(), root=tmp_path / "submissions")


def test_a_row_of_one_not_scored_yet(submission: Submission) -> None:
    row = table.row(dataclasses.replace(submission, packed="2026-01-02T03:04:05+00:00"))
    assert row == table.Row(
        name="dcgan-demo-1",
        model="dcgan",
        packed="2026-01-02T03:04:05+00:00",
        count=12,
        fid=None,
        mifid=None,
        features="",
        flags=[],
        public=None,
        private=None,
        state="packed",
    )
    assert row.cells() == ["dcgan-demo-1", "dcgan", "2026-01-02 03:04", "12", "–", "–", "–", "–", "–", "packed"]
    assert len(row.cells()) == len(table.COLUMNS)


def test_a_row_with_scores(submission: Submission) -> None:
    done = Answer(ref=7, status="COMPLETE", public=31.1, private=55.42, error=None)
    scored = dataclasses.replace(submission, scores=[LOCAL], receipts=[RECEIPT], answer=done)
    row = table.row(scored)
    assert (row.fid, row.mifid, row.public, row.private, row.state) == (61.234, 75.5, 31.1, 55.42, "scored")
    assert row.cells()[4:] == ["61.23", "75.50", "random, uncalibrated", "31.10", "55.42", "scored"]


def test_features_without_a_threshold_give_a_fid_only(submission: Submission) -> None:
    row = table.row(dataclasses.replace(submission, scores=[LOCAL | {"mifid": None, "flags": []}]))
    assert row.cells()[4:7] == ["61.23", "–", "random"]
