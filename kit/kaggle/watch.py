"""A kernel's version from the queue to its end: its status, its log, and the files that it leaves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.core.lock import folder_lock
from kit.core.progress import Progress, no_progress
from kit.kaggle import versions
from kit.kaggle.client import Client
from kit.kaggle.download import check_zip, download
from kit.kaggle.failures import KaggleError
from kit.kaggle.kernel_log import Follower, Show, kept_lines
from kit.kaggle.kernels import Built
from kit.kaggle.pushes import Push, push
from kit.kaggle.versions import Status, Version

log = logging.getLogger(__name__)

GRACE_S = 300.0
"""How long Kaggle may not know a version yet (404, or 403 as for somebody else's) after watching began."""

QUEUE_S = 6 * 3600.0
"""How long a version may wait for a machine, beside its own time."""

TAIL = 20
"""Lines of a failed kernel's log that are shown."""

NEEDED = ("run.json", "images.zip")
"""Without these there is no submission."""

WANTED = (*NEEDED, "score.json", "report.html", "samples.png", "film.gif", "checkpoint.pt")
"""All that is fetched, in this order, where it is there: what is submitted, what is looked at, and the weights."""

_SAID = {
    "QUEUED": "is queued",
    "RUNNING": "is running",
    "COMPLETE": "has come to its end",
    "ERROR": "has failed",
    "CANCEL_REQUESTED": "is being cancelled",
    "CANCEL_ACKNOWLEDGED": "was cancelled",
}
"""Kaggle's states in words."""


@dataclass(frozen=True)
class End:
    """How a version ended."""

    status: Status
    log: list[str]  # its lines

    @property
    def ok(self) -> bool:
        """Whether it ran to its end: only then Kaggle takes its output as a submission."""
        return self.status.name == "COMPLETE"

    def explain(self, version: Version) -> KitError:
        """Why it is no submission."""
        words = f" ({self.status.failure})" if self.status.failure else ""
        what = "was cancelled, or ran out of its time" if self.status.name == "CANCEL_ACKNOWLEDGED" else "failed"
        return KitError(
            f"{version} {what}: Kaggle says {self.status.name}{words}",
            f"read the end of its log above, or all of it at {version.page}; mend the recipe, and push it again",
        )


def run(client: Client, built: Built, *, again: bool = False, show: Show, fetching: Callable[[], Any]) -> Push:
    """Pushes a kernel, waits for its end, and fetches what it leaves; goes on where it was left.

    Args:
        client: from `client.connect`.
        built: the kernel.
        again: see `pushes.push`.
        show: is given the kernel's log.
        fetching: opens a progress bar, a context manager that gives a `Progress`.

    Returns:
        the push, whose `output` is a run folder; nothing is fetched where a submission was made of it already.

    Raises:
        KitError: any of these does not work out. What a failed kernel left is fetched all the same.
    """
    pushed = push(client, built, again=again)
    try:
        if pushed.running:

            def record(status: Status) -> None:
                nonlocal pushed
                pushed = pushed.update(status=status.name, failure=status.failure)

            end = watch(client, pushed.version, hours=built.spec.hours, show=show, changed=record)
        else:
            end = End(Status(pushed.status, pushed.failure), [])
        if not end.ok:
            raise end.explain(pushed.version)
    except KitError:
        if pushed.failed:
            with contextlib.suppress(KitError), fetching() as progress:
                fetch_output(client, pushed, progress=progress)
                log.info("what it left lies in %s", pushed.output)
        raise
    if pushed.submission is None:
        with fetching() as progress:
            fetch_output(client, pushed, progress=progress)
    return pushed


def watch(client: Client, version: Version, *, hours: float, show: Show, changed: Callable[[Status], None]) -> End:
    """Waits until a version has come to its end; shows its log meanwhile.

    Args:
        client: from `client.connect`.
        version: what to watch.
        hours: the longest that a kernel of the competition may run.
        show: is given the kernel's log.
        changed: is called with each state that it comes into, to record it.

    Raises:
        KitError: Kaggle does not know it, refuses, is out of reach for too long, or the time is up. What was pushed
            goes on all the same, and can be watched again.
    """
    policy = client.policy
    began = reached = policy.now()
    follower: Follower | None = None
    before: Status | None = None
    waits = policy.polls()
    try:
        while True:
            now = policy.now()
            try:
                status: Status | None = versions.status(client, version)
                reached = now
            except KaggleError as error:
                new = error.status in (403, 404) and now - began < GRACE_S
                if not new and not (error.transient and now - reached < policy.outage):
                    raise
                log.info("%s", "Kaggle does not show it yet" if new else f"{error.problem}; watching on")
                status = before
            if status is not None and status != before:
                words = f" ({status.failure})" if status.failure else ""
                log.info("%s %s%s", version, _SAID.get(status.name, f"is {status.name}"), words)
                changed(status)
                before = status
            if status is not None and status.ended:
                break
            if status is not None and status.name == "RUNNING" and follower is None:
                follower = Follower(client, version, show)
                waits = policy.polls()  # it has just begun: what goes wrong goes wrong soon
            if now - began > QUEUE_S + hours * 3600.0:
                raise KitError(
                    f"{version} has not come to its end in {show_duration(now - began)}",
                    f"see {version.page}; `kit kernel run {version.slug}` watches on",
                )
            policy.sleep(next(waits))
        kept = kept_lines(_log(client, version))
        if follower is not None:
            follower.close(kept)
            follower = None
        else:
            for line in kept[-TAIL:]:
                show(line)
        return End(status, kept)
    finally:
        if follower is not None:
            follower.close()


def _log(client: Client, version: Version) -> str:
    try:
        return versions.log(client, version)
    except KitError as error:  # it has ended, and how is known: a log that cannot be had changes nothing
        log.warning("no log: %s", error)
        return ""


# ---- its output


def fetch_output(client: Client, push: Push, *, progress: Progress = no_progress) -> Path:
    """Brings the run's files of a version that has ended into the push's folder; what is there is not fetched again.

    `progress` counts the bytes of the file that is on its way.

    Returns:
        the folder: a run folder where all went well.

    Raises:
        KitError: it has not ended, or left no pictures; Kaggle refuses, a file keeps being cut or is damaged, or the
            disk is full.
    """
    version, folder = push.version, push.output
    if push.running:
        raise KitError(f"{version} has not come to its end", f"wait for it with `kit kernel run {push.slug}`")
    with folder_lock(folder, remedy="another command is fetching it: wait until that one is done"):
        names = {file.name for file in versions.output(client, version)}
        for name in WANTED:
            if name in names and not (folder / name).exists():
                log.info("fetching %s of %s", name, version)
                download(
                    partial(versions.open_output, client, version, name),
                    folder / name,
                    policy=client.policy,
                    progress=progress,
                    verify=_VERIFY.get(Path(name).suffix, lambda path, name: None),
                )
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise KitError(
            f"{version} ({push.status or 'unknown'}) left no {' and no '.join(missing)}",
            f"read its log at {version.page}",
        )
    return folder


def _check_json(path: Path, name: str) -> None:
    try:
        read_json(path)
    except KitError as error:
        raise KitError(f"{name}: what Kaggle sent is no JSON ({error.problem})", "run the command again") from error


_VERIFY: dict[str, Callable[[Path, str], None]] = {".zip": check_zip, ".json": _check_json, ".pt": check_zip}
"""By suffix; what torch saves is a zip too."""
