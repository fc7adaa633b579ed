"""Files that land whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kit.core.errors import DiskFullError, KitError


def disk_error(error: OSError, path: Path) -> KitError:
    """The same failure in the user's terms: a full disk, a folder that may not be written, or the system's words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{path}: the disk is full", "free some space or choose another folder, then run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return KitError(f"{path}: not allowed to write there", "choose another folder")
    return KitError(f"{path}: {error.strerror or error}")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write whose name appears only once every byte is on the disk; on any error nothing is left.

    Args:
        path: where the file goes; missing parent folders are made.

    Raises:
        KitError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp makes it private; an ordinary file is not
        part.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Deletes what `atomic` left in a folder, and in those below it, when its process was killed."""
    for part in folder.rglob(".*.part"):
        if part.is_file():
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill whose name appears only once it is complete; on any error nothing is left.

    A folder that stands there already is replaced as a whole, and is kept should anything go wrong.

    Raises:
        KitError: the disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise disk_error(error, path) from error
    old = part.with_suffix(".old")
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if path.exists():
            path.replace(old)
        part.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.replace(path)
        raise disk_error(error, path) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON that a person can read and compare: indented, in the order given, UTF-8."""
    with atomic(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, *, remedy: str = "") -> Any:
    """Reads a JSON file.

    Raises:
        KitError: it is not there, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise KitError(f"{path}: no such file", remedy) from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers of 5,000 digits, 100,000 brackets
        raise KitError(f"{path}: damaged ({error})", remedy) from error
    except OSError as error:
        raise disk_error(error, path) from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path, size: int) -> None:
    """Takes room on the disk now, in a file to be deleted when the room is needed.

    Args:
        path: the file.
        size: bytes.

    Raises:
        KitError: there is less room than that.
    """
    require_space(path, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)  # macOS and Windows: the length alone, which their file systems may leave empty
    except OSError as error:
        path.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def require_space(path: Path, needed: int) -> None:
    """Makes sure that a disk has room before hours of work rely on it.

    Args:
        path: a file or folder to be written; it need not exist yet.
        needed: bytes.

    Raises:
        KitError: there is less room than that.
    """
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KitError(
            f"{folder}: the disk has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed",
            "free some space or choose another folder",
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
