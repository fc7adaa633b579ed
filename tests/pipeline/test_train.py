"""The conductor: what a run leaves behind, and what it refuses to begin."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from kit import pipeline
from kit.clock import Stopwatch
from kit.competition import COMPETITIONS
from kit.errors import KitError
from kit.files import sha256
from kit.generation.check import check
from kit.models.zoo import ZOO
from kit.training import checkpoint


class Clock(Stopwatch):
    """A process that starts now: the tests' own is older than their budgets."""

    def __init__(self) -> None:
        self._origin = time.monotonic()


class Silent:
    def planned(self, facts):
        pass

    def ticked(self, line):
        pass

    def finishing(self, stage, done, total):
        pass


@pytest.fixture
def train(make_set, tmp_path):
    """Runs the pipeline on a small set; keyword arguments go to the job."""
    data = tmp_path / "set"
    make_set(data, n=32, size=16)

    def run(*, model="dcgan", settings=(), name="run", clock=None, **job):
        recipe = ZOO[model].recipe.override(["width=4", "latent=8", "batch=8", *settings])
        job = pipeline.Job(recipe=recipe, data=data, out=tmp_path / name, **{"count": 20, **job})
        return pipeline.train(job, clock=clock or Clock(), listener=Silent())

    return run


DOGS = COMPETITIONS["generative-dog-images"]


@pytest.mark.parametrize("model", ZOO)
def test_a_run_leaves_everything_the_contract_names(train, model):
    run = train(model=model, images=40)
    assert {p.name for p in run.path.iterdir()} == {
        "run.json",
        "progress.jsonl",
        "checkpoint.pt",
        "samples",
        "images.zip",
        "source.zip",
    }
    record = json.loads((run.path / "run.json").read_text())
    assert record["state"] == "finished"
    assert record["pictures"] == 40
    assert record["parts"] == [{"from": 0, "to": 40}]
    assert record["result"]["sha256"] == sha256(run.path / "images.zip")
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    generator, recipe, _, pictures = checkpoint.load_generator(run.path / "checkpoint.pt")
    assert record["result"]["weights_sha256"] == checkpoint.weights_digest(generator)
    assert (recipe.model, pictures) == (model, 40)
    lines = [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]
    assert lines[-1]["pictures"] == 40
    grids = sorted((run.path / "samples").iterdir())
    assert [int(grid.stem) for grid in grids] == [0, 40]
    assert Image.open(grids[-1]).size == (8 * 18 - 2, 8 * 18 - 2)


def test_two_runs_of_one_recipe_are_the_same_to_the_byte(train):
    first, second, other = train(images=40, name="a"), train(images=40, name="b"), train(images=40, name="c", seed=1)
    assert (first.path / "images.zip").read_bytes() == (second.path / "images.zip").read_bytes()
    assert first.record["result"]["sha256"] != other.record["result"]["sha256"]


def test_images_are_rounded_up_to_whole_steps(train):
    assert train(images=41).record["pictures"] == 48


def test_no_pictures_gives_the_untrained_generator(train):
    run = train(images=0)
    assert run.record["pictures"] == 0
    assert run.record["result"]["count"] == 20
    assert (run.path / "progress.jsonl").exists() is False


def test_a_budget_covers_the_whole_process(train):
    clock = Clock()
    run = train(budget_s=12.0, clock=clock)
    assert clock.seconds() < 12
    assert run.record["plan"]["reserve_s"] > 0
    assert run.record["pictures"] > 0
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok


def test_a_budget_too_small_leaves_nothing_behind(train, tmp_path):
    with pytest.raises(KitError, match="too small to generate and pack 20 pictures"):
        train(budget_s=1.0)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_exists_is_left_alone(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    with pytest.raises(KitError, match=r"run exists already"):
        train(images=8)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep me"


def test_divergence_is_said_and_recorded(train, tmp_path, monkeypatch):
    from kit.training import losses

    broken = losses.Loss(lambda real, fake: real.mean() * torch.nan, lambda fake, real: fake.mean(), "broken")
    monkeypatch.setitem(losses.LOSSES, "non-saturating", broken)
    with pytest.raises(KitError, match="diverged after 8 pictures"):
        train(images=8)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "failed"
    assert "diverged" in record["why"]


def test_the_source_in_the_run_is_the_code_that_ran(train):
    run = train(images=0)
    with zipfile.ZipFile(run.path / "source.zip") as archive:
        assert archive.read("kit/pipeline.py") == Path(pipeline.__file__).read_bytes()


@pytest.mark.parametrize("slug", COMPETITIONS)
def test_each_competition_gets_pictures_of_its_kind(make_set, tmp_path, slug):
    rules = COMPETITIONS[slug]
    made = make_set(tmp_path / "set", n=16, size=16, competition=slug)
    recipe = ZOO["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    job = pipeline.Job(recipe=recipe, data=made.path, out=tmp_path / "run", images=8, count=3)
    run = pipeline.train(job, clock=Clock(), listener=Silent())
    with zipfile.ZipFile(run.path / "images.zip") as archive:
        for name in archive.namelist():
            with archive.open(name) as entry, Image.open(entry) as picture:
                assert (picture.format, picture.size, picture.mode) == (rules.format, (rules.size,) * 2, rules.mode)


def test_a_grey_set_gives_the_pictures_the_competition_asks_for(make_set, tmp_path):
    made = make_set(tmp_path / "set", n=16, size=28, channels=1)
    recipe = ZOO["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    job = pipeline.Job(recipe=recipe, data=made.path, out=tmp_path / "run", images=8, count=3)
    run = pipeline.train(job, clock=Clock(), listener=Silent())
    assert check(run.path / "images.zip", competition=DOGS, count=3).ok
