"""`kit sample` from a saved run alone: the set is gone by then."""

from __future__ import annotations

import functools
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from run_tools import result_record, run_record

from kit.core.errors import KitError
from kit.generation import export
from kit.generation.export import RunGenerator, sample_interpolation, sample_pictures, sample_truncations
from kit.generation.generate import generate
from kit.models.registry import MODELS
from kit.training import checkpoint, train_state
from kit.training.device import Device
from kit.training.run_record import CandidateRecord

CPU = Device(torch.device("cpu"), "CPU", torch.float32)
CLASSES = ("Maltese_dog", "pug", "beagle")


def save(folder: Path, model: str) -> Path:
    """A run of 16 px with random weights."""
    recipe = MODELS[model].recipe.override(["width=4", "latent=8"])
    state = train_state.build(recipe, size=16, channels=3, classes=3, seed=0, device=CPU)
    random = torch.Generator().manual_seed(0)
    for weight in state.ema.module.parameters():
        if weight.ndim > 1:  # with the initial weights of training all pictures are nearly grey
            torch.nn.init.kaiming_normal_(weight, generator=random)
    folder.mkdir()
    checkpoint.save(folder / "checkpoint.pt", state, recipe, checkpoint.Shape(16, 3, CLASSES, (6, 3, 1)))
    run_record(model, pictures=0, seed=5).save(folder / "run.json")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {model: RunGenerator.load(save(folder / model, model)) for model in ("cdcgan", "dcgan")}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(export, "FRAMES", 20)


def gif(path):
    with Image.open(path) as opened:
        return [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(opened)]


def tiles(path, columns, side=16, top=0):
    with Image.open(path) as opened:
        sheet = np.asarray(opened, float)[top:]
    step = side + 2
    return [
        [sheet[y : y + side, x * step : x * step + side] for x in range(columns)]
        for y in range(0, sheet.shape[0], step)
    ]


