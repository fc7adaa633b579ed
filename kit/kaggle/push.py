"""Pushing a kernel once: the receipt is written first, and after a doubt Kaggle's own copy is read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.kaggle import pushes, versions
from kit.kaggle.client import Client
from kit.kaggle.failures import KaggleError
from kit.kaggle.kernel import Built, fill
from kit.kaggle.pushes import Push
from kit.kaggle.versions import Pushed

FULL = "session count"
"""In Kaggle's words when as many GPU sessions run as an account may have ("Maximum batch GPU session count of 2 …")."""

FULL_WAIT_S = 12 * 3600.0
"""A session lasts that long at most, so one ends before."""


def push(client: Client, built: Built, *, again: bool = False, say: Callable[[str], None]) -> Push:
    """Pushes a kernel, unless this very one was pushed already; after a crash it finds out what became of the push.

    Args:
        client: from `client.connect`.
        built: what to push.
        again: push it although this very one has come to its end, or another one is still running.
        say: is told, in a line, what happens.

    Returns:
        the push, with its version: the new one, or the one that goes on.

    Raises:
        KitError: Kaggle refuses it, or does not know what it is to read; or it is not clear whether it arrived.
    """
    with _alone_in(built.folder):
        standing = _standing(client, built, again=again, say=say)
        return standing or _send(client, built, say=say)


def read_back(client: Client, open_push: Push, *, say: Callable[[str], None]) -> Push:
    """Finds out whether a push arrived whose answer is not known, and records it.

    Raises:
        KitError: Kaggle cannot be asked.
    """
    patience = client.patience
    while True:
        found = versions.newest(client, open_push.owner, open_push.slug)
        if found is not None and open_push.receipt in found.source:
            if not found.number:
                page = versions.about(open_push.owner, open_push.slug).page
                raise KitError(f"Kaggle has the push of {open_push.slug} and gives it no number", f"see {page}")
            say(f"the push of {_time(open_push.when)} arrived: it is version {found.number}")
            return open_push.update(number=found.number)
        wait = open_push.when + patience.arrival - patience.now()
        if wait <= 0:
            say(f"the push of {_time(open_push.when)} never arrived")
            return open_push.update(refused="it never arrived")
        say(f"looking whether the push of {_time(open_push.when)} arrived; once more in {wait:.0f} s")
        patience.sleep(wait)


def _standing(client: Client, built: Built, *, again: bool, say: Callable[[str], None]) -> Push | None:
    """The earlier push that this one would repeat or get in the way of."""
    for before in pushes.pushes(built.folder):
        push = read_back(client, before, say=say) if before.open else before
        if push.number is None:
            continue  # it came to nothing
        same = push.digest == built.digest
        unfinished = not push.unknown and (push.running if not same else push.unfinished)
        if unfinished and (same or not again):
            differs = "" if same else "; the kernel has been changed since, which --again would push"
            say(f"going on with {push.version}, pushed {_time(push.when)}{differs}")
            return push
        if same and not again and not push.failed and not push.unknown:
            say(f"{push.version} is this very kernel, pushed {_time(push.when)}; --again would run it once more")
            return push
        return None  # only the newest version can be in the way
    return None


def _send(client: Client, built: Built, *, say: Callable[[str], None]) -> Push:
    patience, owner = client.patience, client.user
    receipt = pushes.new_receipt()
    folder = built.folder / pushes.FOLDER / receipt
    push = Push(
        folder=folder,
        receipt=receipt,
        when=patience.now(),
        owner=owner,
        slug=built.slug,
        code=built.code.name,
        digest=built.digest,
    )
    with tempfile.TemporaryDirectory(prefix="kit-push-") as name:
        copy = Path(name)
        fill(built.folder, copy, owner=owner, receipt=receipt)
        folder.mkdir(parents=True)
        shutil.copyfile(copy / push.code, folder / push.code)
        push = push.update()  # from here on it may have been sent
        try:
            push, answer = _until_taken(client, copy, push, say=say)
        except KaggleError as error:
            push = pushes.load(folder)  # with the time of the last try
            if error.doubtful:
                return _doubt(client, push, error, say=say)
            push.update(refused=error.problem)
            if error.status == 409:
                raise KitError(
                    error.problem, f"choose another --slug: {owner} has a kernel of that title already"
                ) from None
            raise
    if answer.error:
        push.update(refused=answer.error)
        raise KitError(f"Kaggle did not take {owner}/{built.slug}: {answer.error}", _next_step(answer.error))
    if answer.version is None:
        push = read_back(client, push.update(unknown=answer.unknown), say=say)
    else:
        push = push.update(number=answer.version, unknown=answer.unknown)
    if answer.unknown:
        raise KitError(
            f"{push.version} was pushed, but Kaggle does not know its input {', '.join(answer.unknown)} and left it "
            "out: it has nothing to train on",
            f"accept the competition's rules, or check the name; stop the version at {push.version.page}, and push "
            "again",
        )
    say(f"pushed {push.version}: {answer.url}")
    return push


def _until_taken(client: Client, copy: Path, push: Push, *, say: Callable[[str], None]) -> tuple[Push, Pushed]:
    """Pushes, and waits as long as the account's GPU sessions are all in use: then Kaggle has made no version."""
    patience = client.patience
    waits, began = patience.polls(), patience.now()
    while True:
        answer = versions.push(client, copy, owner=push.owner, slug=push.slug)
        if FULL not in answer.error.lower() or patience.now() - began > FULL_WAIT_S:
            return push, answer
        wait = 5 * next(waits)
        say(f"Kaggle: {answer.error.rstrip('.')}; trying again in {show_duration(wait)}")
        patience.sleep(wait)
        push = push.update(when=patience.now())


def _doubt(client: Client, push: Push, error: KaggleError, *, say: Callable[[str], None]) -> Push:
    """What became of a push whose answer got lost."""
    say(f"{error.problem}; looking whether the push arrived")
    try:
        push = read_back(client, push, say=say)
    except KaggleError:
        raise KitError(
            f"{error.problem}; it is not known whether the push arrived",
            f"run `kit kernel push {push.slug}` again: it looks first, and pushes only what is not there",
        ) from None
    if push.number is None:
        raise KitError(error.problem, f"nothing was pushed; {error.remedy}")
    return push


_STEPS = (
    (FULL, "stop a session at https://www.kaggle.com/me/code, or wait for one to end, then push again"),
    ("phone", "verify your phone number at https://www.kaggle.com/settings"),
    ("title", "choose another --slug"),
    ("quota", "the GPU hours come back weekly: see https://www.kaggle.com/settings"),
    ("internet", "build the kernel again: its metadata switch the internet off"),
)


def _next_step(words: str) -> str:
    found = (step for part, step in _STEPS if part in words.lower())
    return next(found, "mend what it names, then push again")


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps two commands from pushing the same kernel at once; the system ends it with the process.

    Raises:
        KitError: another command is at it.
    """
    lock = FileLock(folder / ".push.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise KitError(f"{folder}: another command is pushing it", "wait until that one is done") from None
    try:
        yield
    finally:
        lock.release()
