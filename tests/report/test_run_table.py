"""The table of runs, in the terminal and on the page."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kit.commands.report import report as kit_report
from kit.commands.report import runs as kit_runs
from kit.core.errors import KitError
from kit.report.comparison import write_comparison
from kit.report.run_data import read
from kit.report.run_table import COLUMNS, STALE, rankings, sections
from kit.scoring.score_record import FeaturesRecord

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
OTHER = FeaturesRecord(
    name="inception",
    weights="8" * 64,
    input_size=299,
    resize="pillow-bicubic",
    mean=(0, 0, 0),
    std=(1, 1, 1),
    dtype="float32",
)


@pytest.fixture
def workplace(make_run, make_score, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    for name, fid in (("worse", 70.0), ("better", 50.0)):
        make_score(make_run(folder / name, ticks=3), fid=fid)
    make_score(make_run(folder / "stale", ticks=3), fid=1.0, archive="0" * 64)
    make_run(folder / "[bold]odd <script>", ticks=1, state="running", age_s=1)
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_terminal_has_the_pages_columns_and_like_scores_in_order(workplace, capsys):
    kit_runs()
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [name for name, _ in COLUMNS if name not in lines[0]] == []
    assert [line.split()[0] for line in lines[1:3]] == ["better", "worse"]
    assert lines[1].split()[-2:] == ["1", "resnet18"]
    (stale,) = [line for line in lines if line.startswith("stale")]
    assert "A " not in stale
    assert "1.00" in stale
    assert "[bold]odd <script>" in said.out
    (damaged,) = [line for line in lines if line.startswith("broken")]
    assert "cannot be read" in damaged


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_terminal_has_fewer_columns_and_whole_words(workplace, capsys, caplog, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    caplog.set_level("INFO", "kit")
    kit_runs()
    said = capsys.readouterr()
    lines = [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in said.out.splitlines()]
    assert max(len(line) for line in lines if not line.startswith(("not ranked", "broken"))) <= width
    assert lines[1].split()[0] == "better"
    assert "50.00" in lines[1]
    shown = [name for name, _ in COLUMNS if re.search(rf"(^|  ){re.escape(name)}(  |$)", lines[0])]
    (missing,) = re.findall("too narrow for (.*): widen", caplog.text) or [""]
    assert sorted([*shown, *filter(None, missing.split(", "))]) == sorted(name for name, _ in COLUMNS)
    assert bool(missing) == (width < 160)


SCORES = {
    "new": None,
    "other": {"fid": 1.0, "features": OTHER},
    "fair": {"fid": 50.0},
    "damaged": None,
    "best": {"fid": 20.0},
    "few": {"fid": 2.0, "count": 10},
    "thief": {"fid": 3.0, "distance": 0.11},
    "older": {"fid": 4.0, "archive": "0" * 64},
    "folder": {"fid": 30.0, "archive": None},
}
"""Runs and what their scores differ in; ε is 0.1."""


@pytest.fixture
def found(make_run, make_score, tmp_path):
    for name, changes in SCORES.items():
        run = make_run(tmp_path / name, ticks=1)
        if changes:
            make_score(run, **changes)
    (tmp_path / "damaged" / "score.json").write_text(json.dumps({"fid": 3}))
    return [read(tmp_path / name, now=NOW) for name in SCORES]


def test_like_stands_with_like(found):
    parted = sections(found, rankings(found))
    assert [[found[i].path.name for i in section.members] for section in parted] == [
        ["best", "folder", "fair", "thief"],  # too near to the training set comes last, whatever its number
        ["other"],
        ["few"],
        ["damaged"],
        ["older"],
        ["new"],
    ]
    assert parted[0].apart is None
    assert "features (resnet18 and inception)" in parted[1].apart
    assert "generated pictures (256 and 10)" in parted[2].apart
    assert "not a kit-score file" in parted[3].apart
    assert (parted[4].apart, parted[5].apart) == (STALE, "not scored yet")


def test_rankings_say_what_they_are_rankings_by(found, make_run, make_score, tmp_path):
    assert [(group.letter, group.by) for group in rankings(found)] == [("A", "MiFID"), ("B", "MiFID"), ("C", "MiFID")]
    bare = [make_run(tmp_path / f"bare{i}", ticks=1) for i in range(2)]
    for run, fid in zip(bare, (9.0, 8.0), strict=True):
        make_score(run, fid=fid, mifid=None, epsilon=None)
    (group,) = rankings([read(run, now=NOW) for run in bare])
    assert (group.by, group.members, group.apart) == ("FID", [1, 0], None)


def test_nothing_is_apart_from_nothing(found):
    new = [run for run in found if run.path.name == "new"]
    (section,) = sections(new, rankings(new))
    assert (section.members, section.apart) == ([0], None)
    assert sections([], rankings([])) == []


@pytest.mark.parametrize(
    ("archive", "now", "expected"), [("a", "a", False), ("a", "b", True), (None, "b", False), ("a", None, False)]
)
def test_a_score_of_another_zip_is_stale(make_score, tmp_path, archive, now, expected):
    assert make_score(tmp_path, archive=archive).stale(now) is expected


def test_programs_read_the_same_order_and_the_same_reasons(workplace, capsys):
    kit_runs(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["better", "worse", "stale", "[bold]odd <script>", "broken"]
    assert "damaged" in rows.pop()["problem"]
    assert [row["fid"] for row in rows] == [50.0, 70.0, 1.0, None]
    assert [row["apart"] for row in rows] == [None, None, STALE, "not scored yet"]
    assert rows[0]["features"] == "resnet18"


def test_the_page_of_all_runs(workplace, capsys):
    kit_runs(as_page=True)
    page = workplace / capsys.readouterr().out.strip()
    text = page.read_text(encoding="utf-8")
    assert page.name == "comparison.html"
    assert all(f"<bdi>{name}</bdi>" in text for name in ("better", "worse", "stale"))
    assert "&lt;script&gt;</bdi>" in text
    assert "Left out:" in text


def test_the_page_itself_is_not_taken_for_a_run(make_run, tmp_path, capsys):
    runs = [make_run(tmp_path / name, ticks=1) for name in ("a", "b")]
    for _ in range(2):
        kit_report(sorted(tmp_path.iterdir()), with_neighbours=False)
    page = Path(capsys.readouterr().out.splitlines()[-1])
    assert page == tmp_path / "comparison.html"
    assert "Left out" not in page.read_text(encoding="utf-8")
    assert all(run.name in page.read_text(encoding="utf-8") for run in runs)


def test_without_runs_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match="no runs to compare"):
        kit_runs(as_page=True)
    with pytest.raises(KitError, match="no runs to compare"):
        write_comparison([], tmp_path / "all.html", now=NOW)
