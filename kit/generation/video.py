"""Frames to a video: GIF, which every viewer shows, and MP4, which takes a fortieth of the space."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image

from kit.core.errors import KitError
from kit.core.files import atomic

GIF_PIXELS = 12_000_000
"""Pixels of all frames of a GIF: at about 0.7 bytes each, 8 MB at most. More frames are therefore smaller."""

VIDEO_SUFFIXES = (".gif", ".mp4")

MARK = b"made with kit"
"""A comment in the files that `kit sample` writes."""

MP4_SIDE = 1024
"""Longest side of an MP4, which compresses forty times as well."""


class Writer(Protocol):
    """A video that is being written."""

    def add(self, picture: Image.Image) -> None:
        """Appends a frame of mode RGB and of the video's size."""


def has_encoder() -> bool:
    """Whether MP4 can be written here: PyAV is an extra."""
    return importlib.util.find_spec("av") is not None


@contextlib.contextmanager
def gif(path: Path, size: tuple[int, int], *, rate: int, frames: int, hold_s: float = 0.0) -> Iterator[Writer]:
    """A GIF that repeats, to add frames to; it is written whole or not at all.

    Args:
        path: the file.
        size: width and height of the frames, pixels; more than `GIF_PIXELS` in all are reduced.
        rate: frames per second.
        frames: how many will come.
        hold_s: how long it shows the last frame before it repeats.
    """
    scale = min(1.0, math.sqrt(GIF_PIXELS / frames / (size[0] * size[1])))
    writer = _Gif((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
    yield writer
    first, *rest = writer.frames
    durations = [1000 // rate] * len(rest) + [round(1000 * hold_s) or 1000 // rate]
    with atomic(path) as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, comment=MARK)


@contextlib.contextmanager
def mp4(path: Path, size: tuple[int, int], *, rate: int) -> Iterator[Writer]:
    """An MP4 (H.264) to add frames to; it is written whole or not at all.

    Args:
        path: the file.
        size: width and height of the frames, pixels; longer sides than `MP4_SIDE` are reduced.
        rate: frames per second.

    Raises:
        KitError: PyAV is not installed.
    """
    if not has_encoder():
        raise KitError(f"{path}: MP4 needs PyAV", 'install it with `pip install "kit[video]"`, or write a .gif')
    with atomic(path) as file, _H264(file, size, rate) as writer:
        yield writer


def write_video(path: Path, frames: Iterable[Image.Image], *, count: int, rate: int) -> None:
    """Writes a video that repeats.

    Args:
        path: FILE.gif or FILE.mp4.
        frames: at least one, of mode RGB and one size.
        count: how many there are.
        rate: frames per second.

    Raises:
        KitError: MP4 without PyAV, or a full disk.
    """
    frames = iter(frames)
    first = next(frames)
    is_gif = path.suffix == ".gif"
    with gif(path, first.size, rate=rate, frames=count) if is_gif else mp4(path, first.size, rate=rate) as writer:
        writer.add(first)
        for picture in frames:
            writer.add(picture)


class _Gif:
    def __init__(self, size: tuple[int, int]) -> None:
        self.frames: list[Image.Image] = []
        self._size = size

    def add(self, picture: Image.Image) -> None:
        if picture.size != self._size:
            picture = picture.resize(self._size, Image.Resampling.LANCZOS)
        # An octree is thirty times as fast as Pillow's default, and each frame has a palette of its own.
        self.frames.append(picture.quantize(256, method=Image.Quantize.FASTOCTREE))


class _H264:
    """Writes H.264 in the pixel format that every player supports."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], rate: int) -> None:
        import av

        scale = min(1.0, MP4_SIDE / max(size))
        # Colour is stored at half the resolution, so both sides are even.
        self._size = (max(2, round(size[0] * scale) // 2 * 2), max(2, round(size[1] * scale) // 2 * 2))
        self._frame = av.VideoFrame.from_ndarray
        self._file = av.open(file, "w", format="mp4")
        self._file.metadata["comment"] = MARK.decode()
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
            picture = picture.resize(self._size, Image.Resampling.LANCZOS)
        self._file.mux(self._stream.encode(self._frame(np.asarray(picture), format="rgb24")))
