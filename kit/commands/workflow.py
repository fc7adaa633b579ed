"""What the commands that talk to Kaggle share: a connection, progress bars, and the way from a kernel to a score."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.status import Status

from kit.core.console import stderr
from kit.core.errors import KitError
from kit.core.streams import echo, safe
from kit.kaggle.kernel_log import TICK

if TYPE_CHECKING:
    from kit.kaggle.client import Client
    from kit.kaggle.kernels import Built
    from kit.kaggle.pushes import Push
    from kit.submission.reproduce import Verdict
    from kit.submission.send import Plan
    from kit.submission.submission_record import Submission

log = logging.getLogger(__name__)

TICK_S = 60.0
"""Where there is no terminal, a tick at most this often."""


class KernelScreen:
    """Shows the lines of a kernel's log on stderr; a `kit.kaggle.kernel_log.Show`."""

    def __init__(self) -> None:
        self._console = stderr()
        self._status: Status | None = None
        self._last_tick = -TICK_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
            self._status = None
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            log.info("the kernel runs on; the same command watches on")

    def __call__(self, line: str) -> None:
        """A line of the kernel's."""
        line = safe(line)
        if not TICK.match(line):
            self._console.print(f"  {line}", markup=False)
        elif self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status("", refresh_per_second=4)
                self._status.start()
            self._status.update(line.replace("[", r"\["))
        elif time.monotonic() - self._last_tick >= TICK_S:
            self._last_tick = time.monotonic()
            self._console.print(f"  {line}", markup=False)


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
        KitError: any of these does not work out.
    """
    from kit.core.console import bar
    from kit.kaggle import watch

    with KernelScreen() as show:
        push = watch.run(client, built, again=again, show=show, fetching=partial(bar, "fetching", size_in_bytes=True))
    submission = _fetched(client, push)
    log.info("%s: made by %s", submission.folder, push.version)
    return submission


def pull(client: Client, kernel: Path) -> Submission:
    """The submission made of what the newest push of a kernel left.

    Raises:
        KitError: there is no push that has ended, or its output is no submission.
    """
    from kit.kaggle import pushes, versions

    push = pushes.newest(kernel, client.user)
    if push.running:
        now = versions.status(client, push.version)
        push = push.update(status=now.name, failure=now.failure)
    return _fetched(client, push)


def _fetched(client: Client, push: Push) -> Submission:
    """The submission of a version that has ended: the one that was made, or its output fetched, checked and packed."""
    from kit.core.console import bar
    from kit.kaggle import watch
    from kit.submission.make_submission import submission_of_push

    if not push.submission:
        with bar("fetching", size_in_bytes=True) as progress:
            watch.fetch_output(client, push, progress=progress)
    with bar("checking", unit="pictures") as progress:
        return submission_of_push(push, progress=progress)


def send(plan: Plan, *, again: bool = False, client: Client | None = None) -> None:
    """Sends what was planned, waits for its score, and prints it.

    Raises:
        KitError: see `kit.submission.send`.
    """
    from kit.core.console import bar
    from kit.submission import send as sending

    client = client or connection()
    with bar("uploading", size_in_bytes=True) as progress:
        submission = sending.send(client, plan, again=again, progress=progress)
    print_scores(sending.wait_for_score(client, submission))


def send_version(client: Client, submission: Submission, *, message: str | None, again: bool = False) -> None:
    """Submits what a kernel made.

    Raises:
        KitError: see `send`.
    """
    from kit.core.console import bar
    from kit.submission.send import make_plan

    with bar("checking", unit="pictures") as progress:
        plan = make_plan(submission, message=message, progress=progress)
    send(plan, again=again, client=client)


def send_kernel_of(submission: Submission, *, message: str | None, again: bool) -> None:
    """Trains a local submission's recipe again in a kernel, and submits that kernel's version.

    Raises:
        KitError: the recipe is none for a kernel, or any step fails.
    """
    from kit.kaggle.kernel_spec import write_spec
    from kit.kaggle.kernels import build
    from kit.submission.make_submission import kernel_from_run

    spec = kernel_from_run(submission)
    path = write_spec(spec)
    log.info("%s: the recipe of %s; Kaggle trains it for %s", path, submission.name, spec.budget)
    client = connection()
    trained = train_on_kaggle(client, build(spec), again=False)
    send_version(client, trained, message=message, again=again)


def refreshed(submissions: Sequence[Submission]) -> list[Submission]:
    """The same submissions with what Kaggle says of them now."""
    from kit.submission.send import refresh

    if not any(submission.sent for submission in submissions):
        return list(submissions)
    return refresh(connection(), submissions)


def rebuild_kernel(submission: Submission, *, run_again: bool, trust: bool) -> Verdict:
    """A kernel submission's code written again and compared; with `run_again` run again, and its pictures compared.

    Raises:
        KitError: the stored kit does not write it, code that is not trusted, or a step fails.
    """
    from kit.kaggle.kernel_spec import KERNELS
    from kit.submission import reproduce

    if not run_again:
        with tempfile.TemporaryDirectory(prefix="kit-kernels-") as folder:
            verdict, built = reproduce.rebuild_kernel(submission, Path(folder), trust=trust)
        if verdict.identical:
            log.info(
                "not run again: that takes up to %s of this account's GPU hours, and --yes does it; a training that "
                "ends by the clock comes to other pictures",
                built.spec.budget,
            )
        return verdict
    client = connection()
    verdict, built = reproduce.rebuild_kernel(submission, KERNELS, trust=trust)
    if not verdict.identical:
        return verdict
    again = train_on_kaggle(client, built, again=True)
    compared = reproduce.compare(submission.run, again.run)
    return reproduce.Verdict(identical=compared.identical, lines=(*verdict.lines, *compared.lines))


def print_scores(submission: Submission) -> None:
    """The result of a submission, on stdout."""
    answer = submission.answer
    if answer is None:
        raise KitError(f"{submission.name}: no score yet", "`kit submissions --refresh` reads it when it is there")
    for board, score in (("public", answer.public), ("private", answer.private)):
        echo(f"{board:8} {'–' if score is None else f'{score:.5f}'}")
