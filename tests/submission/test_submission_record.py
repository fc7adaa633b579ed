"""`submission.json`: what is written is read, what is damaged is named, and one bad folder blocks no other."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from submission_tools import LOCAL, RECEIPT, answer

from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.submission import submission_record
from kit.submission.make_submission import make_submission
from kit.submission.send import default_message
from kit.submission.submission_record import (
    COLUMNS,
    Answer,
    Row,
    Submission,
    SubmissionReceipt,
    damaged_row,
    find,
    find_or_pack,
    leaderboard_correlations,
    load,
    locked,
    row,
)

MakeRun = Callable[..., Path]


@pytest.fixture
def submission(make_run: MakeRun, tmp_path: Path) -> Submission:
    return make_submission(make_run(), root=tmp_path / "submissions")


@pytest.mark.parametrize(
    ("receipts", "said", "state"),
    [
        ([], None, "packed"),
        ([RECEIPT], None, "sent"),
        ([RECEIPT], answer("PENDING"), "sent"),
        ([dataclasses.replace(RECEIPT, refused="it never arrived")], None, "packed"),
        ([RECEIPT], answer("COMPLETE", public=60.0), "scored"),
        ([RECEIPT], answer("ERROR", error="x"), "rejected"),
    ],
)
def test_states(submission: Submission, receipts: list[SubmissionReceipt], said: Answer | None, state: str) -> None:
    changed = submission.update(receipts=receipts, answer=said, scores=[LOCAL])
    assert load(submission.folder) == changed
    assert changed.state == state


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 1}, "written by another version of the kit .format 1."),
        ({"format": "thesis"}, "not a kit-submission file"),
        ({"receipts": [{"id": "r"}]}, r"no field receipts\[0\]\.account"),
        ({"name": "../elsewhere"}, "name is '../elsewhere', not that of a folder"),
        ({"extra": 5}, "unknown field extra"),
    ],
)
def test_what_is_wrong_is_named(submission: Submission, changes: dict[str, Any], problem: str) -> None:
    path = submission.folder / "submission.json"
    write_json(path, read_json(path) | changes)
    with pytest.raises(KitError, match=rf"submission\.json: .*{problem}"):
        load(submission.folder)


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1e308, "", "x", "../x", "\x1b]0;x\x07", "\ud800", [], [[]], {}, {"x": 1}, ["x"], ...
)  # fmt: skip
"""What a field is set to; at the last it is left out."""


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*at, key)
        yield from places(item, (*at, key))


def try_load(folder: Path) -> tuple[Submission | None, str]:
    """The submission, or the one error that there may be."""
    try:
        return load(folder), ""
    except KitError as error:
        return None, str(error)


@pytest.mark.abuse("D15")
def test_every_field_may_hold_anything_and_the_worst_is_one_error(submission: Submission) -> None:
    full = submission.update(
        receipts=[RECEIPT], answer=answer("COMPLETE", public=1.0, private=2.0, error="x"), scores=[LOCAL]
    )
    path = full.folder / "submission.json"
    content = read_json(path)
    tried = refused = 0
    for number, at in enumerate(places(content)):
        # Two odd values a field: over the 250 fields each value comes up more than thirty times.
        for odd in (VALUES[number % len(VALUES)], VALUES[(5 * number + 1) % len(VALUES)]):
            damaged = copy.deepcopy(content)
            parent = damaged
            for key in at[:-1]:
                parent = parent[key]
            if odd is ...:
                del parent[at[-1]]
            else:
                parent[at[-1]] = odd
            path.write_bytes(json.dumps(damaged).encode("utf-8", "surrogatepass"))
            tried += 1
            found, problem = try_load(full.folder)
            if found is None:
                refused += 1
                assert "submission.json" in problem
                assert "\n" not in problem
            else:
                assert len(row(found).cells()) == 10
                assert found.state
                assert default_message(found)
                assert not found.kernel or found.kernel.parsed()
    assert tried > 100
    assert refused > tried / 3


@pytest.mark.abuse("D15")
@pytest.mark.parametrize("text", ["", "[]", "\0", "[" * 200_000, '{"version": ' + "9" * 5000 + "}", "\ufeff{}", "NaN"])
def test_no_record_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(KitError, match=r"submission\.json: (damaged|not a kit-submission file)"):
        load(tmp_path)
    with pytest.raises(KitError, match=r"no such file; give a folder that this kit's `kit pack` made"):
        load(tmp_path / "nowhere")


def packed_at(make_run: MakeRun, root: Path, name: str, when: str, seed: int) -> Submission:
    return make_submission(make_run(name, seed=seed), root=root).update(packed=when)


@pytest.mark.abuse("F32")
def test_the_newest_comes_first_and_a_damaged_one_hides_none(
    make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "submissions"
    old = packed_at(make_run, root, "z-old", "2026-01-01T00:00:00+00:00", 1)
    new = packed_at(make_run, root, "a-new", "2026-02-01T00:00:00+00:00", 2)
    (root / "broken").mkdir()
    (root / "broken" / "submission.json").write_text("{")
    (root / "notes.txt").write_text("not a submission")
    found, damaged = submission_record.read_all(root)
    assert found == [new, old]
    assert list(damaged) == [root / "broken"]
    assert submission_record.newest(root) == new
    assert "broken" in caplog.text
    assert find(Path("z-old"), root) == old
    assert find(tmp_path / "runs" / "z-old", root) == old


@pytest.mark.abuse("B8")
def test_what_a_killed_pack_left_is_neither_listed_nor_sent(make_run: MakeRun, tmp_path: Path) -> None:
    root = tmp_path / "submissions"
    made = make_submission(make_run(), root=root)
    made.folder.rename(root / ".dcgan-demo-1.abc.part")
    assert submission_record.read_all(root) == ([], {})
    assert submission_record.newest(root) is None
    for target in (Path(".dcgan-demo-1.abc.part"), root / ".dcgan-demo-1.abc.part"):
        with pytest.raises(KitError, match="neither a submission nor a run"):
            find(target, root)


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.mkdir()])
def test_nothing_packed_yet(tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "submissions")
    monkeypatch.chdir(tmp_path)
    assert submission_record.read_all() == ([], {})
    with pytest.raises(KitError, match="no finished run there; run `kit train` first"):
        find_or_pack(None, pack=lambda run: pytest.fail("there is nothing to pack"))


def test_find(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("submissions")
    run = make_run("one")
    made = make_submission(run, out=root / "mine")
    for target in (root / "mine", Path("mine"), run):
        assert find(target) == made
        assert find_or_pack(target, pack=lambda run: pytest.fail("it is packed")) == made
    assert find_or_pack(None, pack=lambda run: pytest.fail("it is packed")) == made
    two = make_run("two", seed=1)
    with pytest.raises(KitError, match=r"has not been packed; run `kit pack .*two` first"):
        find(two)
    assert find_or_pack(two, pack=make_submission).name == "two"
    with pytest.raises(KitError, match="neither a submission nor a run"):
        find_or_pack(Path("three"), pack=make_submission)


def _hold(folder: Path, ready: Any, done: Any) -> None:
    with locked(folder):
        ready.set()
        done.wait()


@pytest.mark.abuse("B8")
def test_another_command_in_the_same_folder_is_told(submission: Submission) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(submission.folder, ready, done))
    process.start()
    try:
        ready.wait()
        told = f"in use by process {process.pid}; wait until that one is done"
        with pytest.raises(KitError, match=told), locked(submission.folder):
            pytest.fail("two at once")
        done.set()
        process.join()
        with locked(submission.folder):
            assert load(submission.folder) == submission
    finally:
        done.set()
        process.join()


# ---- the table


def test_a_row_of_one_not_scored_yet(submission: Submission) -> None:
    found = row(dataclasses.replace(submission, packed="2026-01-02T03:04:05+00:00"))
    assert found == Row(
        name="dcgan-demo-1", model="dcgan", packed="2026-01-02T03:04:05+00:00", count=12, state="packed"
    )
    assert found.cells() == ["dcgan-demo-1", "dcgan", "2026-01-02 03:04", "12", "–", "–", "–", "–", "–", "packed"]


def test_a_row_with_scores(submission: Submission) -> None:
    done = answer("COMPLETE", public=31.1, private=55.42)
    found = row(dataclasses.replace(submission, scores=[LOCAL], receipts=[RECEIPT], answer=done))
    assert (found.fid, found.mifid, found.public, found.private, found.state) == (61.234, 75.5, 31.1, 55.42, "scored")
    assert found.cells()[4:] == ["61.23", "75.50", "random, uncalibrated", "31.10", "55.42", "scored"]


@pytest.mark.abuse("F32")
def test_a_damaged_one_is_a_line_of_its_own(tmp_path: Path) -> None:
    cells = damaged_row(tmp_path / "broken", KitError("it is damaged")).cells()
    assert cells == ["broken", *["–"] * (len(COLUMNS) - 2), "damaged"]


@pytest.fixture
def scored(submission: Submission) -> Callable[..., Submission]:
    """`scored(fid=…, public=…, mifid=…)`: a submission with these scores."""

    def make(*, fid: float, public: float | None, private: float | None = None, **score: Any) -> Submission:
        local = dataclasses.replace(LOCAL, **{"fid": fid, "mifid": None, **score})
        done = answer("COMPLETE", public=public, private=private)
        return dataclasses.replace(submission, answer=done, scores=[local])

    return make


def spearman(pairs: list[tuple[float, float]]) -> float:
    """ρ = 1 − 6 Σ d² / (n (n² − 1)), which holds where no two values are alike."""
    ranks = [[sorted(column).index(value) for value in column] for column in zip(*pairs, strict=True)]
    n = len(pairs)
    assert all(a < b for column in zip(*pairs, strict=True) for a, b in pairwise(sorted(column)))
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (n * (n**2 - 1))


PAIRS = [(61.0, 70.0), (55.5, 31.1), (80.0, 60.0), (99.0, 200.0), (40.0, 35.0)]


def test_it_is_spearmans(scored: Callable[..., Submission]) -> None:
    [found] = leaderboard_correlations([scored(fid=fid, public=public) for fid, public in PAIRS])
    assert found.rho == pytest.approx(spearman(PAIRS))
    assert (found.measure, found.board, found.count) == ("fid", "public", 5)
    assert found.line() == "rank correlation of local FID (random) with the public score: 0.80 over 5 submissions"


def test_each_measure_and_each_board(scored: Callable[..., Submission]) -> None:
    found = leaderboard_correlations(
        [scored(fid=fid, mifid=-fid, public=board, private=-board) for fid, board in PAIRS]
    )
    rho = spearman(PAIRS)
    assert {(one.measure, one.board): one.rho for one in found} == pytest.approx(
        {("mifid", "public"): -rho, ("mifid", "private"): rho, ("fid", "public"): rho, ("fid", "private"): -rho}
    )


def test_two_are_too_few_and_one_value_is_no_order(scored: Callable[..., Submission]) -> None:
    assert leaderboard_correlations([scored(fid=fid, public=public) for fid, public in PAIRS[:2]]) == []
    assert leaderboard_correlations([scored(fid=61.0, public=public) for _, public in PAIRS]) == []
    assert leaderboard_correlations([scored(fid=fid, public=None) for fid, _ in PAIRS]) == []


def test_scores_that_do_not_compare_are_not_mixed(scored: Callable[..., Submission]) -> None:
    other = {"features": dataclasses.replace(LOCAL.features, name="timm", weights="w" * 64)}
    submissions = [
        scored(fid=fid, public=public, **(other if number >= 2 else {})) for number, (fid, public) in enumerate(PAIRS)
    ]
    [found] = leaderboard_correlations(submissions)
    assert (found.features, found.count) == ("timm", 3)
    assert found.rho == pytest.approx(spearman(PAIRS[2:]))


def test_what_is_not_scored_here_or_there_does_not_count(scored: Callable[..., Submission]) -> None:
    whole = [scored(fid=fid, public=public) for fid, public in PAIRS]
    holes = [dataclasses.replace(whole[0], answer=None), dataclasses.replace(whole[1], scores=[])]
    assert leaderboard_correlations([*whole, *holes]) == leaderboard_correlations(whole)
