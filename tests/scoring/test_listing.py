"""The table of runs: like with like, best first; what does not compare, or is of older pictures, stands apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kit.files import write_json
from kit.runs import VERSION
from kit.scoring.listing import STALE, sections, stale
from kit.scoring.record import Against, Score


def made(
    fid: float, *, weights: str = "ab", count: int = 40, archive: str | None = "zip", distance: float = 0.3
) -> Score:
    return Score(
        fid=fid,
        distance=distance,
        mifid=fid / (distance if distance < 0.1 else 1),
        epsilon=0.1,
        epsilon_origin="",
        features={"name": "own", "weights": weights},
        reference=Against(name="dogs", digest="cd", kind="whole", split="all", count=60),
        count=count,
        size=16,
        flags=(),
        seconds=1.0,
        archive=archive,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def run(name: str, score: Score | None, sha256: str = "zip") -> None:
        write_json(tmp_path / name / "run.json", {"version": VERSION, "result": {"sha256": sha256}})
        if score:
            write_json(tmp_path / name / "score.json", score.to_json())

    run("fair", made(50))
    run("best", made(20))
    run("thief", made(3, distance=0.05))
    run("other", made(1, weights="ef"))
    run("few", made(2, count=10))
    run("older", made(4), sha256="a later zip")
    run("folder", made(30, archive=None))
    run("new", None)
    run("damaged", None)
    (tmp_path / "damaged" / "score.json").write_text(json.dumps({"fid": 3}))
    return tmp_path


def rows(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def test_like_stands_with_like(root: Path) -> None:
    names = ("new", "other", "fair", "damaged", "best", "few", "thief", "older", "folder")
    found = sections(rows(*names), root)
    assert [[row["name"] for row in section.rows] for section in found] == [
        ["best", "folder", "fair", "thief"],
        ["other"],
        ["few"],
        ["damaged"],
        ["older"],
        ["new"],
    ]
    assert found[0].apart is None
    assert "weights (ab and ef)" in str(found[1].apart)
    assert "generated pictures (40 and 10)" in str(found[2].apart)
    assert "no score" in str(found[3].apart)
    assert found[4].apart == STALE
    assert found[5].apart == "not scored yet"


def test_nothing_is_apart_from_nothing(root: Path) -> None:
    (section,) = sections(rows("new"), root)
    assert section.apart is None
    assert sections([], root) == []


@pytest.mark.parametrize(
    ("archive", "result", "expected"),
    [("a", {"sha256": "a"}, False), ("a", {"sha256": "b"}, True), (None, {"sha256": "b"}, False), ("a", None, False)],
)
def test_a_score_of_another_zip_is_stale(archive: str | None, result: dict[str, str] | None, expected: bool) -> None:
    assert stale(made(1, archive=archive), {"result": result}) is expected
