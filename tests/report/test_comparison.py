"""Runs beside each other, in the terminal and on the page."""

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
from kit.report.comparison import COLUMNS, STALE, differences, rankings, sections, write_comparison
from kit.report.run_data import read
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


@pytest.mark.parametrize("width", [60, 100, 160])
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


def test_programs_read_the_same_order_and_the_same_reasons(workplace, capsys):
    kit_runs(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["better", "worse", "stale", "[bold]odd <script>", "broken"]
    assert "damaged" in rows.pop()["problem"]
    assert [row["fid"] for row in rows] == [50.0, 70.0, 1.0, None]
    assert [row["apart"] for row in rows] == [None, None, STALE, "not scored yet"]
    assert rows[0]["features"] == "resnet18"


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


def text(path):
    return " ".join(path.read_text(encoding="utf-8").split())


def test_what_lies_too_near_to_the_training_set_is_ranked_last_and_named(make_run, make_score, tmp_path):
    runs = [make_run(tmp_path / name, ticks=1) for name in ("honest", "thief")]
    for run, fid, distance in zip(runs, (50.0, 3.0), (0.3, 0.11), strict=True):
        make_score(run, fid=fid, distance=distance)
    page = text(write_comparison(runs, tmp_path / "all.html", now=NOW))
    assert "Ranked last, as it lies too near to the training set: <bdi>thief</bdi>." in page
    assert re.findall(r"<bdi>(A \d)</bdi>", page) == ["A 1", "A 2"]


def test_the_odd_one_out_is_marked(make_run, tmp_path):
    recipes = [{}, {"width": 16}, {}, {"lr_g": 0.5}]
    runs = [read(make_run(tmp_path / f"r{i}", ticks=1, recipe=r), now=NOW) for i, r in enumerate(recipes)]
    rows = {row.key: row for row in differences(runs)}
    assert set(rows) == {"width", "lr_g"}
    assert rows["width"].odd == [False, True, False, False]
    assert rows["lr_g"].values[3] == "0.5"


def test_the_page_shows_every_run(make_run, make_score, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", ticks=3 + i, seed=i % 2) for i in range(3)]
    make_score(runs[1])
    out = write_comparison(runs, tmp_path / "all.html", now=NOW)
    page = text(out)
    assert all(f"<bdi>{run.name}</bdi>" in page for run in runs)
    assert page.count("<img ") == 3
    assert "The same latents, place by place, only in: run0, run2." in page
    assert out.stat().st_size < 10_000_000


def test_scores_on_the_way_are_laid_over_each_other_where_they_compare(make_run, make_score, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", ticks=6) for i in range(3)]
    for number, (run, count) in enumerate(zip(runs, (256, 256, 100), strict=True)):
        score = make_score(run, count=count).to_json()
        moments = [{"pictures": 100 * k, "seconds": 15.0 + k, "score": {**score, "fid": 90.0 - number}} for k in (2, 4)]
        record = json.loads((run / "run.json").read_text()) | {"candidates": moments}
        (run / "run.json").write_text(json.dumps(record))
    page = write_comparison(runs, tmp_path / "all.html", now=NOW).read_text(encoding="utf-8")
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert {c["label"]: c["y"] for c in charts["fid-pictures"]["curves"]} == {"run0": [90, 90], "run1": [89, 89]}
    assert [c["x"] for c in charts["fid-seconds"]["curves"]] == [[17, 19]] * 2
    assert "256 pictures, resnet18 features; lower is better" in page


def test_runs_of_one_name_are_told_apart(make_run, tmp_path):
    runs = [make_run(tmp_path / place / "run", ticks=1) for place in ("a", "b")]
    page = text(write_comparison(runs, tmp_path / "all.html", now=NOW))
    assert all(f"<bdi>{run}</bdi>" in page for run in runs)


def test_a_file_that_the_kit_did_not_write_is_not_overwritten(make_run, tmp_path):
    runs = [make_run(tmp_path / name, ticks=1) for name in ("a", "b")]
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("\\documentclass{book}")
    with pytest.raises(KitError, match=r"thesis\.tex exists, and the kit did not make it; .*--overwrite"):
        write_comparison(runs, thesis)
    assert thesis.read_text() == "\\documentclass{book}"
    write_comparison(runs, thesis, overwrite=True)
    write_comparison(runs, thesis)  # by now it is a page
