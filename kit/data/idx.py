"""MNIST's IDX files: many pictures in one file, without names."""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.data.archives import MAX_FILE_BYTES, BadFile, Entry, Store

Bytes = NDArray[np.uint8]

# "train-images-idx3-ubyte.gz" on the web, "train-images.idx3-ubyte" in Kaggle's copy.
_NAME = re.compile(r"(?P<split>[\w-]+)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")


def pairs(entries: list[Entry]) -> dict[str, tuple[Entry, Entry]]:
    """The IDX files of a tree: split ("train") → its file of pictures and its file of labels."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
        if match := _NAME.fullmatch(entry.name.rsplit("/", 1)[-1]):
            found.setdefault(match["split"], {})[match["what"]] = entry
    return {split: (both["images"], both["labels"]) for split, both in sorted(found.items()) if len(both) == 2}


def read(store: Store, entry: Entry) -> Bytes:
    """The array in an IDX file, compressed or not.

    Returns:
        uint8 (N, H, W) for pictures, (N,) for labels.

    Raises:
        KitError: it is damaged, no IDX file, or one of other numbers than bytes.
    """
    opened = store.open()
    try:
        data = opened.read(entry.key, MAX_FILE_BYTES)
        if data[:2] == b"\x1f\x8b":
            data = _gunzip(data)
        kind, dimensions = struct.unpack_from(">xxBB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        start = 4 + 4 * dimensions
        if data[:2] != b"\0\0" or kind != 0x08 or dimensions not in (1, 3) or len(data) != start + math.prod(shape):
            raise BadFile("no IDX file of bytes")
    except (BadFile, OSError, EOFError, zlib.error, struct.error) as error:
        raise KitError(f"{entry.name}: {error}", "download it again") from error
    finally:
        opened.close()
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _gunzip(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    unpacked = unpacker.decompress(data, MAX_FILE_BYTES)
    if not unpacker.eof:
        raise BadFile("truncated, or over the limit for one file")
    return unpacked


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
        """Reads all of it: MNIST has 47 MB."""
        return OpenIdx(read(self.store, self.entry))


@dataclass(frozen=True)
class OpenIdx:
    """Pictures in memory, uint8 (N, H, W)."""

    pictures: Bytes

    def read(self, key: int | str, limit: int) -> bytes:
        """A picture as a PGM file, the plainest there is, so that it takes the same way as any other."""
        picture = self.pictures[int(key)]
        header = b"P5 %d %d 255\n" % (picture.shape[1], picture.shape[0])
        return header + bytes(picture.tobytes())

    def close(self) -> None:
        """Nothing is open."""
