"""What a run leaves beside `images.zip`: its films and its page, in the time that is left for them at its end.

By then `images.zip` lies checked in the run folder. Nothing that goes wrong here makes the run fail, and what there was
no time for is made by `kit report`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from kit.core.errors import KitError
from kit.core.progress import Progress, no_progress
from kit.generation.video import gif, has_encoder, mp4
from kit.report.page_pictures import evenly, open_picture
from kit.report.run_data import grids
from kit.training.run_folder import read_run

log = logging.getLogger(__name__)

GIF, MP4 = "film.gif", "film.mp4"

FRAMES = 300
"""A film is no longer than this, however long the run was."""

LENGTH_S = 10
"""What a film should last; the frame rate follows from it."""

RATES = (4, 25)
"""Frames per second, at least and at most."""

HOLD_S = 2.0
"""How long the GIF stands on its last frame before it begins again."""

SPARE_S = 1.5
"""Seconds left alone for taking the process down."""

MP4_FACTOR = 3.5
"""A frame of the MP4 takes so many times as long as one of the GIF (35 ms and 10 ms at 526 px)."""

PAGE_FRAMES, PAGE_S = 120, 0.7
"""The page's film has at most so many frames, each as long in the making as one of the GIF; the rest of the page takes
so many seconds."""

GALLERY = 1100
"""Pictures of the page's interpolation and of 120 breeds; a run that generates fewer does without them."""

MARGIN = 1.5
"""An estimate is taken so many times: a shared machine slows."""


class Film(NamedTuple):
    """What `film` wrote."""

    gif: Path
    mp4: Path | None  # None where PyAV is not installed
    frames: int


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
                for add in writers:
                    add(picture)
                frames += 1
            progress(done, len(chosen))
    return Film(gif=run / GIF, mp4=run / MP4 if len(writers) > 1 else None, frames=frames)


def needed_seconds(size: tuple[int, int], *, frames: int) -> float:
    """Seconds that the film and the page of a run take in full, by what a frame takes here and now.

    Args:
        size: width and height of its grids, pixels.
        frames: its grids, as far as it is known how many there will be.
    """
    frame_s = MARGIN * _frame_seconds(Image.effect_noise(size, 64).convert("RGB"))
    return PAGE_S + frame_s * (min(frames, PAGE_FRAMES) + _gif_frames(min(frames, FRAMES)))


def make_artifacts(run: Path, *, left_s: float | None, told_to_stop: Callable[[], bool]) -> None:
    """Makes `film.gif`, `film.mp4` and `report.html` of a run, as far as there is time.

    Args:
        run: the run's folder, its record final.
        left_s: seconds until the process must have ended; None: as long as it takes.
        told_to_stop: asked at every frame; true gives up.
    """
    try:
        _make(run, time.monotonic() + (math.inf if left_s is None else left_s - SPARE_S), told_to_stop)
    except _StoppedError:
        log.info(f"told to stop: `kit report {run}` makes the film and the page")
    except Exception as error:  # an odd picture or a full disk is no reason to lose a run that is whole
        log.info(f"no film or page ({error}): `kit report {run}` tries again")


def _make(run: Path, ends: float, told_to_stop: Callable[[], bool]) -> None:
    found = grids(run)
    last = open_picture(found[-1].path) if found else None
    frame_s = MARGIN * (_frame_seconds(last) if last else 1.0)

    def page_frames() -> tuple[int, float]:
        """Frames that there is time for in the page, and seconds that are left beside it; -1: too few for a page."""
        left_s = ends - time.monotonic() - PAGE_S
        frames = int(min(max(left_s, 0.0) / frame_s, PAGE_FRAMES, len(found)))
        enough = left_s >= 0 and frames >= min(2, len(found))
        return frames, left_s - frame_s * frames if enough else -1.0

    def watch(done: int, total: int) -> None:
        if told_to_stop():
            raise _StoppedError

    _, left_s = page_frames()
    if left_s == -1.0:
        log.info(f"no time left for the film and the page: `kit report {run}` makes them")
        return
    most = int(min(left_s / frame_s / _gif_frames(1), FRAMES))
    if min(most, len(found)) > 1:
        film(run, most=most, progress=watch)
        if not has_encoder():
            log.info('film.gif alone: for film.mp4, `pip install "kit[video]"`')
    elif len(found) > 1:
        log.info(f"no time left for the film: `kit report {run}` makes it")

    frames, left_s = page_frames()
    if left_s == -1.0:
        log.info(f"no time left for the page: `kit report {run}` writes it")
        return
    # These load what nothing but a page needs.
    from kit.report.page import write_report
    from kit.report.page_pictures import draw_gallery

    record, gallery = read_run(run), None
    if record.result and record.seconds and record.result.count >= GALLERY:
        gallery_s = record.seconds.finishing * GALLERY / record.result.count  # by what generating took
        gallery = draw_gallery(run, progress=watch) if left_s >= MARGIN * gallery_s else None
    write_report(run, gallery=gallery, most_frames=frames)


def _frame_seconds(picture: Image.Image) -> float:
    """What a frame of the GIF takes here and now."""
    began = time.monotonic()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    return time.monotonic() - began


def _gif_frames(frames: int) -> float:
    """Both films of so many frames, counted in frames of the GIF."""
    return frames * (1 + MP4_FACTOR * has_encoder())


class _StoppedError(Exception):
    """A signal asked for the end."""
