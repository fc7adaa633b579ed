"""`kit pack`: a folder with everything, or none at all; and nothing of the user's is touched."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from submission_tools import LOCAL, RECEIPT, answer

from kit import __version__
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import read_json, sha256, write_json
from kit.core.provenance import SourceRecord, write_source
from kit.data.grid import make_grid
from kit.generation.pictures import read_pictures
from kit.generation.validate import Report, check
from kit.submission import make_submission as making
from kit.submission.make_submission import kernel_from_run, make_submission
from kit.submission.submission_record import load, locked, row

MakeRun = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "submissions"


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_the_folder_is_complete(make_run: MakeRun, root: Path) -> None:
    slug = "gan-getting-started"
    run = make_run(slug=slug)
    submission = make_submission(run, root=root)
    folder = root / run.name
    assert submission.folder == folder
    assert left(folder) == ["images.zip", "preview.png", "source.zip", "submission.json"]
    record = json.loads((folder / "submission.json").read_text())
    of_run = json.loads((run / "run.json").read_text())
    assert (record["format"], record["version"]) == ("kit-submission", 2)
    assert (record["kit"], record["name"], record["competition"]) == (__version__, run.name, slug)
    assert of_run.items() >= record["run"].items()  # recipe, seed, data digest, versions, device, plans, parts
    assert record["images"] == {
        "count": 12,
        "bytes": (run / "images.zip").stat().st_size,
        "sha256": sha256(run / "images.zip"),
        "pixels_sha256": of_run["result"]["pixels_sha256"],
    }
    assert record["source"]["sha256"] == sha256(folder / "source.zip")
    assert record["source"]["tree"] == of_run["tree"] == provenance.source_tree().digest
    assert (record["warnings"], record["scores"], record["receipts"], record["answer"]) == ([], [], [], None)
    assert (folder / "images.zip").read_bytes() == (run / "images.zip").read_bytes()
    assert load(folder) == submission


def test_the_preview_shows_the_first_64(make_run: MakeRun, root: Path) -> None:
    run = make_run(count=70)
    make_submission(run, root=root)
    first = np.stack([pixels for _, pixels in read_pictures(run / "images.zip", limit=64)])
    with Image.open(root / run.name / "preview.png") as preview:
        assert np.array_equal(np.asarray(preview), np.asarray(make_grid(first, columns=8)))


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_run_that_ended_early_with_pictures_is_packed(make_run: MakeRun, root: Path, state: str) -> None:
    assert make_submission(make_run(state=state), root=root).run.state == state


def test_warnings_are_kept(make_run: MakeRun, root: Path) -> None:
    run = make_run(count=1)
    record = read_json(run / "run.json")
    with zipfile.ZipFile(run / "images.zip", "a") as archive:
        archive.writestr("readme.txt", "hello")
    record["result"]["sha256"] = sha256(run / "images.zip")
    write_json(run / "run.json", record)
    submission = make_submission(run, root=root)
    assert submission.warnings == ["warning: readme.txt: does not end in .png or .jpg: the scorer passes over it"]


def test_packing_again_brings_scores_up_to_date_and_keeps_receipts(make_run: MakeRun, root: Path) -> None:
    run = make_run()
    done = answer("COMPLETE", public=61.5)
    first = make_submission(run, root=root)
    first.update(receipts=[RECEIPT], answer=done, packed="2026-01-01T00:00:00+00:00")
    LOCAL.save(run / "score.json")
    again = make_submission(run, root=root)
    assert again.scores == [LOCAL]
    assert row(again).cells()[4:7] == ["61.23", "75.50", "random, uncalibrated"]
    assert (again.receipts, again.answer, again.packed) == ([RECEIPT], done, "2026-01-01T00:00:00+00:00")


@pytest.mark.abuse("B7")
def test_packing_again_leaves_the_users_files(make_run: MakeRun, root: Path) -> None:
    run = make_run()
    folder = make_submission(run, root=root).folder
    (folder / "notes.md").write_text("what I tried")
    (folder / "more").mkdir()
    (folder / "more" / "thesis.tex").write_text("x")
    make_submission(run, root=root)
    assert (folder / "notes.md").read_text() == "what I tried"
    assert (folder / "more" / "thesis.tex").read_text() == "x"


@pytest.mark.abuse("B8")
def test_packing_beside_a_sending_loses_no_receipt(
    make_run: MakeRun, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other command sends it while the pictures are checked."""
    run = make_run()
    folder = make_submission(run, root=root).folder

    def slow_check(path: Path, **options: Any) -> Report:
        with locked(folder):
            load(folder).update(receipts=[RECEIPT])
        return check(path, **options)

    monkeypatch.setattr(making, "check", slow_check)
    assert make_submission(run, root=root).receipts == [RECEIPT]
    assert load(folder).receipts == [RECEIPT]
    with locked(folder), pytest.raises(KitError, match="in use by process"):
        make_submission(run, root=root)


