"""`kit pack`: a folder with everything, or none at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit import __version__
from kit.competition import COMPETITIONS
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import read_json, sha256, write_json
from kit.core.source_zip import write_source
from kit.data.grid import make_grid
from kit.generation.pictures import read_pictures
from kit.scoring.score_record import FeaturesRecord, ReferenceRecord, Score
from kit.submission import ledger, table
from kit.submission.ledger import Answer, Receipt
from kit.submission.make import make_submission

MakeRun = Callable[..., Path]
SCORE = Score(
    fid=80.5,
    distance=0.2,
    mifid=81.25,
    epsilon=0.1,
    epsilon_origin="the competition's",
    features=FeaturesRecord(
        name="random", weights="0" * 64, input_size=64, resize="none", mean=(0, 0, 0), std=(1, 1, 1), dtype="float32"
    ),
    reference=ReferenceRecord(name="demo", digest="d" * 64, kind="whole", split="all", count=1200),
    count=12,
    size=64,
    flags=("uncalibrated",),
    seconds=1.5,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "submissions"


def left(root: Path) -> list[str]:
    return sorted(file.name for file in root.iterdir()) if root.exists() else []


@pytest.mark.parametrize("slug", COMPETITIONS)
def test_the_folder_is_complete(make_run: MakeRun, root: Path, slug: str) -> None:
    run = make_run(slug=slug)
    submission = make_submission(run, root=root)
    folder = root / run.name
    assert submission.folder == folder
    assert sorted(file.name for file in folder.iterdir()) == [
        "images.zip", "preview.png", "source.zip", "submission.json",
    ]  # fmt: skip
    record = json.loads((folder / "submission.json").read_text())
    of_run = json.loads((run / "run.json").read_text())
    assert record["version"] == 1
    assert (record["kit"], record["name"], record["competition"]) == (__version__, run.name, slug)
    assert record["run"] == {k: v for k, v in of_run.items() if k not in ("format", "version")}  # nothing is lost
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
    assert ledger.load(folder) == submission


def test_the_preview_shows_the_first_64(make_run: MakeRun, root: Path) -> None:
    run = make_run(count=70)
    make_submission(run, root=root)
    first = np.stack([pixels for _, pixels in read_pictures(run / "images.zip", limit=64)])
    with Image.open(root / run.name / "preview.png") as preview:
        assert np.array_equal(np.asarray(preview), np.asarray(make_grid(first, columns=8)))


@pytest.mark.parametrize("state", ["finished", "failed", "running"])
def test_a_run_that_ended_early_with_pictures_is_packed(make_run: MakeRun, root: Path, state: str) -> None:
    assert make_submission(make_run(state=state), root=root).run.state == state


def test_out_is_where_it_goes(make_run: MakeRun, tmp_path: Path) -> None:
    submission = make_submission(make_run(), out=tmp_path / "elsewhere" / "mine")
    assert submission.name == "mine"
    assert ledger.load(tmp_path / "elsewhere" / "mine") == submission


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
    first = make_submission(run, root=root)
    receipt = Receipt(id="r1", when="2026-01-01T00:00:00+00:00", message="m", kernel=None)
    answer = Answer(ref=7, status="COMPLETE", public=61.5, private=None, error=None)
    dataclasses.replace(first, receipts=[receipt], answer=answer, packed="2026-01-01T00:00:00+00:00").save()
    SCORE.save(run / "score.json")
    again = make_submission(run, root=root)
    assert again.scores == [SCORE.to_json()]
    assert table.row(again).cells()[4:7] == ["80.50", "81.25", "random, uncalibrated"]
    assert (again.receipts, again.answer, again.packed) == ([receipt], answer, "2026-01-01T00:00:00+00:00")


def test_a_score_of_older_pictures_is_left_out_and_said(make_run: MakeRun, root: Path) -> None:
    run = make_run()
    dataclasses.replace(SCORE, archive="ab" * 32).save(run / "score.json")
    made = make_submission(run, root=root)
    assert made.scores == []
    assert made.warnings == ["score.json is of another images.zip and was left out"]


def test_another_submission_is_not_overwritten(make_run: MakeRun, root: Path) -> None:
    make_submission(make_run("one"), out=root / "mine")
    before = (root / "mine" / "submission.json").read_bytes()
    with pytest.raises(KitError, match=r"mine holds another submission already; choose another --out"):
        make_submission(make_run("two", seed=1), out=root / "mine")
    assert (root / "mine" / "submission.json").read_bytes() == before


def test_a_folder_of_something_else_is_not_overwritten(make_run: MakeRun, root: Path) -> None:
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(KitError, match="exists already and is no submission"):
        make_submission(make_run(), out=root / "mine")
    assert left(root / "mine") == ["thesis.tex"]


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
    assert source == ledger.Source(sha256=kept.sha256, tree=kept.tree, commit="c" * 40, dirty=True)
    assert (root / run.name / "source.zip").read_bytes() == (run / "source.zip").read_bytes()


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"commit": "c" * 40, "dirty": False}, "check out cccccccccccc"),
        ({"commit": "c" * 40, "dirty": True}, "train again"),
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
        (lambda run: shutil.rmtree(run), r"run\.json: no such file"),
        (lambda run: (run / "run.json").write_text("{"), r"run\.json: damaged"),
        (lambda run: (run / "run.json").write_text("[]"), r"run\.json: not a kit-run file"),
        (lambda run: (run / "images.zip").unlink(), r"images\.zip: no such file"),
        (_cut, r"images\.zip is not the file that run\.json describes"),
        (_grey, r"images\.zip: .* and 1 more; see `kit check"),
        (_other_pixels, r"images\.zip decodes to other pixels"),
        (lambda run: (run / "source.zip").write_bytes(b"PK"), r"source\.zip: damaged"),
        (lambda run: (run / "score.json").write_text("{"), r"score\.json: damaged"),
        (lambda run: (run / "score.json").write_text("1"), r"score\.json: not a kit-score file"),
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
        ({"version": 1}, "another version of the kit"),
        ({"result": None, "state": "running"}, "no finished images.zip.*running"),
        ({"result": {"count": 12}}, "no field result.file"),
        ({"tree": None}, "tree is None"),
        ({"recipe": {}}, "no field recipe.model"),
        ({"name": "../outside"}, "damaged.*no folder's name"),
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
