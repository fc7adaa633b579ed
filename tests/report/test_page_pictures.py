"""What `kit report` adds from a checkpoint and a set: an interpolation, the classes, the nearest training pictures."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import kit.run
from kit.cli import app
from kit.competition import COMPETITIONS
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.data.grid import make_grid
from kit.data.prepared_set import load
from kit.generation.export import RunGenerator, sample_pictures
from kit.generation.pack import pack
from kit.models import registry
from kit.report import page_pictures
from kit.report.page import write_report
from kit.report.run_data import read


class Silent:
    def on_plan(self, record): ...
    def on_tick(self, tick): ...
    def on_progress(self, stage, done, total): ...


@pytest.fixture(scope="module")
def runs(make_set, tmp_path_factory):
    """Two short runs on a set of two breeds, whose pictures have the competition's size."""
    folder = tmp_path_factory.mktemp("work")
    prepared = make_set(folder / "set", n=16, size=64)

    def run(model):
        recipe = registry.get(model).override(["width=4", "batch=4", "latent=8"])
        job = kit.run.RunConfig(recipe=recipe, data=prepared.path, out=folder / model, images=4, count=8)
        return kit.run.train(job, clock=Stopwatch(), callback=Silent()).path

    return {model: run(model) for model in ("cdcgan", "dcgan")}


def data(run):
    return read(run, now=datetime.now(UTC))


def test_an_interpolation_and_every_class_of_a_conditional_model(runs, tmp_path):
    told = []
    drawn = page_pictures.draw_gallery(runs["cdcgan"], progress=lambda done, total: told.append((done, total)))
    assert len(drawn.interpolation) == page_pictures.STEPS
    assert list(drawn.classes) == ["breed 0", "breed 1"]
    assert told[-1] == (page_pictures.TILES * page_pictures.STEPS + 2 * page_pictures.PER_CLASS,) * 2
    # A class's strip is what `kit sample --class` draws.
    source = RunGenerator.load(runs["cdcgan"])
    sheet = sample_pictures(source, out=tmp_path / "breed", count=page_pictures.PER_CLASS, class_name="breed_1")
    singles = np.stack([np.asarray(Image.open(file)) for file in sorted(sheet.iterdir())])
    expected = np.asarray(make_grid(singles, columns=page_pictures.PER_CLASS), int)
    assert np.abs(np.asarray(drawn.classes["breed 1"], int) - expected).max() <= 1


def test_the_page_of_a_translation_has_no_interpolation(make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=8, size=32, inputs=4, classes=0, competition="gan-getting-started")
    recipe = registry.get("cut").override(["width=2", "batch=2"])
    job = kit.run.RunConfig(recipe=recipe, data=prepared.path, out=tmp_path / "run", images=4)
    made = kit.run.train(job, clock=Stopwatch(), callback=Silent()).path
    assert page_pictures.draw_gallery(made) is None
    done = CliRunner().invoke(app, ["report", str(made)])
    assert done.exit_code == 0, done.exception
    assert "From latent to latent" not in (made / "report.html").read_text(encoding="utf-8")


def test_the_page_has_them_and_a_run_without_a_checkpoint_says_why_not(runs, make_run, tmp_path):
    found = page_pictures.find_nearest(data(runs["dcgan"]))
    assert (found.rows, found.looked_at, found.features) == (8, 8, "random")
    assert found.sheet.size == (64 + 2 * (4 * 66 - 2) + 2 * page_pictures.GAP, 8 * 66 - 2)
    gallery = page_pictures.draw_gallery(runs["dcgan"])
    assert (len(gallery.interpolation), gallery.classes) == (page_pictures.STEPS, {})
    page = write_report(runs["dcgan"], gallery=gallery, nearest=found)
    text = page.read_text(encoding="utf-8")
    assert "From latent to latent and back" in text
    assert "Nearest training pictures" in text
    assert page.stat().st_size < 10_000_000
    with pytest.raises(KitError, match="no such"):
        page_pictures.draw_gallery(make_run(tmp_path / "bare", ticks=1))


def test_a_picture_memorized_is_its_own_neighbour(runs, tmp_path):
    """Training pictures, packed as if they were generated, are found at no distance."""
    run = shutil.copytree(runs["dcgan"], tmp_path / "run")
    prepared = load(Path(data(run).record.data.path))
    stolen = np.asarray(prepared.images[prepared.rows("train")[:8]])
    pack([stolen], run / "images.zip", competition=COMPETITIONS["generative-dog-images"], count=8)
    found = page_pictures.find_nearest(data(run))
    assert found.difference == 0
    assert found.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"result": None}, "no images.zip"),
        ({"data": {"path": "gone"}}, "gone"),
        ({"data": {"digest": "0" * 64}}, "another set"),
    ],
)
def test_without_its_set_there_are_no_neighbours(runs, tmp_path, change, problem):
    run = shutil.copytree(runs["dcgan"], tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    for key, value in change.items():
        record[key] = {**record[key], **value} if isinstance(value, dict) else value
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(KitError, match=problem):
        page_pictures.find_nearest(data(run))
