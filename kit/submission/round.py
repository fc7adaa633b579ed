"""The whole round of a kernel: push, watch, pull. Each step knows what was done before, and can be repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from kit.errors import KitError
from kit.kaggle import watch
from kit.kaggle.client import Client
from kit.kaggle.kernel import Built
from kit.kaggle.push import push as push_once
from kit.kaggle.pushes import Push
from kit.kaggle.pushes import load as load_push
from kit.kaggle.versions import Status
from kit.kaggle.watch import Screen
from kit.submission.ledger import Submission
from kit.submission.pull import fetch, pull

Progress = Callable[[int, int], None]


def wait(client: Client, push: Push, *, hours: float, screen: Screen) -> Push:
    """Watches a push's version to its end, and records each state that it comes into.

    Args:
        client: from `client.connect`.
        push: what to watch; one that has ended is not asked for again.
        hours: the longest that a kernel of the competition may run.
        screen: shows its log.

    Raises:
        KitError: it failed or was cancelled, or Kaggle is out of reach for too long.
    """
    if push.running:

        def record(status: Status) -> None:
            nonlocal push
            push = push.update(status=status.name, failure=status.failure)

        end = watch.watch(client, push.version, pushed=push.when, hours=hours, screen=screen, changed=record)
        if not end.ok:
            raise end.explain(push.version)
    elif push.failed:
        raise watch.End(Status(push.status, push.failure), []).explain(push.version)
    return push


def run(
    client: Client,
    built: Built,
    *,
    again: bool = False,
    root: Path = Path("submissions"),
    screen: Screen,
    fetching: Progress,
    checking: Progress,
) -> Submission:
    """Pushes a kernel, waits for its end, and makes a submission of its output; goes on where it was left.

    Args:
        client: from `client.connect`.
        built: the kernel.
        again: see `push.push`.
        root: where submissions lie.
        screen: shows what happens.
        fetching: bytes here, bytes in all, of the file that is on its way.
        checking: pictures checked, pictures in all.

    Raises:
        KitError: any of these does not work out. What a failed kernel left is fetched all the same.
    """
    push = push_once(client, built, again=again, say=screen.said)
    try:
        push = wait(client, push, hours=built.spec.rules.kernel_hours, screen=screen)
    except KitError:
        with contextlib.suppress(KitError):
            screen.said(f"what it left lies in {fetch(client, load_push(push.folder), progress=fetching)}")
        raise
    return pull(client, push, root=root, progress=fetching, checking=checking)
