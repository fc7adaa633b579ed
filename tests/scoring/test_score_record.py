"""score.json: every damaged field is one line, and only comparable scores are ranked together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scoring_helpers import small_features

from kit.competition import COMPETITIONS, DEFAULT
from kit.core.errors import KitError
from kit.scoring.score_record import Details, InputsScore, Interval, ReferenceRecord, Score, comparable, groups

INTERVAL = Interval(low=25.0, high=28.0, level=0.95, method="delete-group jackknife, 10 groups")
DETAILS = Details(
    fid_interval=INTERVAL,
    mifid_interval=None,
    fid_infinity=26.5,
    kid=0.03,
    kid_std=0.002,
    kid_subset=40,
    precision=0.5,
    recall=0.25,
    density=0.6,
    coverage=0.4,
    prdc_count=5000,
)


def every_field(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all fields and elements in JSON."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from every_field(value, (*path, key))


JUNK = ("[]", "{}", "null", '"x"', '"\\u001b]0;x\\u0007"', "-1", "1e999", "NaN", "true", "9" * 400, "9" * 5000, "[[1]]")


def test_a_damaged_field_is_one_line_or_harmless(some_score: Score, tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    untouched = InputsScore(count=40, fid=90.5, mifid=None, kid=0.08)
    score = dataclasses.replace(some_score, details=DETAILS, inputs=untouched, flags=("rank-deficient",))
    score.save(path)
    content = json.loads(path.read_text())
    assert Score.load(path) == score
    messages = []
    for field in every_field(content):
        for junk in (*JUNK, None):
            damaged = json.loads(json.dumps(content))
            *parents, last = field
            holder = damaged
            for key in parents:
                holder = holder[key]
            if junk is None:
                del holder[last]
            else:
                holder[last] = "JUNK"
            path.write_text(json.dumps(damaged).replace('"JUNK"', junk or ""))
            try:
                read = Score.load(path)
            except KitError as error:
                messages.append(str(error))
            else:  # another value of the right type
                assert read.lines()
                comparable(read, score)
                groups([("a", read), ("b", score)])
    assert len(messages) > 200
    assert all("score.json" in message and len(message) < 300 + len(str(path)) for message in messages)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "damaged"),
        ("[]", "not a kit-score file"),
        ("[" * 200_000, "damaged"),
        ('{"format": "kit-run"}', "not a kit-score file"),
        ('{"format": "kit-score", "version": 1, "fid": 3.0}', "written by another version of the kit"),
    ],
    ids=["empty", "list", "deep", "a run", "older"],
)
def test_a_file_that_is_no_score(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "score.json").write_text(content)
    with pytest.raises(KitError, match=rf"score\.json.*{match}"):
        Score.load(tmp_path / "score.json")


def test_kid_comes_first_where_the_covariance_is_singular(some_score: Score) -> None:
    assert dataclasses.replace(some_score, details=DETAILS).lines()[0].startswith("MiFID")
    few = dataclasses.replace(some_score, details=DETAILS, flags=("rank-deficient",)).lines()
    assert few[0].startswith("KID")
    assert any("fewer pictures than feature dimensions" in line for line in few)


def test_only_the_scorers_own_network_gives_a_leaderboard_number(some_score: Score) -> None:
    assert "no leaderboard number" in some_score.lines()[-1]
    official = with_features(some_score, name=COMPETITIONS[DEFAULT].scorer)
    assert "leaderboard" not in "".join(official.lines())
    assert "timm:inception_v3.tv_in1k" in with_features(some_score, name="timm:inception_v3", tag="tv_in1k").lines()[4]


@pytest.fixture(scope="module")
def some_score() -> Score:
    return Score(
        fid=30.0,
        distance=0.2,
        mifid=30.0,
        epsilon=0.1,
        epsilon_origin="the official scorer's",
        features=small_features().record,
        reference=ReferenceRecord(name="dogs", digest="ab" * 32, kind="whole", split="all", count=60),
        count=40,
        size=16,
        flags=(),
        seconds=1.0,
    )


def with_features(one: Score, **changes: Any) -> Score:
    return dataclasses.replace(one, features=dataclasses.replace(one.features, **changes))


def with_reference(one: Score, **changes: Any) -> Score:
    return dataclasses.replace(one, reference=dataclasses.replace(one.reference, **changes))


DIFFERENCES: dict[str, Callable[[Score], Score]] = {
    "features (small and other)": lambda one: with_features(one, name="other"),
    "features: weights": lambda one: with_features(one, weights="cd" * 32),
    "features: input_size (12 and 64)": lambda one: with_features(one, input_size=64),
    "features: resize": lambda one: with_features(one, resize="tf1-bilinear"),
    "features: mean": lambda one: with_features(one, mean=(0, 0, 0)),
    "features: std": lambda one: with_features(one, std=(1, 1, 1)),
    "features: dtype (float32 and bfloat16)": lambda one: with_features(one, dtype="bfloat16"),
    "reference set": lambda one: with_reference(one, digest="cd" * 32),
    "reference (whole and crops)": lambda one: with_reference(one, kind="crops"),
    "part of the reference (all and train)": lambda one: with_reference(one, split="train"),
    "real pictures (60 and 59)": lambda one: with_reference(one, count=59),
    "generated pictures (40 and 41)": lambda one: dataclasses.replace(one, count=41),
    "size (16 and 32)": lambda one: dataclasses.replace(one, size=32),
    "resize": lambda one: dataclasses.replace(one, resized="resized from 64² to 16²"),
    "ε (0.1 and none)": lambda one: dataclasses.replace(one, epsilon=None, mifid=None),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_unlike_scores_are_not_compared(some_score: Score, what: str) -> None:
    other = DIFFERENCES[what](some_score)
    assert what in str(comparable(some_score, other))
    assert what.split(" (")[0] in str(comparable(other, some_score))


def test_like_scores_are_compared_whatever_they_are(some_score: Score) -> None:
    other = dataclasses.replace(
        some_score, fid=12.0, distance=0.05, mifid=240.0, seconds=9.0, flags=("rank-deficient",)
    )
    other = with_reference(other, name="the same dogs")
    other = dataclasses.replace(with_features(other, tag="in1k"), archive="ef" * 32, epsilon=0.1 * (1 + 1e-7))
    assert comparable(some_score, other) is None
