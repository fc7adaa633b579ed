"""What a kernel left becomes a submission: its own files alone, whole, of this very push, with the code that ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from kaggle_answers import Answer
from kaggle_desk import Run
from kaggle_server import KEY, SIGNATURE, USER, Cut, Hang, KaggleServer, Slow
from kernel_tools import SLUG, build_little, output_of

from kit.core.errors import KitError
from kit.core.provenance import tree_digest
from kit.core.source_zip import read_source
from kit.kaggle import pushes
from kit.kaggle.client import RetryPolicy, connect
from kit.kaggle.kernel_spec import parse_spec
from kit.kaggle.kernels import Built, build
from kit.submission import ledger
from kit.submission.ledger import Submission
from kit.submission.rebuild import rebuild
from kit.submission.round import run

RECIPE = 'model = "dcgan"\nbudget = "1h"\ncount = 12\n'
NAMES = ["checkpoint.pt", "film.gif", "images.zip", "report.html", "run.json", "samples.png", "source.zip"]


def no_bar() -> AbstractContextManager[Callable[[int, int], None]]:
    return nullcontext(lambda done, total: None)


@pytest.fixture
def built(tmp_path: Path, server: KaggleServer) -> Built:
    server.kernels.next_run = Run(leaves=lambda version: output_of(version, tmp_path / "on-kaggle"))
    return build_little(tmp_path)


def run_it(built: Built, policy: RetryPolicy, shown: list[str] | None = None, *, again: bool = False) -> Submission:
    return run(
        connect(policy=policy),
        built,
        again=again,
        root=built.folder.parent.parent / "submissions",
        watching=lambda: nullcontext([].append if shown is None else shown.append),
        fetching=no_bar,
        checking=no_bar,
    )


def output(built: Built) -> Path:
    [push] = pushes.pushes(built.folder, USER)
    return push.output


def test_from_a_recipe_to_a_submission(server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path) -> None:
    submission = run_it(built, clock)
    assert submission.name == "little-dogs-v1"
    assert ledger.load(submission.folder) == submission
    [push] = pushes.pushes(built.folder, USER)
    assert submission.kernel == ledger.Kernel(
        version=f"{USER}/{SLUG}/1",
        receipt=push.receipt.id,
        pushed=push.receipt.when,
        code="little-dogs.py",
        code_sha256=built.digest,
        recipe=RECIPE,
        status="COMPLETE",
    )
    assert (push.status, push.submission) == ("COMPLETE", "little-dogs-v1")
    assert sorted(path.name for path in push.output.iterdir()) == NAMES  # and nothing else that it left
    images = (tmp_path / "on-kaggle" / "images.zip").read_bytes()
    assert (submission.folder / "images.zip").read_bytes() == images
    assert tree_digest(read_source(submission.folder / "source.zip")) == built.source.digest == submission.source.tree
    assert server.calls.count("storage") == 6
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SIGNATURE.encode() not in written


def test_a_second_time_it_is_the_one_that_was_made(
    server: KaggleServer, built: Built, clock: RetryPolicy, said: list[str]
) -> None:
    first = run_it(built, clock)
    seen = len(server.seen)
    said.clear()
    assert run_it(built, clock) == first
    assert server.calls[seen:] == []
    assert "is this very kernel" in said[0]
    again = run_it(built, clock, again=True)
    assert again.name == "little-dogs-v2"


@pytest.mark.parametrize("page", [1, 2, 50])
def test_an_output_in_pages(page: int, server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.kernels.page = page
    assert run_it(built, clock).images.count == 12


def test_a_cut_download_goes_on_where_it_was(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.fail("storage", None, Cut(70_000))
    assert run_it(built, clock).images.count == 12
    assert server.ranges_asked() == [None, None, None, "bytes=65536-", *[None] * 4]


def test_and_in_the_next_command_too(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.fail("storage", None, Cut(70_000), *[Cut(0)] * 6)
    with pytest.raises(KitError, match=r"images\.zip.*run the command again: it goes on from there"):
        run_it(built, clock)
    asked = len(server.ranges_asked())
    assert run_it(built, clock).images.count == 12
    assert server.ranges_asked()[asked:] == [None, "bytes=65536-", *[None] * 4]  # run.json is not asked for again
    assert server.calls.count("SaveKernel") == 1


@pytest.mark.parametrize("call", ["SaveKernel", "GetKernelSessionStatus", "ListKernelSessionOutput", "storage"])
def test_a_server_that_hangs_is_left(call: str, server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.fail_always(call, Hang())
    not_known = call == "SaveKernel"
    with pytest.raises(KitError, match="it is not known" if not_known else "does not answer in time"):
        run_it(built, dataclasses.replace(clock, read=0.3, tries=2, outage=30.0, arrival=1.0))
    server.fail_always(call, None)
    assert run_it(built, clock, again=not_known).images.count == 12  # the same command goes on
    assert server.kernels.newest(SLUG) is server.kernels.versions[SLUG][0]


def test_a_storage_that_stops_sending(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.fail("storage", None, Slow(piece=80_000, pause=2.0))
    assert run_it(built, dataclasses.replace(clock, read=0.4)).images.count == 12


def test_an_address_that_has_expired_is_asked_for_again(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.fail("storage", Answer(403, "Expired"))
    with pytest.raises(KitError, match=r"Kaggle's storage answers 403.*run the command again"):
        run_it(built, clock)
    assert run_it(built, clock).images.count == 12


@pytest.mark.parametrize("state", ["ERROR", "CANCEL_ACKNOWLEDGED"])
def test_what_a_failed_kernel_left_is_kept_and_is_no_submission(
    state: str, server: KaggleServer, built: Built, clock: RetryPolicy, said: list[str]
) -> None:
    server.kernels.next_run = dataclasses.replace(
        server.kernels.next_run, states=["RUNNING", state], log=["Traceback\n", "MemoryError\n"]
    )
    shown: list[str] = []
    with pytest.raises(KitError, match=state):
        run_it(built, clock, shown)
    assert "MemoryError" in shown
    assert (output(built) / "images.zip").is_file()
    assert f"what it left lies in {output(built)}" in said
    assert ledger.all_submissions(built.folder.parent.parent / "submissions").submissions == []
    server.kernels.next_run = dataclasses.replace(server.kernels.next_run, states=["COMPLETE"])
    assert run_it(built, clock).name == "little-dogs-v2"


def test_a_cancelled_kernel_that_left_only_a_part(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    left = server.kernels.next_run.leaves
    server.kernels.next_run = Run(
        states=["RUNNING", "CANCEL_ACKNOWLEDGED"], leaves=lambda version: {"run.json": left(version)["run.json"]}
    )
    with pytest.raises(KitError, match="was cancelled, or ran out of its time: Kaggle says CANCEL_ACKNOWLEDGED"):
        run_it(built, clock)
    assert [path.name for path in output(built).iterdir()] == ["run.json"]


def test_a_kernel_that_left_nothing(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.kernels.next_run = Run(leaves=lambda version: {"notes.txt": b"x"})
    with pytest.raises(KitError, match=r"little-dogs/1 .COMPLETE. left no run\.json and no images\.zip"):
        run_it(built, clock)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": {"receipt": "ffffffffffff"}}, "the output of another push"),
        ({"kernel": None}, "the output of another push"),
        ({"result": {"sha256": "0" * 64}}, r"images\.zip is not the file that run\.json describes"),
        ({"tree": "0" * 64}, r"source\.zip is not the code that run\.json describes"),
        ({"count": 13}, "12 pictures, and 13 were asked for"),
    ],
)
def test_an_output_that_is_not_what_it_should_be(
    changes: dict[str, object], words: str, server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path
) -> None:
    server.kernels.next_run = Run(leaves=lambda version: output_of(version, tmp_path / "on-kaggle", **changes))
    with pytest.raises(KitError, match=words):
        run_it(built, clock)
    assert ledger.all_submissions(tmp_path / "submissions").submissions == []


@pytest.mark.parametrize(
    ("name", "words"), [("run.json", "no JSON"), ("images.zip", "no whole zip"), ("checkpoint.pt", "no whole zip")]
)
def test_a_page_in_place_of_a_file(
    name: str, words: str, server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path
) -> None:
    """A log-in page of the network, say: it does not take the file's name, and the next call has the file."""
    leaves = server.kernels.next_run.leaves
    server.kernels.next_run = Run(leaves=lambda version: leaves(version) | {name: b"<html>"})
    with pytest.raises(KitError, match=rf"{name}: what Kaggle sent is {words}"):
        run_it(built, clock)
    assert not (output(built) / name).exists()
    server.kernels.versions[SLUG][0].files |= {name: leaves(server.kernels.versions[SLUG][0])[name]}
    assert run_it(built, clock).images.count == 12


