"""A file from Kaggle's storage to the disk: resumed after a cut, under its own name only when it is whole.

The client's own downloads are not used: they write an unfinished file under its final name, save an error page as if it
were the file when a resume is refused, and report progress only to a terminal.

While a file comes, the bytes are in `NAME.part`, and `NAME.part.json` says of which version of the file they are. Both
stay when the command is interrupted, and the next one goes on from there if Kaggle still has that version.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, Self

import requests

from kit.core.errors import KitError
from kit.core.files import disk_error, require_space
from kit.core.progress import Progress, no_progress
from kit.core.records import Record
from kit.kaggle.client import RetryPolicy
from kit.kaggle.failures import brief

log = logging.getLogger(__name__)

_CHUNK = 1 << 16  # bytes; what a cut connection can lose


class CutError(Exception):
    """A body that ended early. What came is good; the rest can be asked for."""


class Stream:
    """A file on its way here.

    Attributes:
        size: bytes of the whole file; None where the server does not say.
        validator: what tells this version of the file from any other; None where the server gives nothing.
        label: what tells parts of this version from parts of others.
    """

    def __init__(self, session: requests.Session, response: requests.Response) -> None:
        self._session = session
        self._response = response
        length = response.headers.get("Content-Length", "")
        self.size = int(length) if length.isdecimal() and len(length) < 20 else None
        self.validator: str | None = response.headers.get("ETag") or response.headers.get("Last-Modified")
        self.label = _Label(self.validator, self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._session.close()

    def seek(self, offset: int) -> int:
        """Asks to go on from a byte of this very version (Range and If-Range).

        Returns:
            where the stream goes on: `offset`, or 0 where the server sends the whole file.

        Raises:
            CutError: the server gives neither.
        """
        request = self._response.request.copy()
        request.headers["Range"] = f"bytes={offset}-"
        request.headers["If-Range"] = self.validator or ""
        self._response.close()
        try:
            settings = self._session.merge_environment_settings(request.url or "", {}, True, None, None)
            self._response = self._session.send(request, **settings)
        except requests.RequestException as error:
            raise CutError(brief(error)) from None
        if self._response.status_code == 200:
            return 0
        said = self._response.headers.get("Content-Range", "")
        if self._response.status_code != 206 or not said.startswith(f"bytes {offset}-"):
            raise CutError(f"Kaggle's storage answers {self._response.status_code} to a request for the rest")
        return offset

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come.

        Raises:
            CutError: the connection ended, or nothing came for too long.
        """
        try:
            yield from self._response.iter_content(_CHUNK)
        except requests.RequestException as error:
            # The read timeout of a body comes as a ConnectionError.
            slow = "timed out" in str(error)
            raise CutError("nothing came for a while" if slow else "the connection was cut") from None


def download(
    open_stream: Callable[[], Stream],
    path: Path,
    *,
    policy: RetryPolicy,
    progress: Progress = no_progress,
    verify: Callable[[Path, str], None],
) -> None:
    """Fetches a file, going on where an earlier try, or an earlier command, was cut off.

    Args:
        open_stream: asks for the file; called once a try, as its address expires.
        path: where it goes.
        policy: how often it is tried without a new byte, and the waits between.
        progress: bytes here, bytes in all (0 where the server does not say).
        verify: is given what came, and its name, before it takes that name; raises where it is no such file.

    Raises:
        KitError: it keeps being cut, does not pass `verify`, or the disk is too small.
    """
    part = _Partial(path)
    failures, furthest = 0, part.bytes
    while True:
        try:
            with open_stream() as stream:
                _receive(stream, part, progress)
            break
        except CutError as cut:
            failures = 1 if part.bytes > furthest else failures + 1
            furthest = max(furthest, part.bytes)
            size = f" of {stream.size / 1e6:.1f} MB" if stream.size else ""
            problem = f"{path.name}: {cut} after {part.bytes / 1e6:.1f} MB{size}"
        except OSError as error:
            raise disk_error(error, part.path) from error
        if failures >= policy.tries:
            raise KitError(f"{problem}, {failures} times in a row", "run the command again: it goes on from there")
        wait = policy.wait(failures)
        log.info("%s; going on in %.0f s", problem, wait)
        policy.sleep(wait)
    try:
        verify(part.path, path.name)
    except KitError:
        part.discard()
        raise
    try:
        part.path.replace(path)
        part.discard()
    except OSError as error:
        raise disk_error(error, path) from error


def part_bytes(path: Path) -> int:
    """How much of a file has come so far."""
    return _Partial(path).bytes


def check_zip(path: Path, name: str) -> None:
    """Reads the directory at a zip's end, and sees that each entry it names begins and ends within the file."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = archive.infolist()
            for entry in entries:
                file.seek(max(0, entry.header_offset))  # negative where the file's beginning is missing
                begins = entry.header_offset >= 0 and file.read(4) == b"PK\3\4"
                if not begins or file.tell() + entry.compress_size > archive.start_dir:
                    raise zipfile.BadZipFile(f"no entry {entry.filename} where its directory says")
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise KitError(f"{name}: what Kaggle sent is no whole zip ({error})", "run the command again") from error
    if not entries:
        raise KitError(f"{name}: the zip that Kaggle sent is empty")


@dataclass(frozen=True)
class _Label(Record):
    """`NAME.part.json`: of which version of a file the part is."""

    FORMAT: ClassVar[str] = "kit-part"
    VERSION: ClassVar[int] = 1

    validator: str | None
    bytes: int | None  # of the whole file


class _Partial:
    """The bytes of a file that have come so far, and what they are bytes of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.label = path.with_name(f"{path.name}.part.json")

    @property
    def bytes(self) -> int:
        """How many there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def belongs_to(self, stream: Stream) -> bool:
        """Whether they are the beginning of the very version that the stream sends."""
        try:
            label = _Label.load(self.label)
        except KitError:
            return False
        return stream.validator is not None and label == stream.label and self.bytes <= (stream.size or self.bytes)

    def open(self, offset: int) -> BinaryIO:
        """The file, to write from a byte on."""
        file = self.path.open("r+b" if offset else "wb")
        file.seek(offset)
        file.truncate()
        return file

    def discard(self) -> None:
        """Removes all of it."""
        self.path.unlink(missing_ok=True)
        self.label.unlink(missing_ok=True)


def _receive(stream: Stream, part: _Partial, progress: Progress) -> None:
    """Takes from the stream what is not here yet."""
    offset = part.bytes if part.belongs_to(stream) else 0
    if stream.size and offset == stream.size:  # all came, and then the command was interrupted
        return
    require_space(part.path, (stream.size or 0) - offset)
    if offset:
        offset = stream.seek(offset)
    if not offset:
        part.discard()
        stream.label.save(part.label)
    with part.open(offset) as file:
        here = offset
        progress(here, stream.size or 0)
        for chunk in stream.chunks():
            file.write(chunk)
            here += len(chunk)
            progress(here, stream.size or 0)
        file.flush()
        os.fsync(file.fileno())
    if stream.size is not None and here != stream.size:
        raise CutError("the body ended")
