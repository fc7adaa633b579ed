"""A submission made again by its own code: identical, or the link at which it differs."""

from __future__ import annotations

import dataclasses
import json
import time
import zipfile

import pytest

import kit.run
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.models.registry import MODELS
from kit.submission import ledger
from kit.submission.make import make_submission
from kit.submission.reproduce import reproduce


class Silent:
    on_plan = on_tick = lambda self, _: None

    def on_progress(self, stage, done, total):
        pass


def quiet(_):
    pass


@pytest.fixture
def made(make_set, tmp_path):
    data = make_set(tmp_path / "set", n=32, size=16).path
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    clock = Stopwatch()
    clock._origin = time.monotonic()
    job = kit.run.RunConfig(recipe=recipe, data=data, out=tmp_path / "run", images=40, count=12, seed=7)
    run = kit.run.train(job, clock=clock, callback=Silent())
    return make_submission(run.path, out=tmp_path / "submissions" / "one")


def test_a_submission_is_made_again_to_the_byte(made, tmp_path):
    verdict = reproduce(made, keep=tmp_path / "again", say=quiet)
    assert verdict.identical
    assert verdict.lines[-1] == "identical"
    assert (tmp_path / "again" / "images.zip").read_bytes() == (made.folder / "images.zip").read_bytes()


def test_the_stored_code_runs_not_the_one_at_hand(made, tmp_path):
    """A stored kit with another loss gives other weights, and the chain says so from there on."""
    path = made.folder / "source.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["kit/training/train_state.py"] = files["kit/training/train_state.py"].replace(
        b'"weights"', b'"other weights"'
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(KitError, match=r"source\.zip: damaged"):
        reproduce(made, say=quiet)

    from kit.core.provenance import tree_digest

    trusted = dataclasses.replace(made, source=dataclasses.replace(made.source, tree=tree_digest(files)))
    verdict = reproduce(trusted, say=quiet)
    assert not verdict.identical
    assert [line.split()[:2] for line in verdict.lines[:5]] == [
        ["data", "identical"],
        ["set", "identical"],
        ["weights", "differs:"],
        ["pixels", "differs:"],
        ["zip", "differs:"],
    ]


def test_another_set_is_the_first_link_that_differs(made, make_set, tmp_path):
    other = make_set(tmp_path / "other", n=24, size=16)
    verdict = reproduce(made, data=other.path, say=quiet)
    assert not verdict.identical
    assert [line.split()[:2] for line in verdict.lines[:2]] == [["data", "identical"], ["set", "differs:"]]
    info = json.loads((other.path / "dataset.json").read_text())
    info["sources"] = [{"file": "other.zip", "bytes": 1, "sha256": "ab" * 32}]
    (other.path / "dataset.json").write_text(json.dumps(info))
    verdict = reproduce(made, data=other.path, say=quiet)
    assert [line.split()[:2] for line in verdict.lines[:2]] == [["data", "differs:"], ["set", "differs:"]]


def test_a_missing_set_is_named(made, tmp_path):
    with pytest.raises(KitError, match="nowhere"):
        reproduce(made, data=tmp_path / "nowhere", say=quiet)


def test_an_existing_folder_is_kept(made, tmp_path):
    with pytest.raises(KitError, match="exists already"):
        reproduce(made, keep=tmp_path, say=quiet)


def test_what_is_read_from_disk_is_enough(made):
    record = json.loads((made.folder / "submission.json").read_text())
    assert record["run"]["result"]["pictures"] == 40
    assert reproduce(ledger.load(made.folder), say=quiet).identical
