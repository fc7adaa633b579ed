"""Pictures to `images.zip`: encoded on all cores, straight into the archive, equal pictures to equal bytes."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import atomic, sha256
from kit.core.machine import cores
from kit.core.progress import Progress, no_progress
from kit.generation.pictures import Pixels, parallel_map, picture_digest, pixels_digest

# Names are 00000.png to 99999.png, so that their order is that of the pictures.
DIGITS = 5

# Run-length matching only. On 64×64 photographs this is 1.7 times as fast as Pillow's default and 0.7 % larger:
# PNG's filters leave little for zlib's search to find. (bench/pack.py)
PNG_STRATEGY = zlib.Z_RLE

# JPEG without subsampled colour, at a quality where the loss is below what a scorer's features see; 10,000 pictures
# of 256×256 take about 250 MB.
JPEG_QUALITY = 95
JPEG_SUBSAMPLING = "4:4:4"

# A zip states the time, the system and the permissions of each entry. Fixed, so that they tell nothing apart:
# the earliest time a zip can hold, Unix, rw-r--r--.
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
    progress: Progress = no_progress,
    workers: int | None = None,
) -> Packed:
    """Writes a competition's `images.zip` while the pictures are still being made.

    Flat, stored (pictures are compressed already), with fixed names, order, times and attributes: equal pictures give
    equal bytes, with the same version of Pillow's zlib or libjpeg on any system. The file lands whole or not at all,
    and only a few batches are in memory at a time.

    Args:
        pictures: batches uint8 (b, size, size, C), C 3 or 1; grey is replicated to RGB.
        out: the zip to write; one that stands there is replaced.
        competition: says which size, file format and suffix.
        count: how many pictures come; another number is an error. None: as many as there are.
        progress: called with (pictures written, pictures expected).
        workers: threads that encode; default: one for each core.

    Raises:
        KitError: pictures of another size or type, none or too many of them, or a disk that is full.
    """
    expected = competition.count if count is None else count
    digests: list[bytes] = []

    def encode_one(picture: Pixels) -> tuple[bytes, bytes]:
        return encode(picture, competition.format)

    with atomic(out) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            stream = parallel_map(encode_one, _each(pictures, competition), workers=workers or cores())
            for index, (data, digest) in enumerate(stream):
                if index == 10**DIGITS or index == count:
                    raise KitError(f"more than the {index:,} pictures that {out.name} was to hold")
                archive.writestr(_entry(f"{index:0{DIGITS}d}{competition.suffix}"), data)
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


def most_bytes(competition: Competition, count: int) -> int:
    """What a zip of so many pictures may take at most: noise grows by 2 % as a PNG of 64 × 64 and its entry."""
    return round(1.03 * count * competition.size**2 * len(competition.mode))


def encode(picture: Pixels, format: Literal["PNG", "JPEG"]) -> tuple[bytes, bytes]:
    """One picture, uint8 (H, W, 3), as a file's bytes, and the digest of the pixels that a reader of it will see."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if format == "PNG":
        image.save(buffer, "PNG", compress_type=PNG_STRATEGY)
        return buffer.getvalue(), picture_digest(picture)
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING)
    with Image.open(buffer) as decoded:
        return buffer.getvalue(), picture_digest(np.asarray(decoded))


def _each(batches: Iterable[Pixels], competition: Competition) -> Iterator[Pixels]:
    """Single pictures (size, size, 3) out of the batches."""
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
