"""One view of a folder, a zip, or a zip inside a zip. Nothing is unpacked: files are read where they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import re
import shutil
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from kit.core.errors import KitError
from kit.core.files import require_space, sha256

MAX_ENTRIES = 2_000_000
"""Files in one archive: ten times the largest set that is worth training on."""

MAX_FILE_BYTES = 256 * 2**20
"""One file, unpacked. A photograph of 64 megapixels has some 30 MB."""

MAX_RATIO = 200
"""Unpacked to packed size of one file of over a megabyte. XML reaches 20, a zip bomb 1,000."""

MAX_DEPTH = 3
"""Zips inside zips; Kaggle's bundle has two."""

_WAY_OUT = "download or copy it again"

# What zipfile raises on an entry that is damaged, encrypted or packed in an unknown way.
_ENTRY_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)
# What it raises on an archive whose list of entries cannot be read; a name that is no UTF-8 is a ValueError.
_ARCHIVE_ERRORS = (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, ValueError)


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

    def read(self, key: int | str, limit: int) -> bytes:
        """One file's bytes; BadFile where it is damaged, or longer than `limit` bytes."""

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

    def read(self, key: int | str, limit: int) -> bytes:
        """A file's bytes."""
        try:
            with open(str(key), "rb") as file:  # noqa: PTH123 (a path is not needed, and there are many)
                return _at_most(file, limit)
        except OSError as error:
            raise BadFile(f"cannot be read ({error.strerror or error})") from error

    def close(self) -> None:
        """Nothing is to be closed."""


@dataclass(frozen=True)
class ZipStore:
    """A zip; the key is the position in its list."""

    origin: Path
    label: str  # how messages call it
    file: Path  # the file to read: `origin`, or a copy of the zip inside of it
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
        file: BinaryIO = store.file.open("rb")
        if store.length is not None:
            file = io.BufferedReader(_Window(file, store.start, store.length))
        self._file = file
        try:
            self.archive = zipfile.ZipFile(file)
        except _ARCHIVE_ERRORS as error:
            file.seek(0)
            began = file.read(4) == b"PK\x03\x04"
            file.close()
            what = f"a damaged or truncated zip ({error})" if began else "no zip archive"
            raise KitError(f"{store.label}: {what}", _WAY_OUT) from error
        self.infos = self.archive.infolist()

    def read(self, key: int | str, limit: int) -> bytes:
        """A file's bytes, its checksum compared."""
        try:
            with self.archive.open(self.infos[int(key)]) as file:
                return _at_most(file, limit)
        except _ENTRY_ERRORS as error:
            raise BadFile(f"cannot be read from its zip ({error})") from error

    def close(self) -> None:
        """Closes the file."""
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
    _open: dict[int, OpenStore] = field(default_factory=dict)

    def read(self, entry: Entry, *, limit: int = MAX_FILE_BYTES) -> bytes:
        """A file's bytes.

        Raises:
            BadFile: it is damaged, encrypted, gone, or longer than `limit` bytes.
        """
        if entry.store not in self._open:
            self._open[entry.store] = self.stores[entry.store].open()
        return self._open[entry.store].read(entry.key, limit)

    def close(self) -> None:
        """Closes what is open."""
        while self._open:
            self._open.popitem()[1].close()