@pytest.mark.abuse("B8")
def test_what_a_killed_pack_left_is_filled_up(make_run: MakeRun, root: Path) -> None:
    folder = root / "dcgan-demo-1"
    folder.mkdir(parents=True)
    for name in (making.MARKER, "images.zip", "source.zip", ".images.zip.77.part", ".preview.png.abc.part"):
        (folder / name).write_bytes(b"half a file")
    assert load(make_submission(make_run(), root=root).folder).images.count == 12
    assert left(folder) == ["images.zip", "preview.png", "source.zip", "submission.json"]


def test_a_score_of_older_pictures_is_left_out_and_said(make_run: MakeRun, root: Path) -> None:
    run = make_run()
    dataclasses.replace(LOCAL, archive="ab" * 32).save(run / "score.json")
    made = make_submission(run, root=root)
    assert made.scores == []
    assert made.warnings == ["score.json is of another images.zip and was left out"]


def test_another_submission_is_not_overwritten(make_run: MakeRun, root: Path) -> None:
    make_submission(make_run("one"), out=root / "mine")
    before = {path.name: path.read_bytes() for path in (root / "mine").iterdir()}
    with pytest.raises(KitError, match=r"mine holds another submission already; choose another --out"):
        make_submission(make_run("two", seed=1), out=root / "mine")
    assert {path.name: path.read_bytes() for path in (root / "mine").iterdir()} == before


@pytest.mark.abuse("B7")
def test_a_folder_of_something_else_is_not_touched(make_run: MakeRun, root: Path) -> None:
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "images.zip").write_text("x")
    with pytest.raises(KitError, match="exists already and is no submission"):
        make_submission(make_run(), out=root / "mine")
    assert (root / "mine" / "images.zip").read_text() == "x"
    (root / "file").write_text("x")
    with pytest.raises(KitError, match="exists already and is no submission"):
        make_submission(make_run(), out=root / "file")


def test_where_links_are_not_known_it_copies(make_run: MakeRun, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    run = make_run()
    make_submission(run, root=root)
    packed = root / run.name / "images.zip"
    assert packed.read_bytes() == (run / "images.zip").read_bytes()
    assert not packed.samefile(run / "images.zip")


def test_a_newer_zip_in_the_run_does_not_reach_into_the_submission(make_run: MakeRun, root: Path) -> None:
    run = make_run()
    submission = make_submission(run, root=root)
    make_run(seed=1)  # the same folder, other pictures
    assert sha256(root / run.name / "images.zip") == submission.images.sha256 != sha256(run / "images.zip")


def test_the_runs_own_source_is_what_counts(
    make_run: MakeRun, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = tmp_path / "then" / "kit"
    then.mkdir(parents=True)
    (then / "__init__.py").write_text("the kit of last week")
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "PACKAGE", then)
        run = make_run(commit="c" * 40, dirty=True)
        kept = write_source(run / "source.zip")
    source = make_submission(run, root=root).source
    assert source == SourceRecord(sha256=kept.sha256, tree=kept.tree, commit="c" * 40, dirty=True)
    assert (root / run.name / "source.zip").read_bytes() == (run / "source.zip").read_bytes()


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"commit": "c" * 40, "dirty": False}, "check out cccccccccccc"),
        ({"commit": None, "dirty": False}, "train again"),
    ],
)
def test_code_that_is_gone(make_run: MakeRun, root: Path, changes: dict[str, object], remedy: str) -> None:
    with pytest.raises(KitError, match=f"the kit has changed since this run.*{remedy}"):
        make_submission(make_run(tree="0" * 64, **changes), root=root)
    assert left(root) == []


