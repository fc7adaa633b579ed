"""Progress of what lasts: one protocol for all of the library; the command line draws it as a bar."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is called with the progress of one piece of work."""

    def __call__(self, done: int, total: int, /) -> None:
        """Reports progress.

        Args:
            done: units of work that are done.
            total: units in all; 0 where it is not known.
        """


def no_progress(done: int, total: int) -> None:
    """Reports nothing: the default everywhere."""