def test_the_code_of_a_submission_is_written_again(
    server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path
) -> None:
    """With the whole kit: it is the stored one that runs."""
    submission = run_it(build(parse_spec(RECIPE, slug=SLUG), tmp_path / "kernels"), clock)
    verdict, again = rebuild(submission, tmp_path / "again")
    assert verdict.identical, verdict.lines
    assert submission.kernel
    assert again.digest == submission.kernel.code_sha256
    assert again.code.read_bytes() == (tmp_path / "kernels" / SLUG / f"{SLUG}.py").read_bytes()


@pytest.mark.slow
def test_another_recipe_is_another_kernel(
    server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path
) -> None:
    submission = run_it(build(parse_spec(RECIPE, slug=SLUG), tmp_path / "kernels"), clock)
    assert submission.kernel
    other = dataclasses.replace(submission.kernel, recipe=RECIPE.replace("1h", "2h"))
    verdict, _ = rebuild(dataclasses.replace(submission, kernel=other), tmp_path / "again")
    assert not verdict.identical
    assert "kernel   differs" in verdict.lines[1]


def test_the_record_of_a_push_holds_no_secret(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    run_it(built, clock)
    [push] = pushes.pushes(built.folder, USER)
    text = (push.folder / "push.json").read_text()
    assert push.receipt.id in text
    for secret in (KEY, SIGNATURE):
        assert secret not in text
