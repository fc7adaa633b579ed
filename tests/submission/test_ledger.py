"""The ledger: what is written is read, what is damaged is refused, and the table shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.submission import ledger
from kit.submission.ledger import Answer, Receipt, Submission
from kit.submission.make import make_submission

MakeRun = Callable[..., Path]
LOCAL = {"fid": 61.234, "mifid": 75.5, "features": {"name": "random"}, "flags": ["uncalibrated"]}
RECEIPT = Receipt(id="r1", when="2026-01-01T00:00:00+00:00", message="m", kernel="me/dogs/3")


def answer(status: str, **changes: Any) -> Answer:
    return dataclasses.replace(Answer(ref=7, status=status, public=None, private=None, error=None), **changes)


@pytest.fixture
def submission(make_run: MakeRun, tmp_path: Path) -> Submission:
    return make_submission(make_run(), root=tmp_path / "submissions")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"receipts": [RECEIPT, dataclasses.replace(RECEIPT, id="r2", kernel=None)]},
        {"answer": answer("COMPLETE", public=61.25, private=98.0)},
        {"answer": answer("ERROR", error="Only PNG images should be submitted.")},
        {"scores": [LOCAL], "warnings": ["00001.png: blank, all of one colour"]},
    ],
)
def test_what_is_saved_is_loaded(submission: Submission, changes: dict[str, Any]) -> None:
    changed = dataclasses.replace(submission, **changes)
    changed.save()
    assert ledger.load(submission.folder) == changed


def test_a_whole_number_is_a_score_too(submission: Submission) -> None:
    path = submission.folder / "submission.json"
    done = {"ref": 7, "status": "COMPLETE", "public": 61, "private": None, "error": None}
    write_json(path, read_json(path) | {"answer": done})
    loaded = ledger.load(submission.folder)
    assert loaded.answer is not None
    assert loaded.answer.public == 61


@pytest.mark.parametrize(
    ("receipts", "said", "state"),
    [
        ([], None, "packed"),
        ([RECEIPT], None, "sent"),
        ([RECEIPT], answer("PENDING"), "sent"),
        ([RECEIPT], answer("COMPLETE", public=60.0), "scored"),
        ([RECEIPT], answer("ERROR", error="x"), "rejected"),
    ],
)
def test_states(submission: Submission, receipts: list[Receipt], said: Answer | None, state: str) -> None:
    assert dataclasses.replace(submission, receipts=receipts, answer=said).state == state


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "version 2, and this kit reads version 1"),
        ({"version": None}, "version None"),
        ({"images": None}, "damaged.*images is no object"),
        ({"images": {"count": 1}}, "damaged.*no 'bytes'"),
        ({"images": {"count": "1", "bytes": 1, "sha256": "", "pixels_sha256": ""}}, "damaged.*'count' is '1'"),
        ({"source": {"sha256": "", "tree": "", "commit": 5, "dirty": False}}, "damaged.*'commit' is 5"),
        ({"receipts": [{"id": "r"}]}, "damaged.*no 'when'"),
        ({"receipts": None}, "damaged"),
        ({"answer": {"ref": 1}}, "damaged.*no 'status'"),
        ({"run": []}, "run: content is a list"),
        ({"run": {"name": "x", "recipe": {}}}, "run: no field state"),
        ({"scores": [{"fid": 1.0}]}, "damaged.*a score without features, fid"),
        ({"name": 5}, "damaged.*'name' is 5"),
        ({"extra": 5}, "damaged.*extra"),
    ],
)
def test_a_damaged_record_is_refused(submission: Submission, changes: dict[str, Any], problem: str) -> None:
    path = submission.folder / "submission.json"
    write_json(path, read_json(path) | changes)
    with pytest.raises(KitError, match=rf"submission\.json: .*{problem}"):
        ledger.load(submission.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "\0"])
def test_no_record_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(KitError, match=r"submission\.json: damaged"):
        ledger.load(tmp_path)
    with pytest.raises(KitError, match=r"no such file; give a folder that `kit pack` made"):
        ledger.load(tmp_path / "nowhere")


@pytest.mark.parametrize("key", ["name", "run", "images", "source", "receipts", "answer", "scores"])
def test_a_missing_part_is_named(submission: Submission, key: str) -> None:
    path = submission.folder / "submission.json"
    record = read_json(path)
    del record[key]
    write_json(path, record)
    with pytest.raises(KitError, match=f"damaged.*'{key}'"):
        ledger.load(submission.folder)


def packed_at(make_run: MakeRun, root: Path, name: str, when: str, seed: int) -> Submission:
    made = make_submission(make_run(name, seed=seed), root=root)
    dated = dataclasses.replace(made, packed=when)
    dated.save()
    return dated


def test_the_newest_comes_first_and_a_damaged_one_hides_none(make_run: MakeRun, tmp_path: Path) -> None:
    root = tmp_path / "submissions"
    old = packed_at(make_run, root, "z-old", "2026-01-01T00:00:00+00:00", 1)
    new = packed_at(make_run, root, "a-new", "2026-02-01T00:00:00+00:00", 2)
    (root / "broken").mkdir()
    (root / "broken" / "submission.json").write_text("{")
    (root / "notes.txt").write_text("not a submission")
    found = ledger.all_submissions(root)
    assert found.submissions == [new, old]
    assert ["broken" in str(error) for error in found.damaged] == [True]
    assert ledger.newest(root) == new


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.mkdir()])
def test_nothing_packed_yet(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "submissions")
    assert ledger.all_submissions(tmp_path / "submissions").submissions == []
    with pytest.raises(KitError, match="run `kit pack RUN` first"):
        ledger.newest(tmp_path / "submissions")


def test_find(make_run: MakeRun, tmp_path: Path) -> None:
    root = tmp_path / "submissions"
    run = make_run("one")
    made = make_submission(run, out=root / "mine")
    assert ledger.find(root / "mine", root) == made
    assert ledger.find(Path("mine"), root) == made
    assert ledger.find(run, root) == made
    with pytest.raises(KitError, match=r"has not been packed; run `kit pack .*two` first"):
        ledger.find(make_run("two", seed=1), root)
    with pytest.raises(KitError, match="neither a submission nor a run"):
        ledger.find(Path("three"), root)