@pytest.mark.parametrize(
    "arguments",
    [{"move_latents": True}, {"move_latents": False, "class_name": "pug", "to_class": "beagle"},
     {"move_latents": True, "class_name": "pug", "to_class": "beagle"}],
)  # fmt: skip
def test_a_video_of_an_interpolation_moves_all_the_time_and_has_no_seam(runs, tmp_path, arguments):
    made = sample_interpolation(runs["cdcgan"], out=tmp_path / "film.gif", count=4, **arguments)
    frames = gif(made)
    assert len(frames) == 20
    assert frames[0].shape == (34, 34, 3)
    steps = [np.abs(b - a).mean() for a, b in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert steps[-1] < 1.2 * max(steps[:-1])  # a seam would be a jump
    assert np.abs(frames[10] - frames[0]).mean() > max(steps)


def test_a_film_begins_with_the_grids_pictures(runs, tmp_path):
    frames = sample_interpolation(runs["dcgan"], out=tmp_path / "frames", count=4, move_latents=True)
    sample_pictures(runs["dcgan"], out=tmp_path / "folder", count=4)
    assert len(list(frames.iterdir())) == 20
    first = tiles(frames / "00000.png", 2)
    singles = [np.asarray(Image.open(tmp_path / "folder" / f"0000{i}.png"), float) for i in range(4)]
    assert np.abs(np.array(first).reshape(4, -1) - np.array(singles).reshape(4, -1)).max() <= 1


def test_an_mp4_is_the_same_film(runs, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install kit[video]")
    sample_interpolation(runs["dcgan"], out=tmp_path / "film.mp4", count=4, move_latents=True)
    with av.open(str(tmp_path / "film.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
    assert len(frames) == 20
    assert np.abs(frames[0] - frames[10]).mean() > 1


def test_without_an_encoder_an_mp4_is_refused_before_anything_is_drawn(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("kit.generation.video.has_encoder", lambda: False)
    with pytest.raises(KitError, match=r"kit\[video\]"):
        sample_interpolation(runs["dcgan"], out=tmp_path / "film.mp4", count=4, move_latents=True)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_from_class_to_class_ends_at_pictures_of_that_class(runs, tmp_path):
    made = sample_interpolation(
        runs["cdcgan"], out=tmp_path / "way.png", count=3, move_latents=False, class_name="pug", to_class="beagle"
    )
    rows = tiles(made, export.STEPS)
    assert len(rows) == 3
    for step, name_of_class in ((0, "pug"), (-1, "beagle")):
        folder = sample_pictures(runs["cdcgan"], out=tmp_path / name_of_class, count=3, class_name=name_of_class)
        for row, name in zip(rows, sorted(folder.iterdir()), strict=True):
            assert np.abs(row[step] - np.asarray(Image.open(name), float)).max() <= 1


def test_a_zip_has_the_classes_in_the_sets_proportions_or_balanced(runs, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        export, "generate", lambda *a, labels, **k: told.append(labels) or generate(*a, labels=labels, **k)
    )
    for how in (None, "balanced"):
        made = sample_pictures(runs["cdcgan"], out=tmp_path / f"{how}.zip", count=20, how=how)
        with zipfile.ZipFile(made) as archive:
            assert len(archive.namelist()) == 20
    assert [np.bincount(labels).tolist() for labels in told] == [[12, 6, 2], [7, 7, 6]]


def test_a_truncation_grid_shows_the_same_latents_with_more_and_more_variety(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TRUNCATIONS", (0.01, 0.5, 1.0, 2.0, float("inf")))
    made = sample_truncations(runs["dcgan"], out=tmp_path / "grid.png", count=3)
    scale = 4  # 16 px would be too narrow for the numbers
    rows = tiles(made, 5, side=16 * scale, top=20)
    free = sample_pictures(runs["dcgan"], out=tmp_path / "free", count=3)
    for row, name in zip(rows, sorted(free.iterdir()), strict=True):
        plain = np.asarray(Image.open(name), float).repeat(scale, 0).repeat(scale, 1)
        distances = [np.abs(tile - plain).mean() for tile in row]
        assert distances[-1] <= 1
        assert distances[0] > distances[3] > distances[-1]
    # Where next to nothing is left of the latents, all pictures are nearly one.
    assert np.abs(rows[0][0] - rows[1][0]).mean() < np.abs(rows[0][4] - rows[1][4]).mean() / 4
    assert (tmp_path / "grid.png").stat().st_size < 100_000


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda run, out: sample_pictures(run, out=out / "x.gif", count=4), r"x\.gif: not a kind of file"),
        (
            lambda run, out: sample_interpolation(run, out=out / "x.zip", count=4, move_latents=True),
            r"x\.zip: not a kind",
        ),
        (lambda run, out: sample_truncations(run, out=out / "x.gif", count=4), r"x\.gif: not a kind of file"),
        (
            lambda run, out: sample_interpolation(run, out=out / "x.gif", count=4, move_latents=False, to_class="pug"),
            "from which class",
        ),
        (
            lambda run, out: sample_pictures(run, out=out / "x.png", count=4, class_name="pug"),
            "dcgan is an unconditional model",
        ),
        (lambda run, out: sample_pictures(run, out=out / "x.png", count=4, how="balanced"), "leave --classes out"),
        (lambda run, out: sample_pictures(run, out=out, count=4), "exists already"),
        (lambda run, out: RunGenerator.load(out), "no such file"),
    ],
)
def test_what_cannot_be_drawn_is_a_line_and_leaves_nothing(runs, tmp_path, call, problem):
    with pytest.raises(KitError, match=problem):
        call(runs["dcgan"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pictures_come_from_the_candidate_that_the_zip_came_from(runs, tmp_path):
    run = shutil.copytree(runs["dcgan"].run, tmp_path / "run")
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    candidate = run / "candidates" / "0000000800.pt"
    candidate.parent.mkdir()
    weights = {name: -value if value.ndim == 4 else value for name, value in content["ema"]["G"].items()}
    checkpoint.write(candidate, {**content, "ema": {"G": weights}})
    entry = CandidateRecord(pictures=800, seconds=9.0, file="candidates/0000000800.pt", score=None)
    run_record(pictures=900, seed=5, result=result_record(800), candidates=[entry]).save(run / "run.json")
    last, best = (
        np.asarray(Image.open(sample_pictures(source, out=tmp_path / name, count=4)), float)
        for source, name in ((runs["dcgan"], "last.png"), (RunGenerator.load(run), "best.png"))
    )
    assert np.abs(last - best).mean() > 1
    checkpoint.write(run / "checkpoint.pt", {**content, "ema": {"G": weights}})
    run_record(pictures=0, seed=5).save(run / "run.json")
    again = np.asarray(Image.open(sample_pictures(RunGenerator.load(run), out=tmp_path / "again.png", count=4)), float)
    assert np.array_equal(best, again)


def test_the_run_is_all_it_takes(runs, tmp_path):
    moved = RunGenerator.load(shutil.copytree(runs["cdcgan"].run, tmp_path / "elsewhere"))
    with pytest.raises(KitError, match="did you mean 'Maltese_dog'"):
        sample_pictures(moved, out=tmp_path / "x.png", count=4, class_name="Maltese_dogs")
    assert sample_pictures(moved, out=tmp_path / "x.png", count=4, class_name="maltese dog").is_file()


def test_only_files_that_the_kit_made_are_replaced(runs, tmp_path):
    """Issue: `kit sample --out photo.png` replaced a photograph."""
    for name, write in (
        ("photo.png", sample_pictures),
        ("photo.zip", sample_pictures),
        ("photo.gif", functools.partial(sample_interpolation, move_latents=True)),
        ("photo.mp4", functools.partial(sample_interpolation, move_latents=True)),
        ("grid.png", sample_truncations),
    ):
        out = tmp_path / name
        out.write_bytes(b"a user's own")
        with pytest.raises(KitError, match="the kit did not make it; choose another name, or add --overwrite"):
            write(runs["dcgan"], out=out, count=4)
        assert out.read_bytes() == b"a user's own"
        write(runs["dcgan"], out=out, count=4, overwrite=True)
        assert write(runs["dcgan"], out=out, count=4) == out
    with zipfile.ZipFile(tmp_path / "photo.zip", "w") as archive:
        archive.writestr("00000.png", b"FFHQ names its photographs as images.zip does")
    with pytest.raises(KitError, match="the kit did not make it"):
        sample_pictures(runs["dcgan"], out=tmp_path / "photo.zip", count=4)