@dataclass(frozen=True)
class Tree:
    """All files below a path, those inside of zips too."""

    path: Path
    entries: list[Entry]
    stores: list[Store]

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Opens the tree for reading."""
        reader = Reader(self.stores)
        try:
            yield reader
        finally:
            reader.close()

    def fingerprint(self, entries: Iterable[Entry]) -> list[dict[str, Any]]:
        """What identifies the source that these entries come from.

        Returns:
            `{"file", "bytes", "sha256"}` for each zip on the disk, and one row, "./", for all loose files together;
            its digest is over their sorted lines "NAME DIGEST".
        """
        zips: set[Path] = set()
        loose: list[Entry] = []
        for entry in entries:
            origin = self.stores[entry.store].origin
            if origin is None:
                loose.append(entry)
            else:
                zips.add(origin)
        rows = [
            {
                "file": file.name if file == self.path else file.relative_to(self.path).as_posix(),
                "bytes": file.stat().st_size,
                "sha256": sha256(file),
            }
            for file in sorted(zips)
        ]
        if loose:
            total = hashlib.sha256()
            for entry in sorted(loose, key=lambda entry: entry.name):
                try:
                    digest = sha256(Path(str(entry.key)))
                except OSError:  # it will be rejected for that
                    digest = "unreadable"
                total.update(f"{entry.name} {digest}\n".encode())
            rows.append({"file": "./", "bytes": sum(entry.size for entry in loose), "sha256": total.hexdigest()})
        return rows


def open_tree(path: Path, *, spool: Path) -> Tree:
    """Lists a folder or a zip, and the zips inside. Hidden files (".DS_Store", "__MACOSX/") are passed over.

    Args:
        path: a folder or a zip.
        spool: an empty folder. A zip that lies compressed inside a zip cannot be read from its middle, so it is put
            there as one file; a stored one is read where it is.

    Raises:
        KitError: no such path; no zip, or one that is truncated, is a bomb, or holds absolute or climbing names.
    """
    listing = _Listing(spool)
    try:
        if path.is_dir():
            listing.add_folder(path)
        elif path.is_file():
            listing.add_zip(ZipStore(origin=path, label=str(path), file=path), prefix="", depth=1)
        else:
            raise KitError(f"{path}: no such file or folder", "give a folder or a zip of pictures")
    except OSError as error:
        raise KitError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    return Tree(path, listing.entries, listing.stores)


class _Listing:
    """Collects entries and stores."""

    def __init__(self, spool: Path) -> None:
        self.entries: list[Entry] = []
        self.stores: list[Store] = []
        self._spool = spool

    def add_folder(self, root: Path) -> None:
        store = len(self.stores)
        self.stores.append(FolderStore())
        for file, name, size in _walk(root, prefix="", seen=set()):
            if _is_zip_name(name):
                path = Path(file)
                self.add_zip(ZipStore(origin=path, label=file, file=path), prefix=f"{name}/", depth=1)
            else:
                self.entries.append(Entry(name, size, store, file))

    def add_zip(self, store: ZipStore, *, prefix: str, depth: int) -> None:
        number = len(self.stores)
        self.stores.append(store)
        opened = store.open()
        try:
            if len(opened.infos) > MAX_ENTRIES:
                raise KitError(f"{store.label}: over {MAX_ENTRIES:,} files in it", "give the pictures alone")
            for position, info in enumerate(opened.infos):
                name = _entry_name(info, store.label)
                if info.is_dir() or _is_hidden(name):
                    continue
                _refuse_bomb(info, store.label)
                if _is_zip_name(name) and depth < MAX_DEPTH:
                    self.add_zip(self._inner(store, opened, info, name), prefix=f"{prefix}{name}/", depth=depth + 1)
                else:
                    self.entries.append(Entry(prefix + name, info.file_size, number, position))
        finally:
            opened.close()

    def _inner(self, outer: ZipStore, opened: OpenZip, info: zipfile.ZipInfo, name: str) -> ZipStore:
        label = f"{outer.label}/{name}"
        encrypted = info.flag_bits & 0x1
        try:
            if info.compress_type == zipfile.ZIP_STORED and not encrypted:
                with outer.file.open("rb") as file:
                    file.seek(outer.start + info.header_offset)
                    header = file.read(30)  # the local header: two variable fields follow, then the bytes
                names, extra = struct.unpack_from("<HH", header, 26)
                start = outer.start + info.header_offset + 30 + names + extra
                return ZipStore(outer.origin, label, outer.file, start, info.file_size)
            require_space(self._spool, info.file_size)
            copy = self._spool / f"{len(self.stores)}.zip"
            with opened.archive.open(info) as packed, copy.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            return ZipStore(outer.origin, label, copy)
        except _ENTRY_ERRORS as error:
            raise KitError(f"{label}: cannot be read from its zip ({error})", _WAY_OUT) from error


def _walk(folder: Path, *, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str, int]]:
    """(path, name, bytes) of each file, in the order of names; links are followed, but never in circles."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return
    seen = seen | {identity}
    for item in sorted(os.scandir(folder), key=lambda item: item.name):
        if _is_hidden(item.name):
            continue
        name = prefix + printable(item.name)
        if item.is_dir():
            yield from _walk(Path(item.path), prefix=f"{name}/", seen=seen)
        elif item.is_file():
            yield item.path, name, item.stat().st_size


def _at_most(file: Any, limit: int) -> bytes:
    data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise BadFile(f"over the limit of {limit / 2**20:g} MB for one file")
    return data


def _entry_name(info: zipfile.ZipInfo, label: str) -> str:
    """The name with "/" between its parts, decoded as what it most likely is.

    Raises:
        KitError: it is absolute, or climbs out of the archive.
    """
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        # Without the flag, zipfile takes the bytes for the code page of 1981; most zip programs mean UTF-8.
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    name = name.replace("\\", "/")
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise KitError(
            f"{label}: it holds the name {printable(name)!r}, which leads out of it", "get it from where it is made"
        )
    return printable("/".join(part for part in parts if part not in ("", ".")))


def printable(name: str) -> str:
    """A name that any screen and any JSON can show, the same whatever system it comes from.

    Bytes that are no UTF-8 and control characters become backslash escapes; composed and decomposed accents are one.
    """
    if name.isascii() and name.isprintable():
        return name
    name = unicodedata.normalize("NFC", name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def _refuse_bomb(info: zipfile.ZipInfo, label: str) -> None:
    if info.file_size > 2**20 and info.file_size > MAX_RATIO * info.compress_size:
        raise KitError(
            f"{label}: {printable(info.filename)} would unpack to {info.file_size / 2**20:.0f} MB, "
            f"over {MAX_RATIO} times its size: a zip bomb",
            "get it from another place",
        )


def _is_zip_name(name: str) -> bool:
    return name.lower().endswith(".zip")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
