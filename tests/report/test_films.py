"""The film and the page of a run: at its end, in the time that is left, and by `kit report`."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from PIL.GifImagePlugin import GifImageFile

from kit.report import films
from kit.report.films import FRAMES, PAGE_S, SPARE_S, film
from kit.report.page_pictures import evenly
from kit.report.run_data import grids


@pytest.fixture
def slow(monkeypatch):
    """A machine on which a frame of the GIF takes a tenth of a second, so that times can be reckoned."""
    monkeypatch.setattr(films, "_frame_seconds", lambda grid: 0.1)


@pytest.fixture
def made(caplog):
    """Makes the artifacts of a run: what files there are afterwards, and what was logged."""
    caplog.set_level("INFO", "kit")

    def make(run, *, left_s=None, stop=lambda: False):
        films.make_artifacts(run, left_s=left_s, told_to_stop=stop)
        return {path.name for path in run.iterdir()} & {"film.gif", "film.mp4", "report.html"}, caplog.messages

    return make


def frames(run):
    with Image.open(run / "film.gif") as film:
        assert isinstance(film, GifImageFile)
        return film.n_frames


def test_with_all_the_time_there_are_films_and_a_page(made, make_run, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: pip install kit[video]")
    run = make_run(tmp_path / "run", ticks=4)
    assert made(run) == ({"film.gif", "film.mp4", "report.html"}, [])
    assert frames(run) == 5


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("film_s", "expected"), [(4.3, 6), (0.9, None)])
def test_the_film_is_as_long_as_there_is_time_for(made, make_run, tmp_path, monkeypatch, film_s, expected):
    monkeypatch.setattr(films, "has_encoder", lambda: True)
    run = make_run(tmp_path / "run", ticks=12)
    page_s = PAGE_S + 13 * 1.5 * 0.1
    files, said = made(run, left_s=SPARE_S + page_s + film_s)
    assert "report.html" in files
    if expected is None:  # a frame in both films takes 1.5 × (0.1 + 0.35) s
        assert "no time left for the film" in said[0]
    else:
        assert frames(run) == expected


@pytest.mark.usefixtures("slow")
def test_without_time_nothing_is_begun(made, make_run, tmp_path):
    files, said = made(make_run(tmp_path / "run", ticks=4), left_s=2.0)
    assert files == set()
    assert said == [f"no time left for the film and the page: `kit report {tmp_path / 'run'}` makes them"]


def test_a_signal_ends_it_and_leaves_nothing_half_done(made, make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    asked = iter([False, False, True, True])
    assert made(run, stop=lambda: next(asked))[0] == set()
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_nothing_that_goes_wrong_makes_the_run_fail(made, make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    (run / "run.json").write_text("{")
    files, said = made(run)
    assert "report.html" not in files
    assert "damaged" in said[0]
    assert "kit report" in said[0]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("frames", "filmed", "shown"), [(80, 80, 80), (900, 300, 120)])
def test_what_is_needed_is_what_a_whole_film_and_page_get(monkeypatch, frames, filmed, shown):
    monkeypatch.setattr(films, "has_encoder", lambda: True)
    each = 1.5 * 0.1  # a frame, and the margin
    expected = PAGE_S + shown * each + filmed * each * 4.5
    assert films.needed_seconds((526, 526), frames=frames) == pytest.approx(expected)


def gif_frames(path):
    with Image.open(path) as gif:
        return [np.asarray(frame.convert("RGB"), np.int16) for frame in ImageSequence.Iterator(gif)]


def mp4_frames(path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install kit[video]")
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24").astype(np.int16) for frame in video.decode(video=0)]


def test_both_films_have_a_frame_a_grid_and_end_elsewhere_than_they_began(make_run, tmp_path):
    made = film(make_run(tmp_path / "run", ticks=6))
    readers = [(made.gif, gif_frames)] + [(made.mp4, mp4_frames)] * bool(made.mp4)
    for path, frames_of in readers:
        frames = frames_of(path)
        assert len(frames) == made.frames == 7
        assert np.abs(frames[0] - frames[-1]).mean() > 20


def test_the_frames_are_the_grids_in_the_order_of_training(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=12)
    frames = gif_frames(film(run).gif)
    for frame, grid in zip(frames, grids(run), strict=True):
        with Image.open(grid.path) as picture:
            distances = [np.abs(other - np.asarray(picture.convert("RGB"))).mean() for other in frames]
        assert np.abs(frame - np.asarray(picture.convert("RGB"))).mean() == min(distances)


def test_mp4_is_written_where_there_is_an_encoder_and_only_there(make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", ticks=2)
    assert (film(run).mp4 is not None) == (importlib.util.find_spec("av") is not None)
    (run / "film.mp4").unlink(missing_ok=True)
    monkeypatch.setattr(films, "has_encoder", lambda: False)
    assert film(run).mp4 is None
    assert not (run / "film.mp4").exists()


def test_a_long_run_has_no_longer_film(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=310, size=2)
    told = []
    made = film(run, progress=lambda done, total: told.append((done, total)))
    assert made.frames == len(gif_frames(made.gif)) == FRAMES
    assert told == [(i, FRAMES) for i in range(1, FRAMES + 1)]


def test_odd_sides_fit_into_the_mp4s_colour(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=2, size=9)
    for grid in grids(run):
        Image.open(grid.path).crop((0, 0, 31, 33)).save(grid.path)
    made = film(run)
    if made.mp4:
        assert mp4_frames(made.mp4)[0].shape[:2] in {(32, 30), (32, 32)}


def test_damaged_and_foreign_grids_are_left_out(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    found = grids(run)
    found[1].path.write_bytes(b"no picture")
    found[2].path.write_bytes(found[2].path.read_bytes()[:200])
    Image.new("RGB", (5, 5)).save(found[0].path)
    Image.new("RGB", (5, 5)).save(run / "samples" / "notes.png")
    assert film(run).frames == 2


@given(count=st.integers(0, 2000), most=st.integers(1, 400))
def test_evenly_keeps_both_ends_and_spreads_the_rest(count, most):
    chosen = evenly(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    if count:
        assert chosen[-1] == count - 1
        assert chosen[0] == 0 or most == 1
        gaps = np.diff(chosen)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
