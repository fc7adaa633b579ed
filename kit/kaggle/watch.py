"""Watching a kernel's version from the queue to its end, over hours, through whatever the network does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.kaggle import versions
from kit.kaggle.client import Client
from kit.kaggle.failures import KaggleError
from kit.kaggle.logs import Follower, kept_lines
from kit.kaggle.versions import Status, Version

GRACE_S = 300.0
"""How long after a push Kaggle may not know the version yet (404, or 403 as for somebody else's)."""

QUEUE_S = 6 * 3600.0
"""How long a version may wait for a machine, beside its own time."""

TAIL = 20
"""Lines of a failed kernel's log that are shown."""


_SAID = {
    "QUEUED": "is queued",
    "RUNNING": "is running",
    "COMPLETE": "has come to its end",
    "ERROR": "has failed",
    "CANCEL_REQUESTED": "is being cancelled",
    "CANCEL_ACKNOWLEDGED": "was cancelled",
}
"""Kaggle's states in words."""


class Screen(Protocol):
    """Shows what a kernel does."""

    def said(self, text: str) -> None:
        """Something happened."""

    def logged(self, line: str) -> None:
        """The kernel wrote this; may be called in another thread."""


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
        """Why it is no submission, with the last lines of its log in the kernel's own words."""
        words = f" ({self.status.failure})" if self.status.failure else ""
        what = "was cancelled, or ran out of its time" if self.status.name == "CANCEL_ACKNOWLEDGED" else "failed"
        return KitError(
            f"{version} {what}: Kaggle says {self.status.name}{words}",
            f"read the end of its log above, or all of it at {version.page}; mend the recipe, and push it again",
        )


def watch(
    client: Client, version: Version, *, pushed: float, hours: float, screen: Screen, changed: Callable[[Status], None]
) -> End:
    """Waits until a version has come to its end; shows its log meanwhile.

    Args:
        client: from `client.connect`.
        version: what to watch.
        pushed: when it was pushed, seconds since 1970.
        hours: the longest that it may run.
        screen: shows what happens.
        changed: is told each state that it comes into, to be recorded.

    Raises:
        KitError: Kaggle does not know it, refuses, is out of reach for too long, or the time is up. What was pushed
            goes on all the same, and can be watched again.
    """
    patience = client.patience
    deadline = pushed + QUEUE_S + hours * 3600.0
    follower: Follower | None = None
    before: Status | None = None
    reached = patience.now()
    waits = patience.polls()
    try:
        while True:
            now = patience.now()
            try:
                status: Status | None = versions.status(client, version)
                reached = now
            except KaggleError as error:
                new = error.status in (403, 404) and now - pushed < GRACE_S
                if not new and not (error.passing and now - reached < patience.outage):
                    raise
                screen.said("Kaggle does not show it yet" if new else f"{error.problem}; watching on")
                status = before
            if status is not None and status != before:
                screen.said(_sentence(version, status))
                changed(status)
                before = status
            if status is not None and status.ended:
                break
            if status is not None and status.name == "RUNNING" and follower is None:
                follower = Follower(client, version, screen.logged)
                waits = patience.polls()  # it has just begun: what goes wrong goes wrong soon
            if now > deadline:
                raise KitError(
                    f"{version} has not come to its end in {show_duration(now - pushed)}",
                    f"see {version.page}; `kit kernel run {version.slug}` watches on",
                )
            patience.sleep(next(waits))
        log = _log(client, version, screen)
        if follower is not None:
            follower.close(log)
            follower = None
        else:
            for line in kept_lines(log)[-TAIL:]:
                screen.logged(line)
        return End(status, kept_lines(log))
    finally:
        if follower is not None:
            follower.close()


def _log(client: Client, version: Version, screen: Screen) -> str:
    try:
        return versions.log(client, version)
    except KitError as error:  # it has ended, and how is known: a log that cannot be had changes nothing
        screen.said(f"no log: {error}")
        return ""


def _sentence(version: Version, status: Status) -> str:
    words = f" ({status.failure})" if status.failure else ""
    return f"{version} {_SAID.get(status.name, f'is {status.name}')}{words}"
