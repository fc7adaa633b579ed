"""Folders that one process at a time may write: taken by exclusive creation, or held by a lock while work lasts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import disk_error


def claim_folder(candidates: Iterable[Path]) -> Path:
    """Makes the first of several folders that does not exist yet; no two processes are given the same one.

    Args:
        candidates: the folders in order, as many as it takes; missing parents are made.

    Returns:
        The new, empty folder.

    Raises:
        KitError: it cannot be made there, or all of them exist.
    """
    path = Path()
    for path in candidates:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise disk_error(error, path) from error
        return path
    raise KitError(f"{path} exists already", "choose another folder, or remove it first")


@contextlib.contextmanager
def folder_lock(folder: Path, *, remedy: str = "wait until it has ended, or stop it") -> Iterator[None]:
    """Holds a folder while the block lasts: a second process that wants it is refused at once.

    The lock is a file beside the folder, `.NAME.lock`, which the system releases when its process ends in any way. The
    folder need not exist, and may be replaced as a whole meanwhile. Where the file system knows no locks, or the place
    is read-only, nothing is held.

    Args:
        folder: to be held.
        remedy: what to do about another process that holds it, for the message.

    Raises:
        KitError: another process holds it; the message names the process.
    """
    folder = folder.absolute()
    file = _lock(folder.parent / f".{folder.name}.lock", folder, remedy)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # while it is held: whoever opened it meanwhile sees that it has gone
                (folder.parent / f".{folder.name}.lock").unlink()
            os.close(file)


def _lock(path: Path, folder: Path, remedy: str) -> int | None:
    """A locked file descriptor; None where locks are not to be had."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            taken = _try_lock(file)
        except OSError:
            os.close(file)
            return None
        if not taken:
            pid = os.pread(file, 20, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
            os.close(file)
            raise KitError(f"{folder}: in use by {f'process {pid}' if pid.isdecimal() else 'another process'}", remedy)
        try:
            same = os.path.samestat(path.stat(), os.fstat(file))
        except OSError:
            same = False
        if same:
            os.truncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            return file
        os.close(file)  # its last holder removed it between the two calls


def _try_lock(file: int) -> bool:
    """Locks a file without waiting; false where another process holds it.

    Raises:
        OSError: there are no locks on this file system.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
