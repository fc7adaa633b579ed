"""Parts of a submission's record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from kit.scoring.score_record import FeaturesRecord, ReferenceRecord, Score
from kit.submission.submission_record import Answer, SubmissionReceipt

FEATURES = FeaturesRecord(
    name="random",
    weights="0" * 64,
    input_size=299,
    resize="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    dtype="float32",
)
LOCAL = Score(
    fid=61.234,
    distance=0.2,
    mifid=75.5,
    epsilon=0.1,
    epsilon_origin="the competition's",
    features=FEATURES,
    reference=ReferenceRecord(name="demo", digest="d" * 64, kind="whole", split="all", count=1200),
    count=12,
    size=64,
    flags=("uncalibrated",),
    seconds=1.5,
)
RECEIPT = SubmissionReceipt(
    id="a" * 12, account="jane", when="2026-01-01T00:00:00+00:00", message="[aaaaaaaaaaaa] m", kernel="jane/dogs/3"
)


def answer(status: str, **changes: Any) -> Answer:
    """What Kaggle says of a submission."""
    return dataclasses.replace(Answer(ref=7, status=status, public=None, private=None, error=None), **changes)


class Silent:
    """A callback that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None
