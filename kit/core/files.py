"""Files that land whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import lzma
import os
import re
import secrets
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from kit.core.errors import DiskFullError, KitError

BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, ValueError)
"""What zipfile raises on an archive whose list of entries cannot be read; a name that is no UTF-8 is a ValueError."""

BAD_ENTRY = (*BAD_ZIP, zlib.error, lzma.LZMAError, RuntimeError)
"""What it raises on an entry that is damaged, encrypted or packed in an unknown way."""

log = logging.getLogger(__name__)


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

    A new file gets the permissions that the umask leaves; one that replaces another keeps that one's, so what the user
    has made private stays private.

    Args:
        path: where the file goes; missing parent folders are made.

    Raises:
        KitError: the disk is full, or the folder cannot be written.
    """
    part = _temporary(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        # Private until it is known whether it has to stay so.
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666 if mode is None else 0o600)
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            part.chmod(mode)
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path, names: str) -> None:
    """Deletes what `atomic` left in a folder when its process was killed; files of others stay.

    Args:
        folder: not those below it.
        names: of the files that were being written, as a regular expression.
    """
    parts = re.compile(rf"\.({names})\.[0-9a-f]{{12}}\.part")
    for part in folder.glob(".*.part"):
        if parts.fullmatch(part.name) and part.is_file() and not part.is_symlink():
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, owned: Collection[str] = ()) -> Iterator[Path]:
    """A folder to fill whose name appears only once it is complete; on any error nothing is left.

    A folder that stands there already is replaced as a whole, and is kept should anything go wrong. Between the two
    renames of a replacement the old folder stands beside its place: a power cut there is mended by `recover_folder`,
    which this calls first.

    Args:
        path: the folder; missing parents are made.
        owned: names in a folder to be replaced that may be deleted; any other file of it is moved into the new folder,
            or stays beside it where the new one has a file of that name.

    Raises:
        KitError: the disk is full, or the place cannot be written.
    """
    part, old = _temporary(path, "part"), _temporary(path, "old")
    try:
        recover_folder(path)
        part.mkdir(parents=True)
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        yield part
        if path.exists():
            path.replace(old)
        part.replace(path)
        _sync_folder(path.parent)
        if old.exists():
            _retire(old, path, owned)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(part, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Brings back the folder that was being replaced when the power went, where nothing stands in its place."""
    if path.exists() or not path.parent.is_dir():
        return
    for other in _beside(path, "old"):
        with contextlib.suppress(OSError):  # another process was faster, or the medium is read-only
            other.replace(path)
            return


def clear_leftovers(path: Path, *, owned: Collection[str]) -> None:
    """Finishes replacements of a folder that were cut short, and removes what they left; the caller holds its lock.

    Args:
        path: the folder.
        owned: see `atomic_folder`.
    """
    recover_folder(path)
    for part in _beside(path, "part"):
        shutil.rmtree(part, ignore_errors=True)
    for old in _beside(path, "old"):
        _retire(old, path, owned)


def _beside(path: Path, kind: Literal["part", "old"]) -> list[Path]:
    """The folders beside a path that `atomic_folder` made for it."""
    found = []
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        match = _TEMPORARY.fullmatch(other.name)
        if match and (match["name"], match["kind"]) == (_short(path.name), kind) and other.is_dir():
            found.append(other)
    return sorted(found)


def _retire(old: Path, new: Path, owned: Collection[str]) -> None:
    """Deletes a folder that was replaced, except for what is not to be deleted, which moves into the new one."""
    for item in sorted(old.iterdir()):
        if item.name not in owned:
            if (new / item.name).exists():
                log.warning("%s stays where it is: the new folder has a file of that name", item)
            else:
                item.replace(new / item.name)
        elif item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something stays
        old.rmdir()


_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.(?P<kind>part|old)", re.DOTALL)
_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def _temporary(path: Path, kind: Literal["part", "old"]) -> Path:
    """A new name beside a path, hidden, that `_TEMPORARY` matches."""
    return path.with_name(f".{_short(path.name)}.{secrets.token_hex(6)}.{kind}")


def _short(name: str) -> str:
    """A name that leaves room for what is put around it: file systems allow 255 bytes."""
    return name if len(name) <= 50 else f"{name[:40]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def _sync_folder(folder: Path) -> None:
    """Makes renames in a folder last over a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON that a person can read and compare: indented, in the order given, UTF-8.

    Names of files that are no UTF-8 are written as escapes and come back as they were.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as file:
        file.write(text.encode(errors="backslashreplace"))


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


def reserve_disk(path: Path, size: int) -> None:
    """Takes space on the disk now, in a file to be deleted when the space is needed.

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
