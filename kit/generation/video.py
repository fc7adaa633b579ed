"""Frames to a video: GIF, which every viewer shows, and MP4, which takes a fortieth of the space."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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

AddFrame = Callable[[Image.Image], None]
"""Appends a frame of mode RGB and of the video's size."""


def has_encoder() -> bool:
    """Whether MP4 can be written here: PyAV is an extra."""
    return importlib.util.find_spec("av") is not None


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


@contextlib.contextmanager
def gif(path: Path, size: tuple[int, int], *, rate: int, frames: int, hold_s: float = 0.0) -> Iterator[AddFrame]:
    """A GIF that repeats, to add frames to; it is written whole or not at all.

    Args:
        path: the file.
        size: width and height of the frames, pixels; more than `GIF_PIXELS` in all are reduced.
        rate: frames per second.
        frames: how many will come.
        hold_s: how long it shows the last frame before it repeats.
    """
    scale = min(1.0, math.sqrt(GIF_PIXELS / frames / (size[0] * size[1])))
    width, height = (max(1, round(side * scale)) for side in size)
    added: list[Image.Image] = []
    # An octree is thirty times as fast as Pillow's default, and each frame has a palette of its own.
    yield lambda p: added.append(_resized(p, (width, height)).quantize(256, method=Image.Quantize.FASTOCTREE))
    first, *rest = added
    durations = [1000 // rate] * len(rest) + [round(1000 * hold_s) or 1000 // rate]
    with atomic(path) as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, comment=MARK)


@contextlib.contextmanager
def mp4(path: Path, size: tuple[int, int], *, rate: int) -> Iterator[AddFrame]:
    """An MP4 (H.264, in the pixel format that every player supports) to add frames to; written whole or not at all.

    Args:
        path: the file.
        size: width and height of the frames, pixels; longer sides than `MP4_SIDE` are reduced.
        rate: frames per second.

    Raises:
        KitError: PyAV is not installed.
    """
    require_encoder(path)
    import av

    scale = min(1.0, MP4_SIDE / max(size))
    # Colour is stored at half the resolution, so both sides are even.
    width, height = (max(2, round(side * scale) // 2 * 2) for side in size)
    with atomic(path) as file, av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = MARK.decode()
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

        def add(picture: Image.Image) -> None:
            pixels = np.asarray(_resized(picture, (width, height)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

        yield add
        container.mux(stream.encode(None))


def require_encoder(path: Path) -> None:
    """Makes sure that an MP4 can be written.

    Raises:
        KitError: PyAV is not installed.
    """
    if not has_encoder():
        raise KitError(f"{path}: MP4 needs PyAV", 'install it with `pip install "kit[video]"`, or write a .gif')


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
    with gif(path, first.size, rate=rate, frames=count) if is_gif else mp4(path, first.size, rate=rate) as add:
        add(first)
        for picture in frames:
            add(picture)
