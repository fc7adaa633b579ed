"""What a run keeps of itself at its end, and what it does without when time is short."""

from __future__ import annotations

import json

import pytest

from kit.report import artifacts
from kit.report.artifacts import PAGE_S, SPARE_S


@pytest.fixture
def slow(monkeypatch):
    """A machine on which a frame of the GIF takes a tenth of a second, so that times can be reckoned."""
    monkeypatch.setattr(artifacts, "_frame_seconds", lambda grid: 0.1)


def kept(run, *, left_s=None, stop=lambda: False):
    said = []
    artifacts.keep(run, left_s=left_s, told_to_stop=stop, tell=said.append)
    return {path.name for path in run.iterdir()} & {"film.gif", "film.mp4", "report.html"}, said


def frames(run):
    from PIL import Image

    with Image.open(run / "film.gif") as film:
        return film.n_frames


def test_with_all_the_time_there_are_films_and_a_page(make_run, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: pip install kit[video]")
    run = make_run(tmp_path / "run", ticks=4)
    assert kept(run) == ({"film.gif", "film.mp4", "report.html"}, [])
    assert frames(run) == 5


def test_without_an_encoder_there_is_a_gif_and_a_word_about_it(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "has_encoder", lambda: False)
    monkeypatch.setattr("kit.report.pictures.has_encoder", lambda: False)
    files, said = kept(make_run(tmp_path / "run", ticks=4))
    assert files == {"film.gif", "report.html"}
    assert len(said) == 1
    assert "kit[video]" in said[0]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("film_s", "expected"), [(4.3, 6), (15.0, 13), (0.9, None)])
def test_the_film_is_as_long_as_there_is_time_for(make_run, tmp_path, monkeypatch, film_s, expected):
    monkeypatch.setattr(artifacts, "has_encoder", lambda: True)
    run = make_run(tmp_path / "run", ticks=12)
    page_s = PAGE_S + 13 * 1.5 * 0.1
    files, said = kept(run, left_s=SPARE_S + page_s + film_s)
    assert "report.html" in files
    if expected is None:  # a frame in both films takes 1.5 × (0.1 + 0.35) s
        assert "no time left for the film" in said[0]
    else:
        assert frames(run) == expected


@pytest.mark.usefixtures("slow")
def test_without_time_nothing_is_begun(make_run, tmp_path):
    files, said = kept(make_run(tmp_path / "run", ticks=4), left_s=2.0)
    assert files == set()
    assert said == [f"no time left for the film and the page: `kit report {tmp_path / 'run'}` makes them"]


def test_a_signal_ends_it_and_leaves_nothing_half_done(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    asked = iter([False, False, True, True])
    assert kept(run, stop=lambda: next(asked))[0] == set()
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_nothing_that_goes_wrong_makes_the_run_fail(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    (run / "run.json").write_text("{")
    files, said = kept(run)
    assert "report.html" not in files
    assert "damaged" in said[0]
    assert "kit report" in said[0]


def test_a_run_without_grids_has_a_page_alone(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=2)
    for grid in (run / "samples").iterdir():
        grid.unlink()
    assert kept(run) == ({"report.html"}, [])


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("frames", "filmed", "shown"), [(80, 80, 80), (200, 200, 120), (900, 300, 120)])
@pytest.mark.parametrize("encoder", [True, False])
def test_what_is_needed_is_what_a_whole_film_and_page_get(monkeypatch, frames, filmed, shown, encoder):
    monkeypatch.setattr(artifacts, "has_encoder", lambda: encoder)
    each = 1.5 * 0.1  # a frame, and the margin
    expected = PAGE_S + shown * each + filmed * each * (4.5 if encoder else 1)
    assert artifacts.needed((526, 526), frames=frames) == pytest.approx(expected)


@pytest.mark.usefixtures("slow")
def test_with_what_is_needed_the_film_is_whole(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "has_encoder", lambda: True)
    run = make_run(tmp_path / "run", ticks=12)
    files, said = kept(run, left_s=SPARE_S + artifacts.needed((34, 34), frames=13) + 0.5)
    assert "report.html" in files
    assert said in ([], ['film.gif alone: for film.mp4, `pip install "kit[video]"`'])
    assert frames(run) == 13


def test_the_page_knows_what_the_end_was_spent_on(make_run, tmp_path):
    from datetime import UTC, datetime

    from kit.report.run_data import read
    from kit.report.timeline import timeline

    run = make_run(tmp_path / "run", ticks=12)
    record = json.loads((run / "run.json").read_text())
    record["seconds"] = {"finishing": 4.0, "generating": 3.0, "artifacts": 3.0, "in_all": 77.0}
    (run / "run.json").write_text(json.dumps(record))
    segments = timeline(read(run, now=datetime(2030, 1, 2, 12, tzinfo=UTC))).segments
    assert [(s.kind, s.start, s.stop) for s in segments[1:]] == [
        ("training", 10, 70),
        ("generating", 70, 73),
        ("packing", 73, 74),
        ("keeping", 74, 77),
        ("left", 77, 100),
    ]
