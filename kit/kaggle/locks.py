"""One command at a time in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from kit.core.errors import KitError
from kit.core.files import disk_error


@contextlib.contextmanager
def alone_in(folder: Path, name: str, doing: str) -> Iterator[None]:
    """Holds a lock file in a folder, which is made where it is missing; the system ends it with the process.

    Raises:
        KitError: another command holds it, or the folder cannot be made.
    """
    lock = FileLock(folder / name, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise KitError(f"{folder}: another command is {doing}", "wait until that one is done") from None
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()
