"""From a kernel to a submission: push, watch, fetch, pack. Each step knows what was done before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from kit.kaggle import watch
from kit.kaggle.client import Client
from kit.kaggle.kernels import Built
from kit.submission.ledger import Submission
from kit.submission.pull import Bar, pull


def run(
    client: Client,
    built: Built,
    *,
    again: bool = False,
    root: Path = Path("submissions"),
    watching: Callable[[], AbstractContextManager[watch.Show]],
    fetching: Bar,
    checking: Bar,
) -> Submission:
    """Pushes a kernel, waits for its end, and makes a submission of its output; goes on where it was left.

    Args:
        client: from `client.connect`.
        built: the kernel.
        again: see `pushes.push`.
        root: where submissions lie.
        watching: opens what shows the kernel's log.
        fetching: shows bytes here and bytes in all, of the file that is on its way.
        checking: shows pictures checked and pictures in all.

    Raises:
        KitError: any of these does not work out. What a failed kernel left is fetched all the same.
    """
    with watching() as show:
        push = watch.run(client, built, again=again, show=show, fetching=fetching)
    return pull(client, push, root=root, fetching=fetching, checking=checking)
