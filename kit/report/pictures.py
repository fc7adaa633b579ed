"""The sample grids of a run, and the film they make."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from kit.errors import KitError
from kit.files import atomic

GIF, MP4 = "film.gif", "film.mp4"

FRAMES = 300
"""A film is no longer than this, however long the run was."""

LENGTH_S = 10
"""What a film should last; the frame rate follows from it."""

RATES = (4, 25)
"""Frames per second, at least and at most."""

HOLD_S = 2.0
"""How long the GIF stands on its last frame before it begins again."""

GIF_PIXELS = 24_000_000
"""Pixels of all frames of the GIF: at about 0.7 bytes each, 17 MB at most. More frames are therefore smaller."""

MP4_SIDE = 1024
"""Longest side of the MP4, which compresses forty times as well."""

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


class Grid(NamedTuple):
    """A sheet of samples from the run's fixed latents."""

    path: Path
    pictures: int  # seen when it was drawn


@dataclass(frozen=True)
class Film:
    """What `film` wrote."""

    gif: Path
    mp4: Path | None  # None where PyAV is not installed
    frames: int


def grids(run: Path) -> list[Grid]:
    """The grids of a run folder, `samples/<pictures seen>.png`, in the order of training."""
    files = (run / "samples").glob("*.png")
    found = [Grid(file, int(file.stem)) for file in files if file.stem.isascii() and file.stem.isdigit()]
    return sorted(found, key=lambda grid: grid.pictures)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [count - 1]


def open_picture(path: Path) -> Image.Image | None:
    """A picture in RGB, decoded; None where it cannot be."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def film(run: Path, *, progress: Progress = no_progress) -> Film:
    """Makes `film.gif` and, where PyAV is installed, `film.mp4` of a run's grids.

    The GIF is small enough to be sent around; the MP4 (H.264) keeps the grids' own size up to 1024 px. Grids that
    cannot be read, or are of another size than the last one, are left out.

    Args:
        run: the run's folder.
        progress: called with (frames done, frames).

    Raises:
        KitError: no grid can be read, or the disk is full.
    """
    every = grids(run)
    chosen = [every[i] for i in evenly(len(every), FRAMES)]
    last = next((picture for grid in reversed(chosen) if (picture := open_picture(grid.path))), None)
    if last is None:
        raise KitError(f"{run / 'samples'}: no sample grid to make a film of", "a run draws one at every tick")
    width, height = last.size
    rate = min(max(math.ceil(len(chosen) / LENGTH_S), RATES[0]), RATES[1])
    small = min(1.0, math.sqrt(GIF_PIXELS / len(chosen) / (width * height)))

    palettes: list[Image.Image] = []
    with _mp4(run / MP4, last.size, rate) as video:
        for done, grid in enumerate(chosen, 1):
            picture = open_picture(grid.path)
            if picture is not None and picture.size == last.size:
                video.add(picture)
                # An octree is thirty times as fast as Pillow's default, and each frame has a palette of its own.
                palettes.append(_scaled(picture, small).quantize(256, method=Image.Quantize.FASTOCTREE))
            progress(done, len(chosen))
    durations = [1000 // rate] * (len(palettes) - 1) + [round(1000 * HOLD_S)]
    with atomic(run / GIF) as file:
        palettes[0].save(file, "GIF", save_all=True, append_images=palettes[1:], duration=durations, loop=0)
    return Film(gif=run / GIF, mp4=run / MP4 if video.writes else None, frames=len(palettes))


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


class _Video(Protocol):
    writes: bool

    def add(self, picture: Image.Image) -> None: ...


class _NoVideo:
    writes = False

    def add(self, picture: Image.Image) -> None:
        pass


@contextlib.contextmanager
def _mp4(path: Path, size: tuple[int, int], rate: int) -> Iterator[_Video]:
    """A video to add frames to; one that keeps none where there is nothing to encode with."""
    if importlib.util.find_spec("av") is None:
        yield _NoVideo()
        return
    with atomic(path) as file, _H264(file, size, rate) as video:
        yield video


class _H264:
    """Writes frames as H.264 in the pixel format that every player takes."""

    writes = True

    def __init__(self, file: BinaryIO, size: tuple[int, int], rate: int) -> None:
        import av

        scale = min(1.0, MP4_SIDE / max(size))
        # Colour is stored at half the resolution, so both sides are even.
        self._size = tuple(max(2, round(side * scale) // 2 * 2) for side in size)
        self._frame = av.VideoFrame.from_ndarray
        self._file = av.open(file, "w", format="mp4")
        self._stream = self._file.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "fast"})
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"

    def __enter__(self) -> _H264:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.mux(self._stream.encode(None))
        self._file.close()

    def add(self, picture: Image.Image) -> None:
        if picture.size != self._size:
            width, height = self._size
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        self._file.mux(self._stream.encode(self._frame(np.asarray(picture), format="rgb24")))
