from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kit.errors import KitError
from kit.report.comparison import differences, write_comparison
from kit.report.facts import read
from kit.report.table import rank

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
OTHER = {"name": "inception", "weights": "8" * 64, "input_size": 299, "resize": "pillow-bicubic", "dtype": "float32"}


def text(path):
    return " ".join(path.read_text(encoding="utf-8").split())


def test_only_like_scores_are_ranked(make_run, make_score, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", ticks=1) for i in range(5)]
    scores = [
        make_score(runs[0], fid=70.0),
        make_score(runs[1], fid=10.0, features=OTHER),
        make_score(runs[2], fid=60.0),
        None,
        make_score(runs[4], fid=65.0),
    ]
    first, second = rank(scores)
    assert (first.members, first.by, first.why) == ([2, 4, 0], "MiFID", "")
    assert second.members == [1]
    assert "features" in second.why


def test_without_epsilon_the_fid_ranks(make_run, make_score, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", ticks=1) for i in range(2)]
    scores = [make_score(run, fid=fid, mifid=None, epsilon=None) for run, fid in zip(runs, (9.0, 8.0), strict=True)]
    (ranking,) = rank(scores)
    assert (ranking.by, ranking.members) == ("FID", [1, 0])


def test_no_scores_no_ranking():
    assert rank([None, None]) == []


def test_the_odd_one_out_is_marked(make_run, tmp_path):
    recipes = [{}, {"width": 16}, {}, {"lr_g": 0.5}]
    facts = [read(make_run(tmp_path / f"r{i}", ticks=1, recipe=r), now=NOW) for i, r in enumerate(recipes)]
    rows = {row.key: row for row in differences(facts)}
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
