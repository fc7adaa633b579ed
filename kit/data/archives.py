"""Where the files of a source lie: in a folder, a zip, or a zip inside a zip. They are read where they are."""

from __future__ import annotations

import io
import os
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

from kit.core.errors import KitError
from kit.core.files import BAD_ENTRY, BAD_ZIP

MAX_FILE_BYTES = 256 * 2**20
"""One file, unpacked. A photograph of 64 megapixels has some 30 MB."""

MAX_OPEN = 64
"""Zips that a reader keeps open: with a source of thousands, all of them would be more than a process may open."""

WAY_OUT = "download or copy it again"

ENTRY_ERRORS = (*BAD_ENTRY, OSError)
"""What reading a file of a tree raises."""


class BadFile(Exception):  # noqa: N818 (not an error of the program: the file is left out, and the rest goes on)
    """Why one file of a set cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree."""

    name: str  # path below the tree's root, with "/"; an archive inside counts as a folder; always printable
    size: int  # bytes, unpacked
    store: int  # index into the tree's stores
    key: int | str  # what that store knows it by


class OpenStore(Protocol):
    """A store that one process reads from."""

    def file(self, key: int | str) -> IO[bytes]:
        """Opens one file; where that fails, one of `ENTRY_ERRORS` is raised."""

    def close(self) -> None:
        """Lets go of what is open."""


class Store(Protocol):
    """Where files lie: a description that can be sent to another process, which opens it for itself."""

    @property
    def origin(self) -> Path | None:
        """The zip on the disk that all of it comes from; None for loose files."""

    def open(self) -> OpenStore:
        """Opens it for reading."""


@dataclass(frozen=True)
class FolderStore:
    """Loose files; the key is the path."""

    origin: None = None

    def open(self) -> FolderStore:
        """Nothing is to be opened."""
        return self

    def file(self, key: int | str) -> IO[bytes]:
        """Opens the file of that path."""
        return open(str(key), "rb")  # noqa: PTH123 (a path is not needed, and there are many)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class ZipStore:
    """A zip; the key is the position in its list."""

    origin: Path
    label: str  # how messages call it
    path: Path  # the file to read: `origin`, or a copy of the zip inside of it
    start: int = 0  # where it lies in that file
    length: int | None = None  # None: to the end

    def open(self) -> OpenZip:
        """Opens the archive and reads its list.

        Raises:
            KitError: it is no zip, or a truncated one.
        """
        return OpenZip(self)


class OpenZip:
    """An open zip."""

    def __init__(self, store: ZipStore) -> None:
        file: BinaryIO = store.path.open("rb")
        if store.length is not None:
            file = io.BufferedReader(_Window(file, store.start, store.length))
        self._file = file
        try:
            self.archive = zipfile.ZipFile(file)
        except BAD_ZIP as error:
            file.seek(0)
            began = file.read(4) == b"PK\x03\x04"
            file.close()
            what = f"a damaged or truncated zip ({error})" if began else "no zip archive"
            raise KitError(f"{store.label}: {what}", WAY_OUT) from error
        self.infos = self.archive.infolist()

    def file(self, key: int | str) -> IO[bytes]:
        """Opens the entry at that position."""
        return self.archive.open(self.infos[int(key)])

    def close(self) -> None:
        """Closes the zip and its file."""
        self.archive.close()
        self._file.close()


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence] + offset
        if self._position < 0:
            raise ValueError("before the beginning of the file")
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._length - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass
class Reader:
    """Reads the files of a tree, for one process and thread; archives are opened when first needed."""

    stores: list[Store]
    _open: OrderedDict[int, OpenStore] = field(default_factory=OrderedDict)

    def read(self, entry: Entry, *, limit: int = MAX_FILE_BYTES) -> bytes:
        """A file's bytes, its checksum compared where it lies in a zip.

        Raises:
            BadFile: it is damaged, encrypted, gone, or longer than `limit` bytes.
        """
        data = self._read(entry, limit + 1)
        if len(data) > limit:
            raise BadFile(f"over the limit of {limit / 2**20:g} MB for one file")
        return data

    def head(self, entry: Entry, size: int) -> bytes:
        """A file's first bytes; none where it cannot be read."""
        try:
            return self._read(entry, size)
        except BadFile:
            return b""

    def _read(self, entry: Entry, size: int) -> bytes:
        try:
            with self._store(entry.store).file(entry.key) as file:
                return file.read(size)
        except ENTRY_ERRORS as error:
            raise BadFile(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error

    def _store(self, number: int) -> OpenStore:
        if number not in self._open:
            while len(self._open) >= MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[number] = self.stores[number].open()
        self._open.move_to_end(number)
        return self._open[number]

    def close(self) -> None:
        """Closes what is open."""
        while self._open:
            self._open.popitem()[1].close()
