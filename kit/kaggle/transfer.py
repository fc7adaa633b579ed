"""One file from Kaggle to the disk: resumed after a cut, under its own name only when it is whole.

While it comes, the bytes are in `NAME.part`, and `NAME.part.json` says of which version of the file they are. Both
stay when the command is interrupted, and the next one goes on from there if Kaggle still has that version.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from kit.core.errors import KitError
from kit.core.files import disk_error, read_json, require_space, write_json
from kit.kaggle.patience import RetryPolicy
from kit.kaggle.stream import CutError, Stream


class Partial:
    """The bytes of a file that have come so far, and what they are bytes of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._label = path.with_name(f"{path.name}.part.json")

    @property
    def bytes(self) -> int:
        """How many there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def belongs_to(self, stream: Stream) -> bool:
        """Whether they are the beginning of the very version that the stream sends."""
        try:
            label = read_json(self._label)
        except KitError:
            return False
        return stream.validator is not None and label == _label(stream) and self.bytes <= (stream.size or self.bytes)

    def start(self, stream: Stream) -> None:
        """Begins anew, for this stream's version."""
        self.path.unlink(missing_ok=True)
        write_json(self._label, _label(stream))

    def open(self, offset: int) -> BinaryIO:
        """The file, to write from a byte on."""
        file = self.path.open("r+b" if offset else "wb")
        file.seek(offset)
        file.truncate()
        return file

    def become(self, path: Path) -> None:
        """Takes its final name; replaces what stood there."""
        self.path.replace(path)
        self._label.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes all of it."""
        self.path.unlink(missing_ok=True)
        self._label.unlink(missing_ok=True)


def download(
    open_stream: Callable[[], Stream],
    path: Path,
    *,
    patience: RetryPolicy,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
    verify: Callable[[Path, str], None],
) -> None:
    """Fetches a file, going on where an earlier try, or an earlier command, was cut off.

    Args:
        open_stream: asks for the file; called once a try, as its address expires.
        path: where it goes.
        patience: how often it is tried without a new byte, and the waits between.
        say: is told, in a line, of each resume.
        progress: bytes here, bytes in all (0 where the server does not say).
        verify: is given what came, and its name, before it takes that name; raises where it is no such file.

    Raises:
        KitError: it keeps being cut, does not pass `verify`, or the disk is too small.
    """
    partial = Partial(path)
    failures, furthest = 0, partial.bytes
    while True:
        try:
            with open_stream() as stream:
                _receive(stream, partial, progress)
            break
        except CutError as cut:
            failures = 1 if partial.bytes > furthest else failures + 1
            furthest = max(furthest, partial.bytes)
            size = f" of {_megabytes(stream.size)}" if stream.size else ""
            problem = f"{path.name}: {cut} after {_megabytes(partial.bytes)}{size}"
        except OSError as error:
            raise disk_error(error, partial.path) from error
        if failures >= patience.tries:
            raise KitError(f"{problem}, {failures} times in a row", "run the command again: it goes on from there")
        wait = patience.wait(failures)
        say(f"{problem}; going on in {wait:.0f} s")
        patience.sleep(wait)
    try:
        verify(partial.path, path.name)
    except KitError:
        partial.discard()
        raise
    try:
        partial.become(path)
    except OSError as error:
        raise disk_error(error, path) from error


def _receive(stream: Stream, partial: Partial, progress: Callable[[int, int], None]) -> None:
    """Takes from the stream what is not here yet."""
    offset = partial.bytes if partial.belongs_to(stream) else 0
    if stream.size and offset == stream.size:  # all came, and then the command was interrupted
        return
    require_space(partial.path, (stream.size or 0) - offset)
    if offset:
        offset = stream.seek(offset)
    if not offset:
        partial.start(stream)
    with partial.open(offset) as file:
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


def _label(stream: Stream) -> dict[str, object]:
    return {"validator": stream.validator, "bytes": stream.size}


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
