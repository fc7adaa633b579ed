from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from kit.core.errors import KitError
from kit.report import pictures
from kit.report.pictures import FRAMES, evenly, film, grids


def gif_frames(path):
    with Image.open(path) as gif:
        return [np.asarray(frame.convert("RGB"), np.int16) for frame in ImageSequence.Iterator(gif)]


def mp4_frames(path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install kit[video]")
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24").astype(np.int16) for frame in video.decode(video=0)]


@pytest.mark.parametrize("ticks", [1, 12])
def test_both_films_have_a_frame_a_grid_and_end_elsewhere_than_they_began(make_run, tmp_path, ticks):
    made = film(make_run(tmp_path / "run", ticks=ticks))
    readers = [(made.gif, gif_frames)] + [(made.mp4, mp4_frames)] * bool(made.mp4)
    for path, frames_of in readers:
        frames = frames_of(path)
        assert len(frames) == made.frames == ticks + 1
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
    monkeypatch.setattr(pictures, "has_encoder", lambda: False)
    assert film(run).mp4 is None
    assert not (run / "film.mp4").exists()


def test_a_long_run_has_no_longer_film(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=700, size=2)
    told = []
    made = film(run, progress=lambda done, total: told.append((done, total)))
    assert made.frames == len(gif_frames(made.gif)) == FRAMES
    assert told == [(i, FRAMES) for i in range(1, FRAMES + 1)]


def test_the_gif_of_many_large_grids_is_reduced(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("kit.generation.video.GIF_PIXELS", 2_000)
    run = make_run(tmp_path / "run", ticks=4)
    frames = gif_frames(film(run).gif)
    assert 1_500 < sum(frame.shape[0] * frame.shape[1] for frame in frames) <= 2_300


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


def test_no_grid_is_said(tmp_path):
    with pytest.raises(KitError, match="no sample grid"):
        film(tmp_path)
    assert list(tmp_path.iterdir()) == []


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
