"""What a kernel left becomes a submission: whole, of this very push, with the code that ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from kaggle_desk import Run
from kaggle_server import KEY, SIGNATURE, USER, KaggleServer
from kernel_tools import SLUG, build_little, output_of

from kit.core.errors import KitError
from kit.core.provenance import read_source, tree_digest
from kit.kaggle import pushes, watch
from kit.kaggle.client import RetryPolicy, connect
from kit.kaggle.kernels import Built
from kit.kaggle.pushes import Push
from kit.submission.make_submission import submission_of_push
from kit.submission.submission_record import KernelVersion, Submission, load, read_all

RECIPE = 'model = "dcgan"\nbudget = "1h"\ncount = 12\n'


def no_bar() -> AbstractContextManager[Callable[[int, int], None]]:
    return nullcontext(lambda done, total: None)


@pytest.fixture
def built(tmp_path: Path, server: KaggleServer) -> Built:
    server.kernels.next_run = Run(leaves=lambda version: output_of(version, tmp_path / "on-kaggle"))
    return build_little(tmp_path)


def run_it(built: Built, policy: RetryPolicy, *, again: bool = False) -> Submission:
    client = connect(policy=policy)
    push = watch.run(client, built, again=again, show=lambda line: None, fetching=no_bar)
    watch.fetch_output(client, push)
    return submission_of_push(push, root=built.folder.parent.parent / "submissions")


def only_push(built: Built) -> Push:
    [push] = pushes.pushes(built.folder, USER)
    return push


def test_from_a_recipe_to_a_submission(server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path) -> None:
    submission = run_it(built, clock)
    assert submission.name == "little-dogs-v1"
    assert load(submission.folder) == submission
    push = only_push(built)
    assert submission.kernel == KernelVersion(
        version=f"{USER}/{SLUG}/1",
        receipt=push.receipt.id,
        pushed=push.receipt.when,
        code="little-dogs.py",
        code_sha256=built.digest,
        recipe=RECIPE,
        status="COMPLETE",
    )
    assert (push.status, push.submission) == ("COMPLETE", "little-dogs-v1")
    images = (tmp_path / "on-kaggle" / "images.zip").read_bytes()
    assert (submission.folder / "images.zip").read_bytes() == images
    assert tree_digest(read_source(submission.folder / "source.zip")) == built.source.digest == submission.source.tree
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (SIGNATURE, KEY):
        assert secret.encode() not in written


def test_what_a_failed_kernel_left_is_no_submission(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.kernels.next_run = dataclasses.replace(server.kernels.next_run, states=["RUNNING", "ERROR"])
    with pytest.raises(KitError, match="ERROR"):
        run_it(built, clock)
    with pytest.raises(KitError, match="Kaggle takes only versions that ran to their end"):
        submission_of_push(only_push(built), root=built.folder.parent.parent / "submissions")
    assert read_all(built.folder.parent.parent / "submissions") == ([], {})
    server.kernels.next_run = dataclasses.replace(server.kernels.next_run, states=["COMPLETE"])
    assert run_it(built, clock).name == "little-dogs-v2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": None}, "the output of another push"),
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
    assert read_all(tmp_path / "submissions") == ([], {})
