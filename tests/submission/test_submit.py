"""`kit submit --dry-run`: what would be sent, without a network."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.competition import COMPETITIONS
from kit.core.errors import KitError
from kit.submission.ledger import Submission
from kit.submission.make import make_submission
from kit.submission.submit import dry_run

MakeRun = Callable[..., Path]
every_competition = pytest.mark.parametrize("slug", COMPETITIONS)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a dry run opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def pack_run(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Submission]:
    """Packs a run of 12 pictures for a competition that takes 12, so that nothing has to be large."""

    def make(slug: str, *, takes: int = 12, kernels_only: bool = True) -> Submission:
        rules = COMPETITIONS[slug]
        small = dataclasses.replace(rules, count_min=takes, count_max=takes, kernels_only=kernels_only)
        monkeypatch.setitem(COMPETITIONS, slug, small)
        return make_submission(make_run(slug=slug), root=tmp_path / "submissions")

    return make


@every_competition
def test_it_says_all_that_would_be_sent(pack_run: Callable[..., Submission], slug: str) -> None:
    submission = pack_run(slug)
    plan = dry_run(submission)
    text = "\n".join(plan.lines())
    assert plan.ok
    assert slug in text
    assert str(submission.folder / "images.zip") in text
    assert f"12 pictures, {(submission.folder / 'images.zip').stat().st_size:,} bytes" in text
    assert submission.images.sha256 in text
    tree = submission.run.tree[:12]
    assert plan.message == f"dcgan-demo-1: dcgan, 12,800 pictures seen, seed 0, source {tree}"
    assert plan.message in text
    assert text.endswith("nothing was sent")


def test_an_own_message(pack_run: Callable[..., Submission]) -> None:
    plan = dry_run(pack_run("generative-dog-images"), message="wider")
    assert plan.message == "wider"
    assert any("wider" in line for line in plan.lines())


@pytest.mark.parametrize(
    ("kernels_only", "words", "others"),
    [(True, "dcgan-demo-1 --yes", "uploaded as a file"), (False, "uploaded as a file", "kernel")],
)
def test_the_way_is_the_competitions(
    pack_run: Callable[..., Submission], kernels_only: bool, words: str, others: str
) -> None:
    text = "\n".join(dry_run(pack_run("generative-dog-images", kernels_only=kernels_only)).lines())
    assert words in text
    assert others not in text


@every_competition
def test_a_trial_would_be_rejected(pack_run: Callable[..., Submission], slug: str) -> None:
    plan = dry_run(pack_run(slug, takes=10_000))
    assert not plan.ok
    assert f"error: images.zip: 12 pictures, and {slug} asks for exactly 10,000" in plan.lines()
    assert plan.lines()[-1] == "nothing was sent, and this would be rejected"


def test_a_changed_zip_is_noticed(pack_run: Callable[..., Submission]) -> None:
    submission = pack_run("generative-dog-images")
    file = submission.folder / "images.zip"
    data = file.read_bytes()
    file.unlink()
    with pytest.raises(KitError, match=r"images\.zip: no such file.*kit pack"):
        dry_run(submission)
    file.write_bytes(data + b"\0")
    with pytest.raises(KitError, match=r"images\.zip is not the file that was packed"):
        dry_run(submission)
