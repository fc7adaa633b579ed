"""How long to wait for Kaggle, in one place for every call and every download."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for Kaggle. Times are in seconds."""

    connect: float = 10.0  # until a server takes the connection
    read: float = 60.0  # between two pieces of an answer
    tries: int = 4  # of a call; of a download, without a new byte in between
    first_wait: float = 1.0  # after the first failure; it doubles with each
    longest_wait: float = 300.0  # when the server asks for more than this, the call is given up
    sleep: Callable[[float], None] = time.sleep

    def wait(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))


PATIENCE = Patience()
