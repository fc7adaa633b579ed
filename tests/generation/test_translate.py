"""`kit sample --inputs`: any photographs through a translation's generator."""

from __future__ import annotations

import dataclasses
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from run_tools import run_record

from kit.core.errors import KitError
from kit.generation.export import RunGenerator, sample_interpolation, sample_pictures, sample_truncations
from kit.generation.translate import make_pairs, translate_folder
from kit.models.registry import MODELS
from kit.training import checkpoint, train_state
from kit.training.device import Device


@pytest.fixture(scope="module")
def translation_run(tmp_path_factory):
    """A run of 32 px with random weights."""
    device = Device(torch.device("cpu"), "CPU", torch.float32)
    recipe = MODELS["cut"].recipe.override(["width=4", "blocks=2"])
    state = train_state.build(recipe, size=32, channels=3, classes=0, seed=0, device=device)
    folder = tmp_path_factory.mktemp("runs") / "cut"
    folder.mkdir()
    checkpoint.save(folder / "checkpoint.pt", state, recipe, checkpoint.Shape(32, 3, ()))
    record = dataclasses.replace(run_record("cut", pictures=0, seed=5), competition="gan-getting-started")
    record.save(folder / "run.json")
    return RunGenerator.load(folder)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four photographs of sizes of their own, and something that is none."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("tall.png", (30, 50)), ("wide.jpg", (70, 41)), ("small.png", (9, 9)), ("tiny.png", (2, 1))):
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_of_photographs_keeps_names_and_sizes(translation_run, photographs, tmp_path):
    out = translate_folder(translation_run, inputs=photographs, out=tmp_path / "out")
    sizes = {path.name: Image.open(path).size for path in sorted(out.iterdir())}
    assert sizes == {"small.jpg": (9, 9), "tall.jpg": (30, 50), "tiny.jpg": (2, 1), "wide.jpg": (70, 41)}


def test_a_zip_is_as_the_competition_asks(translation_run, photographs, tmp_path):
    out = translate_folder(translation_run, inputs=photographs, out=tmp_path / "out.zip")
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["small.jpg", "tall.jpg", "tiny.jpg", "wide.jpg"]
        assert Image.open(archive.open("tall.jpg")).size == (256, 256)


def test_a_grid_shows_each_input_beside_its_output(translation_run, photographs, tmp_path):
    out = translate_folder(translation_run, inputs=photographs, out=tmp_path / "out.png", count=2)
    assert Image.open(out).width > Image.open(out).height
    inputs, outputs = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 255, np.uint8)
    row = np.asarray(make_pairs(inputs, outputs).convert("L"))
    assert row.min() == 0
    assert row.max() == 255


def test_a_folder_without_photographs_is_refused(translation_run, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(KitError, match=folder):
            translate_folder(translation_run, inputs=tmp_path / folder, out=tmp_path / "out")


@pytest.mark.parametrize(
    "write", [sample_pictures, partial(sample_interpolation, move_latents=True), sample_truncations]
)
def test_a_translation_has_nothing_to_do_without_inputs(translation_run, tmp_path, write):
    with pytest.raises(KitError, match="cut translates pictures; add --inputs FOLDER"):
        write(translation_run, out=tmp_path / "out.png", count=2)
