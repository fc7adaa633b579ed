"""Reading pictures from a zip or a folder, their digests, and work on many of them in threads."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from kit.core.errors import KitError
from kit.core.files import BAD_ZIP
from kit.data.archives import ENTRY_ERRORS, BadFile
from kit.data.decoding import open_image, reason

Pixels = npt.NDArray[np.uint8]

Item = TypeVar("Item")
Result = TypeVar("Result")

SUFFIXES = (".png", ".jpg", ".jpeg")

# A generated picture has some kilobytes and at most 256² pixels; these only keep a hostile file from
# filling the memory.
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 4096**2


def picture_names(path: Path) -> list[str]:
    """The names that `read_pictures` will read, in its order.

    Raises:
        KitError: no such path, no zip, no picture in it.
    """
    names = sorted({name for name in _names(path) if _is_picture(name)})
    if not names:
        raise KitError(f"{path}: no pictures in it", "give a zip or a folder with .png or .jpg files")
    return names


def read_pictures(
    path: Path, *, mode: Literal["RGB", "L"] = "RGB", limit: int | None = None, convert: bool = True
) -> Iterator[tuple[str, Pixels]]:
    """The pictures of a zip or a folder, at any depth, sorted by name.

    Args:
        path: a zip or a folder with `.png`, `.jpg` or `.jpeg` files; hidden files are passed over.
        mode: Pillow's name of the pixel format to convert to: "RGB" gives C = 3, "L" (grey) gives C = 1.
        limit: read the first so many only.
        convert: bring pictures of another mode to this one; else they are refused.

    Returns:
        An iterator over (name, pixels uint8 (H, W, C)). It reads as it goes: one picture is in memory at a time.

    Raises:
        KitError: no such path, no zip, no picture in it (at once); a picture that cannot be read, or is of another
            mode and may not be converted, named (on the way).
    """
    return _decoded(path, _read(path, picture_names(path)[:limit]), mode, convert=convert)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip for reading.

    Raises:
        KitError: it is no zip, or its end (where the list of entries stands) is missing.
    """
    try:
        return zipfile.ZipFile(path)
    except BAD_ZIP as error:
        raise KitError(f"{path}: not a zip, or a truncated one ({error})", "make or copy it again") from error
    except OSError as error:
        raise KitError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, limit: int = MAX_BYTES) -> bytes:
    """One entry's bytes, its checksum compared.

    Raises:
        ValueError: more than `limit` bytes come out, whatever size the zip states.
        One of ENTRY_ERRORS: it is damaged, encrypted or packed in an unknown way.
    """
    with archive.open(info) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"over {limit:,} bytes when unpacked")
    return data


def picture_digest(pixels: Pixels) -> bytes:
    """SHA-256 over a picture's shape ("H W C" in ASCII) and its bytes, row by row: 32 bytes."""
    return hashlib.sha256("{} {} {}".format(*pixels.shape).encode() + pixels.tobytes()).digest()


def pixels_digest(digests: Iterable[bytes]) -> str:
    """SHA-256, in hexadecimal, over the pictures' digests in the order of their names.

    Equal for two archives with the same pictures, whatever wrote them: the bytes of a PNG depend on the version of
    zlib, its pixels do not.
    """
    return hashlib.sha256(b"".join(digests)).hexdigest()


def resize(pixels: Pixels, size: int) -> Pixels:
    """(B, H, W, C) to (B, size, size, C) by Pillow's LANCZOS, which antialiases and is the same on every machine."""
    grey = pixels.shape[-1] == 1
    pictures = (Image.fromarray(picture[:, :, 0] if grey else picture) for picture in pixels)
    resized = np.stack([np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)) for picture in pictures])
    return resized[:, :, :, None] if grey else resized


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    chunk: int = 64,
    initializer: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Like `map`, in threads, for functions that release the GIL (torch, Pillow's coders and zlib do).

    Args:
        function: called once for each item; its exception is raised at the item's turn.
        items: read from the calling thread, at most `chunk` ahead of the results that are taken.
        workers: threads.
        chunk: items that the threads work on before the next are read.
        initializer: called by each thread before its first item.
    """
    items = iter(items)
    with ThreadPoolExecutor(workers, initializer=initializer) as pool:
        while some := list(islice(items, chunk)):
            yield from pool.map(function, some)


def _names(path: Path) -> list[str]:
    if path.is_dir():
        return [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    if not path.exists():
        raise KitError(f"{path}: no such file or folder")
    with open_zip(path) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir()]


def _is_picture(name: str) -> bool:
    # A Mac's zip holds a shadow of each file: __MACOSX/._NAME.
    parts = PurePosixPath(name).parts
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
    return name.lower().endswith(SUFFIXES) and not hidden


def _read(path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of each file, of those that are too large as many as show it."""
    if path.is_dir():
        for name in names:
            try:
                with (path / name).open("rb") as file:
                    yield name, file.read(MAX_BYTES + 1)
            except OSError as error:
                raise KitError(f"{path / name}: cannot be read ({error.strerror or error})") from error
        return
    with open_zip(path) as archive:
        for name in names:
            try:
                yield name, read_entry(archive, archive.getinfo(name))
            except ENTRY_ERRORS as error:
                raise KitError(f"{path}: {name} cannot be read ({error})", "make or copy it again") from error


def _decoded(
    path: Path, files: Iterable[tuple[str, bytes]], mode: Literal["RGB", "L"], *, convert: bool
) -> Iterator[tuple[str, Pixels]]:
    for name, data in files:
        try:
            yield name, load_pixels(data, mode, convert=convert)
        except BadFile as error:
            where = path / name if path.is_dir() else f"{path}: {name}"
            raise KitError(f"{where} is no picture that can be read ({error})", "remove or replace it") from error


def load_pixels(data: bytes, mode: Literal["RGB", "L"], *, convert: bool = True) -> Pixels:
    """The pixels in the bytes of a file, (H, W, C).

    Raises:
        BadFile: it is no picture, too large, damaged, or of a mode that is not converted.
    """
    if len(data) > MAX_BYTES:
        raise BadFile(f"over {MAX_BYTES:,} bytes")
    with open_image(data, max_pixels=MAX_PIXELS) as picture:
        # Pillow would clip 16-bit grey at 255, and the picture would be white.
        if picture.mode.startswith(("I", "F")):
            raise BadFile(f"mode {picture.mode}, more than 8 bits a channel")
        if not convert and picture.mode != mode:
            raise BadFile(f"mode {picture.mode}, and {mode} is wanted")
        try:
            pixels = np.asarray(picture.convert(mode))
        except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
            raise BadFile(reason(error)) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
