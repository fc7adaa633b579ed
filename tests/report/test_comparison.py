from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from kit.core.errors import KitError
from kit.report.comparison import differences, write_comparison
from kit.report.run_data import read

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


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
    assert [c["x"] for c in charts["fid-time"]["curves"]] == [[17, 19]] * 2
    assert "256 pictures, resnet18 features; lower is better" in page


def test_what_cannot_be_read_is_named(make_run, tmp_path):
    good = make_run(tmp_path / "good", ticks=2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    page = text(write_comparison([good, tmp_path / "bad"], tmp_path / "all.html", now=NOW))
    assert "Left out:" in page
    with pytest.raises(KitError, match="damaged"):
        write_comparison([tmp_path / "bad"], tmp_path / "none.html", now=NOW)
    assert not (tmp_path / "none.html").exists()


def test_runs_of_one_name_are_told_apart(make_run, tmp_path):
    runs = [make_run(tmp_path / place / "run", ticks=1) for place in ("a", "b")]
    page = text(write_comparison(runs, tmp_path / "all.html", now=NOW))
    assert all(f"<bdi>{run}</bdi>" in page for run in runs)


def test_many_runs_stay_under_ten_megabytes(make_run, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", ticks=2, size=64, seed=i) for i in range(40)]
    out = write_comparison(runs, tmp_path / "all.html", now=NOW)
    assert out.stat().st_size < 10_000_000


def test_a_file_that_the_kit_did_not_write_is_not_overwritten(make_run, tmp_path):
    runs = [make_run(tmp_path / name, ticks=1) for name in ("a", "b")]
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("\\documentclass{book}")
    with pytest.raises(KitError, match=r"thesis\.tex exists, and the kit did not make it; .*--overwrite"):
        write_comparison(runs, thesis)
    assert thesis.read_text() == "\\documentclass{book}"
    write_comparison(runs, thesis, overwrite=True)
    write_comparison(runs, thesis)  # by now it is a page
