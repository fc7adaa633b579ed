"""How long to wait for Kaggle, in one place for every call and every download."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to wait for Kaggle. Times are in seconds."""

    connect: float = 10.0  # until a server takes the connection
    read: float = 60.0  # between two pieces of an answer
    tries: int = 4  # of a call; of a download, without a new byte in between
    first_wait: float = 1.0  # after the first failure; it doubles with each
    longest_wait: float = 300.0  # when the server asks for more than this, the call is given up
    first_poll: float = 5.0  # between two looks at something that takes hours; each wait is half as long again
    longest_poll: float = 60.0
    arrival: float = 60.0  # until what was sent shows in what Kaggle lists; before that its absence proves nothing
    outage: float = 1800.0  # of the network, or of Kaggle, while something is watched
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time  # seconds since 1970

    def wait(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))

    def polls(self) -> Iterator[float]:
        """The waits between looks, without end."""
        wait = self.first_poll
        while True:
            yield wait
            wait = min(self.longest_poll, 1.5 * wait)


PATIENCE = RetryPolicy()