def test_a_source_that_is_not_the_runs(make_run: MakeRun, root: Path) -> None:
    run = make_run(tree="0" * 64)
    write_source(run / "source.zip")
    with pytest.raises(KitError, match=r"source\.zip is not the code that run\.json describes"):
        make_submission(run, root=root)
    assert left(root) == []


def _cut(run: Path) -> None:
    path = run / "images.zip"
    path.write_bytes(path.read_bytes()[:-100])


def _grey(run: Path) -> None:
    with zipfile.ZipFile(run / "images.zip", "w") as archive, archive.open("0.png", "w") as file:
        Image.new("L", (64, 64)).save(file, "PNG")
    record = read_json(run / "run.json")
    record["result"]["sha256"] = sha256(run / "images.zip")
    write_json(run / "run.json", record)


def _other_pixels(run: Path) -> None:
    record = read_json(run / "run.json")
    record["result"]["pixels_sha256"] = "0" * 64
    write_json(run / "run.json", record)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda run: (run / "run.json").unlink(), r"run\.json: no such file; name the folder of a run"),
        (lambda run: (run / "run.json").write_text("[]"), r"run\.json: not a kit-run file"),
        (lambda run: (run / "images.zip").unlink(), r"images\.zip: no such file"),
        (_cut, r"images\.zip is not the file that run\.json describes"),
        (_grey, r"images\.zip: .* and 1 more; see `kit check"),
        (_other_pixels, r"images\.zip decodes to other pixels"),
        (lambda run: (run / "source.zip").write_bytes(b"PK"), r"source\.zip: damaged"),
        (lambda run: (run / "score.json").write_text("1"), r"score\.json: "),
    ],
)
def test_a_bad_run_leaves_nothing(make_run: MakeRun, root: Path, harm: Callable[[Path], None], problem: str) -> None:
    run = make_run()
    harm(run)
    with pytest.raises(KitError, match=problem):
        make_submission(run, root=root)
    assert left(root) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"result": None, "state": "running"}, "no finished images.zip.*running"),
        ({"recipe": {}}, "no field recipe.model"),
        ({"name": ".."}, "name is '..', not that of a folder"),
        ({"name": "../outside"}, "name is '../outside', not that of a folder"),
        ({"count": 13}, "12 pictures, and 13 were asked for"),
        ({"competition": "generative-cat-images"}, "unknown competition.*generative-dog-images"),
    ],
)
def test_a_bad_record_leaves_nothing(make_run: MakeRun, root: Path, changes: dict[str, object], problem: str) -> None:
    run = make_run()
    write_json(run / "run.json", read_json(run / "run.json") | changes)
    with pytest.raises(KitError, match=problem):
        make_submission(run, root=root)
    assert left(root) == []


def test_the_kernel_like_a_run(make_run: MakeRun, root: Path) -> None:
    submission = make_submission(make_run(), out=root / "My GAN (1)")
    recipe = submission.run.recipe.override(["width=48", "conditional=true"])
    run = dataclasses.replace(submission.run, recipe=recipe, seed=5)
    spec = kernel_from_run(dataclasses.replace(submission, run=run))
    assert (spec.slug, spec.model, spec.seed, spec.size, spec.budget) == ("my-gan-1", "dcgan", 5, 64, "3m")
    assert set(spec.settings) == {"width=48", "conditional=true"}
    assert spec.crop is None  # the set is not here any more
    own = dataclasses.replace(run, recipe=dataclasses.replace(recipe, source="x = 1"))
    with pytest.raises(KitError, match="was made by a model file of its own"):
        kernel_from_run(dataclasses.replace(submission, run=own))
