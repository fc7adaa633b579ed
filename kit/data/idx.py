"""MNIST's IDX files: many pictures in one file, without names."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.data.archives import BadFile, Entry, Reader, Store
from kit.data.tree import Tree

MAX_BYTES = 2**30
"""An unpacked file of pictures; MNIST has 47 MB, EMNIST 550 MB."""

# "train-images-idx3-ubyte.gz" on the web, "train-images.idx3-ubyte" in Kaggle's copy.
_NAME = re.compile(r"(?P<split>[\w-]+)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")

_TRAINING = {"train", "training"}
_TEST = {"test", "testing", "t10k", "val", "valid", "validation"}


class Part(NamedTuple):
    """A part of a set: its two files."""

    split: str  # "train", or what its files are called by
    pictures: Entry
    labels: Entry


def is_idx_name(name: str) -> bool:
    """Whether a file is an IDX file by its name."""
    return _NAME.fullmatch(name) is not None


def find(tree: Tree) -> Part | None:
    """The part to be trained on; None where there are no IDX files.

    Test pictures are taken only where there is no training part.

    Raises:
        KitError: there are several parts to choose from, or one of its two files is missing.
    """
    parts: dict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    for entry in sorted(tree.entries, key=lambda entry: entry.name, reverse=True):
        folder, _, name = entry.name.rpartition("/")
        if match := _NAME.fullmatch(name):
            if folder.rpartition("/")[2] == name:  # Kaggle's copy has each file in a folder of its name, too
                folder = folder.rpartition("/")[0]
            parts[folder, match["split"]][match["what"]] = entry
    if not parts:
        return None
    words = {part: set(re.split(r"[-_]", part[1].casefold())) for part in parts}
    training = [part for part in parts if words[part] & _TRAINING]
    chosen = training or [part for part in parts if not words[part] & _TEST] or list(parts)
    if len(chosen) > 1:
        listed = ", ".join(sorted(entry.name for part in chosen for entry in parts[part].values()))
        raise KitError(
            f"{tree.path}: it is not clear which of its parts is meant: {listed}",
            "name the file of pictures itself: --from FOLDER/…-images-idx3-ubyte.gz",
        )
    (part,) = chosen
    if missing := {"images", "labels"} - set(parts[part]):
        (there,) = parts[part].values()
        raise KitError(f"{tree.path}: {there.name} without its {missing.pop()}", "put the other file beside it")
    return Part(part[1], parts[part]["images"], parts[part]["labels"])


def only_part(tree: Tree, name: str) -> Tree:
    """A folder's tree with nothing in it but one IDX file and its counterpart."""
    splits = {entry.name: match["split"] for entry in tree.entries if (match := _NAME.fullmatch(entry.name))}
    entries = [entry for entry in tree.entries if splits.get(entry.name) == splits[name]]
    return Tree(tree.path, entries, tree.stores, [])


@dataclass(frozen=True)
class IdxStore:
    """The pictures of an IDX file as picture files; the key is the position."""

    store: Store  # where the IDX file lies
    entry: Entry

    @property
    def origin(self) -> Path | None:
        """The zip on the disk that it comes from; None for a loose file."""
        return self.store.origin

    def open(self) -> OpenIdx:
        """Reads all of it; see `read`."""
        return OpenIdx(read(self.store, self.entry))


@dataclass(frozen=True)
class OpenIdx:
    """Pictures in memory, uint8 (N, H, W)."""

    pictures: NDArray[np.uint8]

    def file(self, key: int | str) -> io.BytesIO:
        """A picture as a PGM file, the plainest there is, so that it takes the same way as any other."""
        picture = self.pictures[int(key)]
        return io.BytesIO(b"P5 %d %d 255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes())

    def close(self) -> None:
        """Nothing is open."""


def open_part(tree: Tree, part: Part) -> tuple[list[int], tuple[int, int], IdxStore]:
    """The labels of a part, the height and width of its pictures, and the store that serves them.

    Raises:
        KitError: see `read`; or the two files do not fit each other.
    """
    labels = read(tree.stores[part.labels.store], part.labels)
    store = IdxStore(tree.stores[part.pictures.store], part.pictures)
    shape = store.open().pictures.shape
    if labels.ndim != 1 or len(shape) != 3 or shape[:1] != labels.shape:
        raise KitError(
            f"{tree.path}: {part.pictures.name} and {part.labels.name} do not fit each other", "download them again"
        )
    return labels.tolist(), (shape[1], shape[2]), store


def read(store: Store, entry: Entry) -> NDArray[np.uint8]:
    """The array in an IDX file, compressed or not.

    Returns:
        uint8 (N, H, W) for pictures, (N,) for labels; N is at least 1.

    Raises:
        KitError: it is damaged, empty, no IDX file, or one of other numbers than bytes.
    """
    reader = Reader([store])
    try:
        data = reader.read(replace(entry, store=0))
        if data[:2] == b"\x1f\x8b":
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            data = unpacker.decompress(data, MAX_BYTES)
            if not unpacker.eof:
                raise BadFile("truncated, or over the limit for one file")
        kind, dimensions = struct.unpack_from(">xxBB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        start = 4 + 4 * dimensions
        if data[:2] != b"\0\0" or kind != 0x08 or dimensions not in (1, 3) or len(data) != start + math.prod(shape):
            raise BadFile("no IDX file of bytes")
        if not math.prod(shape):
            raise BadFile("there is nothing in it")
    except (BadFile, OSError, EOFError, zlib.error, struct.error) as error:
        raise KitError(f"{entry.name}: {error}", "download it again") from error
    finally:
        reader.close()
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def fetch_mnist(folder: Path) -> Path:
    """MNIST's IDX files, fetched by torchvision into a folder unless they are there; the folder to prepare from.

    Raises:
        KitError: they cannot be fetched.
    """
    from torchvision.datasets import MNIST

    try:
        MNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise KitError(
            f"MNIST cannot be fetched ({error})", "put its four -ubyte.gz files into a folder and give `--from FOLDER`"
        ) from error
    return folder / "MNIST" / "raw"
