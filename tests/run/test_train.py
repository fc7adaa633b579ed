"""A run: what it leaves behind, and what it refuses to begin."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_helpers import Clock, Even, Silent, steps_take

import kit.run
from kit.competition import COMPETITIONS
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.generation.generate import generate
from kit.generation.validate import check
from kit.models.registry import MODELS, of_task
from kit.run import RunConfig, budget, images_zip, train
from kit.run.ticks import ENDS
from kit.run.trainer import require_fit
from kit.training import checkpoint
from kit.training.device import Device
from kit.training.run_folder import read_run
from kit.training.run_record import ResizeRecord

DOGS = COMPETITIONS["generative-dog-images"]


KINDS = {
    (row.recipe.architecture, row.recipe.loss, row.recipe.penalty): name for name, row in of_task("generation").items()
}
"""A row for each architecture and objective: a new one is trained here by being there."""


@pytest.mark.parametrize("model", KINDS.values())
def test_a_run_leaves_everything_the_contract_names(run_tiny, model):
    run = run_tiny(model=model, images=40)
    assert {p.name for p in run.path.iterdir()} - {"film.mp4"} == {  # the MP4 needs an encoder
        "film.gif",
        "report.html",
        "run.json",
        "progress.jsonl",
        "checkpoint.pt",
        "samples",
        "images.zip",
        "source.zip",
    }
    record = read_run(run.path)
    assert record.state == "finished"
    assert record.pictures == 40
    (part,) = record.parts
    assert (part.start, part.stop) == (0, 40)
    assert record.result.sha256 == sha256(run.path / "images.zip")
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    generator, recipe, _, pictures = checkpoint.load_generator(run.path / "checkpoint.pt")
    assert record.result.weights_sha256 == checkpoint.weights_digest(generator)
    assert (recipe.model, pictures) == (model, 40)
    lines = [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]
    assert lines[-1]["pictures"] == 40
    grids = sorted((run.path / "samples").iterdir())
    assert [int(grid.stem) for grid in grids] == [0, 40]
    assert Image.open(grids[-1]).size == (8 * 18 - 2, 8 * 18 - 2)


def test_two_runs_of_one_recipe_are_the_same_to_the_byte(run_tiny):
    first, second, other = (
        run_tiny(images=40, name="a"),
        run_tiny(images=40, name="b"),
        run_tiny(images=40, name="c", seed=1),
    )
    assert (first.path / "images.zip").read_bytes() == (second.path / "images.zip").read_bytes()
    assert first.record.result.sha256 != other.record.result.sha256


@pytest.mark.parametrize("model", ["r3gan", "cgan"])
def test_every_grid_shows_the_same_latents_and_classes(run_tiny, monkeypatch, model):
    monkeypatch.setattr(budget, "tick_seconds", lambda budget_s: 0.0)

    def grids(name, *settings):
        run = run_tiny(model=model, images=32, name=name, settings=["standing_batches=1", *settings])
        found = [path.read_bytes() for path in sorted((run.path / "samples").iterdir())]
        assert len(found) == 5, "one before the first step, and one after each"
        return found

    # Without steps the generator stays what it is, so the same latents give the same bytes.
    assert len(set(grids("still", "lr_g=0"))) == 1
    assert len(set(grids("moving"))) == 5


def test_images_are_rounded_up_to_whole_steps(run_tiny):
    assert run_tiny(images=41).record.pictures == 48


def test_no_pictures_gives_the_untrained_generator(run_tiny):
    run = run_tiny(images=0)
    assert run.record.pictures == 0
    assert run.record.result.count == 20
    assert (run.path / "progress.jsonl").exists() is False


@pytest.mark.parametrize(("start_s", "step_s", "picture_s"), [(20.0, 1.0, 0.02), (2.0, 0.5, 0.5)])
def test_a_budget_covers_the_whole_process(run_tiny, monkeypatch, start_s, step_s, picture_s):
    """On machines of which it is given how long they take to start, for a step, and for a picture of the zip."""
    clock = Even()
    clock.passes(start_s)
    sample = generate

    def generated(*arguments, **options):
        for batch in sample(*arguments, **options):
            if options["count"] == 20:  # not a grid
                clock.passes(picture_s * len(batch))
            yield batch

    steps_take(monkeypatch, clock, step_s)
    monkeypatch.setattr(images_zip, "generate", generated)
    run = run_tiny(budget_s=90.0, clock=clock)
    assert clock.seconds() < 90
    assert run.record.why == ENDS[1]
    assert run.record.result.pictures == run.record.pictures > 0  # what was kept back was enough for the last
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    speeds = [json.loads(line)["pictures_per_s"] for line in (run.path / "progress.jsonl").read_text().splitlines()]
    assert min(speeds) > 0.5 * max(speeds)  # what interim zips and measuring took is not told as slow training


def test_a_budget_too_small_leaves_nothing_behind(run_tiny, tmp_path):
    with pytest.raises(KitError, match="too small to generate and pack 20 pictures"):
        run_tiny(budget_s=1.0)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_exists_is_left_alone(run_tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    with pytest.raises(KitError, match=r"run exists already"):
        run_tiny(images=8)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep me"


@pytest.fixture
def break_steps(monkeypatch):
    """Makes the loss of D a NaN in those steps, counted over the whole process, for which `broken` is true."""
    from kit.training import losses

    def begin(broken):
        steps = []
        loss = losses.LOSSES["non-saturating"]

        def d_loss(*logits):
            steps.append(0)
            return loss.d_loss(*logits) * (torch.nan if broken(len(steps)) else 1)

        monkeypatch.setitem(losses.LOSSES, "non-saturating", loss._replace(d_loss=d_loss))

    return begin


def test_divergence_goes_back_a_few_times_and_ends_with_the_last_good_generator(run_tiny, break_steps):
    break_steps(lambda step: step > 2)
    run = run_tiny(images=40)
    assert "diverged" in run.record.why
    assert run.record.state == "stopped"
    assert [back.lr_scale for back in run.record.rollbacks] == [0.5, 0.25, 0.125]
    assert run.record.result.pictures == 0  # the only whole state was that of the start
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok


def test_a_run_that_diverged_once_goes_on_with_smaller_steps_and_can_be_replayed(
    run_tiny, break_steps, tmp_path, caplog
):
    break_steps(lambda step: step == 3)
    callback = Silent()
    run = run_tiny(images=40, callback=callback)
    assert (run.record.state, run.record.pictures) == ("finished", 40)
    (back,) = run.record.rollbacks
    assert (back.resumed_at, back.lr_scale) == (0, 0.5)
    (said,) = [text for text in caplog.messages if "back to" in text]
    lines = [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]
    assert lines[0]["alarms"][0] == said
    break_steps(lambda step: False)
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result == run.record.result
    usual = MODELS["dcgan"].recipe
    halved = [f"lr_g={usual.lr_g / 2}", f"lr_d={usual.lr_d / 2}"]
    plain = run_tiny(images=40, settings=halved, name="plain")
    assert plain.record.result.sha256 == run.record.result.sha256  # it was half the steps, from the start


def test_weights_spoiled_by_the_last_step_of_a_tick_are_never_saved(run_tiny, monkeypatch):
    from kit.training import loop

    optimizer_step, steps = loop.optimizer_step, []

    def spoil(state, player, *rest):
        norm = optimizer_step(state, player, *rest)
        steps.append(0)
        if len(steps) == 10:  # G's step of the fifth and last iteration
            state.weights(player)[0].data.fill_(torch.inf)
        return norm

    monkeypatch.setattr(loop, "optimizer_step", spoil)
    run = run_tiny(images=40)
    assert [back.reached for back in run.record.rollbacks] == [40]
    assert run.record.state == "finished"


def test_pictures_that_become_all_alike_are_a_reason_to_go_back(run_tiny, monkeypatch):
    ticks = []

    def fall(pictures):
        ticks.append(0)
        return 60.0 if len(ticks) in (1, 2) else 0.5 if len(ticks) == 3 else 60.0

    from kit.run import budget
    from kit.training import health

    monkeypatch.setattr(budget, "tick_seconds", lambda _: 0.0)  # a tick a step
    monkeypatch.setattr(health, "diversity", fall)
    run = run_tiny(images=40)
    (back,) = run.record.rollbacks
    assert "all alike" in back.why
    assert run.record.pictures == 40


def test_the_source_in_the_run_is_the_code_that_ran(run_tiny):
    run = run_tiny(images=0)
    with zipfile.ZipFile(run.path / "source.zip") as archive:
        assert archive.read("kit/run/__init__.py") == Path(kit.run.__file__).read_bytes()


@pytest.mark.parametrize("slug", COMPETITIONS)
def test_each_competition_gets_pictures_of_its_kind(make_set, tmp_path, slug):
    rules = COMPETITIONS[slug]
    made = make_set(tmp_path / "set", n=16, size=16, competition=slug)
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    job = kit.run.RunConfig(recipe=recipe, data=made.path, out=tmp_path / "run", images=8, count=3)
    run = kit.run.train(job, clock=Clock(), callback=Silent())
    with zipfile.ZipFile(run.path / "images.zip") as archive:
        for name in archive.namelist():
            with archive.open(name) as entry, Image.open(entry) as picture:
                assert (picture.format, picture.size, picture.mode) == (rules.format, (rules.size,) * 2, rules.mode)


def test_a_grey_set_gives_the_pictures_the_competition_asks_for(make_set, tmp_path):
    made = make_set(tmp_path / "set", n=16, size=28, channels=1)
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    job = kit.run.RunConfig(recipe=recipe, data=made.path, out=tmp_path / "run", images=8, count=3)
    run = kit.run.train(job, clock=Clock(), callback=Silent())
    assert check(run.path / "images.zip", competition=DOGS, count=3).ok
    assert run.record.result.resize == ResizeRecord(source=28, target=64, filter="pillow-lanczos")


def test_digits_are_not_mirrored_and_dogs_are(make_set, tmp_path):
    """A set that says its pictures have a right and a left trains as if the recipe said `flip=no`."""
    results = {}
    for name, mirror, setting in (("dogs", True, "yes"), ("digits", False, "yes"), ("plain", True, "no")):
        made = make_set(tmp_path / name, n=16, size=16)
        info = json.loads((made.path / "dataset.json").read_text()) | {"mirror": mirror}
        (made.path / "dataset.json").write_text(json.dumps(info))
        recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8", f"flip={setting}"])
        job = kit.run.RunConfig(recipe=recipe, data=made.path, out=tmp_path / f"run-{name}", images=32, count=3)
        results[name] = kit.run.train(job, clock=Clock(), callback=Silent()).record.result.sha256
    assert results["digits"] == results["plain"] != results["dogs"]


@pytest.mark.parametrize("setting", ["truncation=0.5", "standing_batches=2"])
def test_a_setting_of_sampling_changes_the_pictures_but_not_the_weights(run_tiny, setting):
    plain, changed = run_tiny(images=16, name="plain"), run_tiny(images=16, name="changed", settings=[setting])
    assert changed.record.result.weights_sha256 == plain.record.result.weights_sha256
    assert changed.record.result.pixels_sha256 != plain.record.result.pixels_sha256


def test_deterministic_training_gives_the_bytes_that_a_cpu_gives_anyway(run_tiny):
    plain, strict = run_tiny(images=16, name="plain"), run_tiny(images=16, name="strict", deterministic=True)
    assert strict.record.device.deterministic is True
    assert strict.record.result.sha256 == plain.record.result.sha256


@pytest.mark.parametrize("model", of_task("translation"))
def test_a_translation_ends_with_a_zip_named_as_its_inputs(model, make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=16, size=32, inputs=10, classes=0, competition="gan-getting-started")
    recipe = MODELS[model].recipe.override(["width=4", "batch=4"])
    config = RunConfig(recipe=recipe, data=prepared.path, out=tmp_path / "run", images=8)
    run = train(config, clock=Clock(), callback=Silent())
    with zipfile.ZipFile(run.path / "images.zip") as archive:
        assert archive.namelist() == [f"{name:04}.jpg" for name in range(10)]
    assert check(run.path / "images.zip", competition=COMPETITIONS["gan-getting-started"], count=10).ok
    again = train(dataclasses.replace(config, out=tmp_path / "again"), clock=Clock(), callback=Silent())
    assert again.record.result == run.record.result
    # Four pairs a row: of ten inputs, and the 16 of cyclegan's way back
    with Image.open(run.path / "samples" / "0000000008.png") as grid:
        assert round(8 * grid.height / grid.width) == (7 if model == "cyclegan" else 3)


@pytest.mark.parametrize(("model", "inputs", "says"), [("dcgan", 10, "cyclegan, cut"), ("cut", 0, "dcgan")])
def test_a_model_of_another_task_is_refused_with_those_that_fit(model, inputs, says, make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=16, size=32, inputs=inputs, classes=0)
    config = RunConfig(recipe=MODELS[model].recipe, data=prepared.path, out=tmp_path / "run", images=8)
    with pytest.raises(KitError, match=says):
        train(config, clock=Clock(), callback=Silent())


def test_a_translation_cannot_be_deterministic_on_a_gpu(make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=16, size=32, inputs=10, classes=0)
    gpu = Device(torch.device("cuda"), "a GPU", torch.float16, deterministic=True)
    with pytest.raises(KitError, match="--deterministic: torch cannot train cut so on a GPU"):
        require_fit(MODELS["cut"].recipe, prepared, gpu)
    require_fit(MODELS["cut"].recipe, prepared, dataclasses.replace(gpu, deterministic=False))
