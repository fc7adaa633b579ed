"""One view of all files below a folder or in a zip, those of zips inside too. Nothing is unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import require_space, sha256
from kit.data.archives import ENTRY_ERRORS, WAY_OUT, Entry, FolderStore, OpenZip, Reader, Store, ZipStore
from kit.data.prepared_set import Rejected, SourceRecord

MAX_ENTRIES = 2_000_000
"""Files in one archive: ten times the largest set that is worth training on."""

MAX_RATIO = 200
"""Unpacked to packed size of one file of over a megabyte. XML reaches 20, a zip bomb 1,000."""

MAX_DEPTH = 3
"""Zips inside zips; Kaggle's bundle has two."""

_OWN = {"dataset.json": "samples.jsonl", "run.json": "progress.jsonl", "submission.json": "source.zip"}
"""Pairs of files that tell a folder of the kit's own: a prepared set, a run, a submission."""


@dataclass(frozen=True)
class Tree:
    """All files below a path, those inside of zips too."""

    path: Path
    entries: list[Entry]
    stores: list[Store]
    unread: list[Rejected]  # what cannot be entered or opened: dangling links, folders without permission

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Opens the tree for reading."""
        reader = Reader(self.stores)
        try:
            yield reader
        finally:
            reader.close()

    def fingerprint(self, entries: Iterable[Entry]) -> list[SourceRecord]:
        """What identifies the source that these entries come from.

        Returns:
            A row for each zip on the disk, and one, "./", for all loose files together; its digest is over their
            sorted lines "NAME DIGEST".
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
            SourceRecord(
                file=printable(file.name if file == self.path else file.relative_to(self.path).as_posix()),
                bytes=file.stat().st_size,
                sha256=sha256(file),
            )
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
            rows.append(SourceRecord(file="./", bytes=sum(entry.size for entry in loose), sha256=total.hexdigest()))
        return rows


def open_tree(path: Path, *, spool: Path) -> Tree:
    """Lists a folder or a zip, and the zips inside. Hidden files (".DS_Store", "__MACOSX/") are passed over.

    Args:
        path: a folder or a zip.
        spool: an empty folder. A zip that lies compressed inside a zip cannot be read from its middle, so it is put
            there as one file; a stored one is read where it is.

    Raises:
        KitError: no such path; a folder that is or holds the kit's own; no zip, or one that is truncated, is a bomb,
            or holds absolute or climbing names.
    """
    listing = _Listing(spool)
    try:
        if path.is_dir():
            listing.add_folder(path)
        elif path.is_file():
            listing.add_zip(ZipStore(origin=path, label=str(path), path=path), prefix="", depth=1)
        else:
            raise KitError(f"{path}: no such file or folder", "give a folder or a zip of pictures")
    except OSError as error:
        raise KitError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    return Tree(path, listing.entries, listing.stores, listing.unread)


class _Listing:
    """Collects entries and stores."""

    def __init__(self, spool: Path) -> None:
        self.entries: list[Entry] = []
        self.stores: list[Store] = []
        self.unread: list[Rejected] = []
        self._spool = spool

    def add_folder(self, root: Path) -> None:
        store = len(self.stores)
        self.stores.append(FolderStore())
        for file, name, size in _walk(root, self.unread):
            if _is_zip_name(name):
                path = Path(file)
                self.add_zip(ZipStore(origin=path, label=file, path=path), prefix=f"{name}/", depth=1)
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
                if not name:
                    self.unread.append(Rejected(f"{prefix}{printable(info.filename)}", "no name of a file"))
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
                with outer.path.open("rb") as file:
                    file.seek(outer.start + info.header_offset)
                    header = file.read(30)  # the local header: two variable fields follow, then the bytes
                names, extra = struct.unpack_from("<HH", header, 26)
                start = outer.start + info.header_offset + 30 + names + extra
                return ZipStore(outer.origin, label, outer.path, start, info.file_size)
            require_space(self._spool, info.file_size)
            copy = self._spool / f"{len(self.stores)}.zip"
            with opened.archive.open(info) as packed, copy.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            return ZipStore(outer.origin, label, copy)
        except ENTRY_ERRORS as error:
            raise KitError(f"{label}: cannot be read from its zip ({error})", WAY_OUT) from error


def _walk(root: Path, unread: list[Rejected]) -> Iterator[tuple[str, str, int]]:
    """(path, name, bytes) of each file; links are followed, but never in circles. What cannot be read is listed."""
    stack: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(root), "", frozenset())]
    while stack:
        folder, prefix, above = stack.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 (a path is not needed, and there are many)
            with os.scandir(folder) as listed:
                items = sorted(listed, key=lambda item: item.name)
        except OSError as error:
            if not prefix:
                raise
            unread.append(Rejected(prefix, f"a folder that cannot be read ({error.strerror or error})"))
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            unread.append(Rejected(prefix, "a link back to a folder that it lies in"))
            continue
        _refuse_own(folder, {item.name for item in items})
        folders = []
        for item in items:
            name = prefix + printable(item.name)
            try:
                if _is_hidden(item.name):
                    continue
                if item.is_dir():
                    folders.append((item.path, f"{name}/", above | {identity}))
                elif item.is_file():
                    yield item.path, name, item.stat().st_size
                else:
                    why = "a link that leads nowhere" if item.is_symlink() else "neither a file nor a folder"
                    unread.append(Rejected(name, why))
            except OSError as error:
                unread.append(Rejected(name, f"cannot be read ({error.strerror or error})"))
        stack += reversed(folders)


def _refuse_own(folder: str, names: set[str]) -> None:
    """The kit's own sets, runs and submissions are full of pictures, and none of them is a source."""
    for one, other in _OWN.items():
        if {one, other} <= names:
            raise KitError(
                f"{folder}: made by the kit ({one}), which is no source of pictures",
                "give a folder that holds the pictures alone",
            )


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
