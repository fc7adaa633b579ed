"""The whole round of a kernel: push, watch, pull. Each step knows what was done before, and can be repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from kit.core.errors import KitError
from kit.kaggle import watch
from kit.kaggle.client import Client
from kit.kaggle.kernel import Built
from kit.kaggle.push import push as push_once
from kit.kaggle.pushes import Push
from kit.kaggle.pushes import load as load_push
from kit.kaggle.versions import Status
from kit.kaggle.watch import Screen
from kit.submission.ledger import Submission
from kit.submission.pull import Bar, fetch, pull


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
    say: Callable[[str], None],
    watching: Callable[[], AbstractContextManager[Screen]],
    fetching: Bar,
    checking: Bar,
) -> Submission:
    """Pushes a kernel, waits for its end, and makes a submission of its output; goes on where it was left.

    Args:
        client: from `client.connect`.
        built: the kernel.
        again: see `push.push`.
        root: where submissions lie.
        say: is told, in a line, what happens.
        watching: opens what shows the kernel's log.
        fetching: shows bytes here and bytes in all, of the file that is on its way.
        checking: shows pictures checked and pictures in all.

    Raises:
        KitError: any of these does not work out. What a failed kernel left is fetched all the same.
    """
    push = push_once(client, built, again=again, say=say)
    try:
        with watching() as screen:
            push = wait(client, push, hours=built.spec.rules.kernel_hours, screen=screen)
    except KitError:
        push = load_push(push.folder)
        if push.failed:
            with contextlib.suppress(KitError), fetching() as progress:
                say(f"what it left lies in {fetch(client, push, progress=progress)}")
        raise
    return pull(client, push, root=root, fetching=fetching, checking=checking)
