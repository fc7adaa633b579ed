"""The sample grids of a run, and the film they make."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from kit.core.errors import KitError
from kit.generation.video import gif, has_encoder, mp4

GIF, MP4 = "film.gif", "film.mp4"

FRAMES = 300
"""A film is no longer than this, however long the run was."""

LENGTH_S = 10
"""What a film should last; the frame rate follows from it."""

RATES = (4, 25)
"""Frames per second, at least and at most."""

HOLD_S = 2.0
"""How long the GIF stands on its last frame before it begins again."""

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


def film(run: Path, *, most: int = FRAMES, progress: Progress = no_progress) -> Film:
    """Makes `film.gif` and, where PyAV is installed, `film.mp4` of a run's grids.

    The GIF is small enough to be sent around; the MP4 (H.264) keeps the grids' own size up to 1024 px. Grids that
    cannot be read, or are of another size than the last one, are left out.

    Args:
        run: the run's folder.
        most: frames.
        progress: called with (frames done, frames).

    Raises:
        KitError: no grid can be read, or the disk is full.
    """
    every = grids(run)
    chosen = [every[i] for i in evenly(len(every), most)]
    last = next((picture for grid in reversed(chosen) if (picture := open_picture(grid.path))), None)
    if last is None:
        raise KitError(f"{run / 'samples'}: no sample grid to make a film of", "a run draws one at every tick")
    rate = min(max(math.ceil(len(chosen) / LENGTH_S), RATES[0]), RATES[1])
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(gif(run / GIF, last.size, rate=rate, frames=len(chosen), hold_s=HOLD_S))]
        if has_encoder():
            writers.append(files.enter_context(mp4(run / MP4, last.size, rate=rate)))
        frames = 0
        for done, grid in enumerate(chosen, 1):
            picture = open_picture(grid.path)
            if picture is not None and picture.size == last.size:
                for writer in writers:
                    writer.add(picture)
                frames += 1
            progress(done, len(chosen))
    return Film(gif=run / GIF, mp4=run / MP4 if len(writers) > 1 else None, frames=frames)
