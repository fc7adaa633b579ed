"""Packs pictures into `images.zip`: encoded on all cores; equal pictures give equal bytes."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import BAD_ZIP, atomic, sha256
from kit.core.machine import cores
from kit.core.progress import Progress, no_progress
from kit.generation.pictures import Pixels, parallel_map, picture_digest, pixels_digest

DIGITS = 5
"""Pictures from noise are named 00000.png to 99999.png."""

# Run-length matching only. On 64×64 photographs this is 1.7 times as fast as Pillow's default and 0.7 % larger:
# PNG's filters leave little for zlib's search to find. (bench/pack.py)
PNG_STRATEGY = zlib.Z_RLE

# A zip states time, system and permissions of each entry. They are always the same: the earliest time that a zip can
# hold, Unix, rw-r--r--.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
UNIX = 3
PERMISSIONS = 0o100644 << 16


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What `pack` wrote."""

    path: Path
    count: int  # pictures
    bytes: int
    sha256: str  # of the file
    pixels_sha256: str  # of the decoded pixels in the order of names, see `pixels_digest`


def pack(
    pictures: Iterable[Pixels],
    out: Path,
    *,
    competition: Competition,
    count: int | None = None,
    names: Sequence[str] | None = None,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> Packed:
    """Writes a competition's `images.zip` while the pictures are still being made.

    The archive is flat and stored (pictures are compressed already), with fixed order, times and attributes: equal
    pictures give equal bytes, with the same version of Pillow's zlib or libjpeg on any system. The file is written
    whole or not at all, and only a few batches are in memory at a time.

    Args:
        pictures: batches uint8 (b, size, size, C), C 3 or 1; grey is replicated to RGB.
        out: the zip to write; an existing one is replaced.
        competition: its size, file format and suffix are used.
        count: number of pictures; another number is an error. None: as many as there are.
        names: of the pictures, without suffix (of a translation: its inputs'); None: their numbers.
        progress: called with (pictures written, pictures expected).
        workers: threads that encode; default: one for each core.

    Raises:
        KitError: pictures of another size or type, none or too many of them, or a disk that is full.
    """
    expected = competition.count if count is None else count
    digests: list[bytes] = []
    if names is not None and len(set(names)) != len(names):
        raise KitError(f"{out}: two pictures would have one name", "give each input a name of its own")
    with atomic(out) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            stream = parallel_map(
                partial(encode, competition=competition), _each(pictures, competition), workers=workers or cores()
            )
            for index, (data, digest) in enumerate(stream):
                if index in (10**DIGITS, count, None if names is None else len(names)):
                    raise KitError(f"more than the {index:,} pictures that {out.name} was to hold")
                name = f"{index:0{DIGITS}d}" if names is None else names[index]
                archive.writestr(_entry(name + competition.suffix), data)
                digests.append(digest)
                progress(index + 1, expected)
        if not digests or (count is not None and len(digests) != count):
            raise KitError(f"{len(digests):,} pictures for {out.name}, which was to hold {expected:,}")
    return Packed(
        path=out,
        count=len(digests),
        bytes=out.stat().st_size,
        sha256=sha256(out),
        pixels_sha256=pixels_digest(digests),
    )


def is_packed(path: Path) -> bool:
    """Whether a file is a zip of numbered pictures with the time and permissions that `pack` gives all of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, *BAD_ZIP):
        return False
    return bool(entries) and all(
        (entry.filename.partition(".")[0], entry.date_time, entry.external_attr)
        == (f"{index:0{DIGITS}d}", TIMESTAMP, PERMISSIONS)
        for index, entry in enumerate(entries)
    )


def most_bytes(competition: Competition, count: int) -> int:
    """What a zip of so many pictures may take at most: noise grows by 2 % as a PNG of 64 × 64 and its entry."""
    return round(1.03 * count * competition.size**2 * len(competition.mode))


def encode(picture: Pixels, competition: Competition) -> tuple[bytes, bytes]:
    """One picture, uint8 (H, W, 3), as the bytes of a file, and the digest of the pixels that are read from it."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if competition.format == "PNG":
        image.save(buffer, "PNG", compress_type=PNG_STRATEGY)
        return buffer.getvalue(), picture_digest(picture)
    image.save(buffer, "JPEG", quality=competition.quality, subsampling=competition.subsampling)
    with Image.open(buffer) as decoded:
        return buffer.getvalue(), picture_digest(np.asarray(decoded))


def _each(batches: Iterable[Pixels], competition: Competition) -> Iterator[Pixels]:
    """Single pictures (size, size, 3)."""
    side = competition.size
    for batch in batches:
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] not in ((side, side, 1), (side, side, 3)):
            raise KitError(
                f"pictures of shape {batch.shape[1:]} and type {batch.dtype}: {competition.slug} takes "
                f"({side}, {side}, 3) of uint8",
                f"sample them with size={side}",
            )
        yield from np.repeat(batch, 3, axis=3) if batch.shape[3] == 1 else batch


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=TIMESTAMP)
    info.create_system = UNIX
    info.external_attr = PERMISSIONS
    info.compress_type = zipfile.ZIP_STORED
    return info
