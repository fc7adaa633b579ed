"""The table of runs, in the terminal and on the page."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kit.commands.looking import runs as kit_runs
from kit.errors import KitError
from kit.report.comparison import write_comparison
from kit.report.table import COLUMNS

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


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
    assert "broken" in said.err


def test_the_page_of_all_runs(workplace, capsys):
    kit_runs(as_page=True)
    page = workplace / capsys.readouterr().out.strip()
    text = page.read_text(encoding="utf-8")
    assert page.name == "comparison.html"
    assert all(f"<bdi>{name}</bdi>" in text for name in ("better", "worse", "stale"))
    assert "&lt;script&gt;</bdi>" in text
    assert "Left out:" in text


def test_without_runs_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match="no runs to compare"):
        kit_runs(as_page=True)
    with pytest.raises(KitError, match="no runs to compare"):
        write_comparison([], tmp_path / "all.html", now=NOW)
