"""What the commands that talk to Kaggle share: a connection, bars, and the round from a kernel to a score."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kit.commands.common import say
from kit.core.errors import KitError

if TYPE_CHECKING:
    from kit.kaggle.client import Client
    from kit.kaggle.kernels import Built
    from kit.submission.ledger import Submission
    from kit.submission.pull import Bar
    from kit.submission.reproduce import Verdict
    from kit.submission.submit import Plan


def connection() -> Client:
    """Signs in, as the environment says.

    Raises:
        KitError: no credentials, refused ones, or no network.
    """
    from kit.kaggle import client

    return client.connect()


def train_on_kaggle(client: Client, built: Built, *, again: bool) -> Submission:
    """Pushes a kernel, shows its log until it ends, and makes a submission of what it leaves.

    Raises:
        KitError: see `kit.submission.round.run`.
    """
    from kit.kaggle.screen import KernelScreen
    from kit.submission.round import run

    submission = run(client, built, again=again, watching=KernelScreen, fetching=_fetching(), checking=_checking())
    say(f"{submission.folder}: made by {submission.kernel.version}" if submission.kernel else str(submission.folder))
    return submission


def pulled(client: Client, kernel: Path) -> Submission:
    """The submission made of what the newest push of a kernel left.

    Raises:
        KitError: see `kit.submission.pull`.
    """
    from kit.kaggle import pushes, versions
    from kit.submission.pull import pull

    push = pushes.newest(kernel, client.user)
    if push.running:
        now = versions.status(client, push.version)
        push = push.update(status=now.name, failure=now.failure)
    return pull(client, push, fetching=_fetching(), checking=_checking())


def _fetching() -> Bar:
    from kit.core.console import bar

    return partial(bar, "fetching", size_in_bytes=True)


def _checking() -> Bar:
    from kit.core.console import bar

    return partial(bar, "checking", unit="pictures")


def send(plan: Plan, client: Client | None = None) -> None:
    """Sends what was planned, waits for its score, and prints it.

    Raises:
        KitError: see `kit.submission.send`.
    """
    from kit.core.console import bar
    from kit.submission import send as sending

    client = client or connection()
    with bar("uploading", size_in_bytes=True) as progress:
        submission = sending.send(client, plan, say=say, progress=progress)
    print_scores(sending.follow(client, submission, plan.competition, say=say))


def send_version(client: Client, submission: Submission, *, message: str | None) -> None:
    """Submits what a kernel made.

    Raises:
        KitError: see `send`.
    """
    from kit.core.console import bar
    from kit.submission.submit import dry_run

    with bar("checking", unit="pictures") as progress:
        plan = dry_run(submission, message=message, progress=progress)
    send(plan, client)


def send_kernel_of(submission: Submission, *, message: str | None) -> None:
    """Trains a local submission's recipe again in a kernel, and submits that kernel's version.

    Raises:
        KitError: the recipe is none for a kernel, or any step of the round fails.
    """
    from kit.kaggle.kernel_spec import write_spec
    from kit.kaggle.kernels import build
    from kit.submission.likewise import likewise

    spec = likewise(submission)
    path = write_spec(spec)
    say(f"{path}: the recipe of {submission.name}; Kaggle trains it for {spec.budget}")
    client = connection()
    send_version(client, train_on_kaggle(client, build(spec), again=False), message=message)


def refreshed(submissions: Sequence[Submission]) -> list[Submission]:
    """The same submissions with what Kaggle says of them now."""
    from kit import competition
    from kit.submission.send import refresh

    client: Client | None = None
    found = []
    for submission in submissions:
        if submission.sent:
            client = client or connection()
            submission = refresh(client, submission, competition.get(submission.competition))
        found.append(submission)
    return found


def rebuilt(submission: Submission, *, run_again: bool, trust: bool) -> Verdict:
    """A kernel submission's code written again and compared; with `run_again` run again, and its pictures compared.

    Raises:
        KitError: the stored kit does not write it, a model file that is not trusted, or the round fails.
    """
    from kit.kaggle.kernel_spec import KERNELS
    from kit.submission.rebuild import rebuild
    from kit.submission.reproduce import Verdict, compare

    if not run_again:
        with tempfile.TemporaryDirectory(prefix="kit-kernels-") as folder:
            verdict, built = rebuild(submission, Path(folder), trust=trust)
        if verdict.identical:
            say(
                f"not run again: that takes up to {built.spec.budget} of this account's GPU hours, and --yes does it; "
                "a training that ends by the clock comes to other pictures"
            )
        return verdict
    client = connection()  # before --trust takes the credentials out of this process's environment
    verdict, built = rebuild(submission, KERNELS, trust=trust)
    if not verdict.identical:
        return verdict
    again = train_on_kaggle(client, built, again=True)
    compared = compare(submission.run, again.run)
    return Verdict(identical=compared.identical, lines=(*verdict.lines, *compared.lines))


def print_scores(submission: Submission) -> None:
    """The result of a submission, on stdout."""
    answer = submission.answer
    if answer is None:
        raise KitError(f"{submission.name}: no score yet", "`kit submissions --refresh` reads it when it is there")
    for board, score in (("public", answer.public), ("private", answer.private)):
        typer.echo(f"{board:8} {'–' if score is None else f'{score:.5f}'}")
