"""What a run keeps of itself at its end: its film and its page, in the time that is left for them.

By then `images.zip` lies checked in the run folder. Nothing that goes wrong here makes the run fail, and what there was
no time for is made by `kit report`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from kit.generation.video import has_encoder
from kit.report.pictures import FRAMES, film, grids, open_picture
from kit.run import budget
from kit.training.run_folder import read_run
from kit.training.run_record import RunRecord

SPARE_S = 1.5
"""Seconds left alone for taking the process down."""

MP4_FACTOR = 3.5
"""A frame of the MP4 takes so many times as long as one of the GIF (35 ms and 10 ms at 526 px)."""

PAGE_FRAMES, PAGE_S = 120, 0.7
"""The page's film has at most so many frames, each as long in the making as one of the GIF; the rest of the page takes
so many seconds."""

GALLERY = 1100
"""Pictures of the page's walk and of 120 breeds; a run that generates fewer does without them."""

MARGIN = 1.5
"""An estimate is taken so many times: a shared machine slows."""


def reserve(budget_s: float, *, tile: int, columns: int) -> float:
    """Seconds of a budget to keep back for the film and the page of a run, by what a frame takes here and now.

    Args:
        budget_s: seconds for the whole process.
        tile: side of a picture on the run's grids, pixels.
        columns: pictures in a row, and in a column.
    """
    side = columns * tile
    ticks = math.ceil(budget_s / budget.tick_seconds(budget_s)) if budget_s else 0
    return budget.keepsakes(budget_s, needed_s=needed((side, side), frames=ticks + 1))


def needed(size: tuple[int, int], *, frames: int) -> float:
    """Seconds that the film and the page of a run take in full, by what a frame takes here and now.

    Args:
        size: width and height of its grids, pixels.
        frames: its grids, as far as it is known how many there will be.
    """
    frame_s = MARGIN * _frame_seconds(Image.effect_noise(size, 64).convert("RGB"))
    return PAGE_S + frame_s * (min(frames, PAGE_FRAMES) + _film_frames(frames))


def keep(run: Path, *, left_s: float | None, told_to_stop: Callable[[], bool], tell: Callable[[str], None]) -> None:
    """Makes `film.gif`, `film.mp4` and `report.html` of a run, as far as there is time.

    Args:
        run: the run's folder, its record final.
        left_s: seconds until the process must have ended; None: as long as it takes.
        told_to_stop: asked at every frame; true gives up.
        tell: is told, in a line, what was left out and why.
    """
    try:
        _keep(run, math.inf if left_s is None else left_s - SPARE_S, told_to_stop, tell)
    except _StoppedError:
        tell(f"told to stop: `kit report {run}` makes the film and the page")
    except Exception as error:  # an odd picture or a full disk is no reason to lose a run that is whole
        tell(f"no film or page ({error}): `kit report {run}` tries again")


def _keep(run: Path, left_s: float, told_to_stop: Callable[[], bool], tell: Callable[[str], None]) -> None:
    ends = time.monotonic() + left_s
    found = grids(run)
    last = open_picture(found[-1].path) if found else None
    frame_s = MARGIN * (_frame_seconds(last) if last else 1.0)

    def page_frames() -> int | None:
        """Frames that there is time for in the page; None: there is none for a page at all."""
        left = ends - time.monotonic() - PAGE_S
        count = int(min(max(left, 0.0) / frame_s, PAGE_FRAMES, len(found)))
        return count if left >= 0 and count >= min(2, len(found)) else None

    def watch(done: int, total: int) -> None:
        if told_to_stop():
            raise _StoppedError

    reserved = page_frames()
    if reserved is None:
        tell(f"no time left for the film and the page: `kit report {run}` makes them")
        return
    for_film_s = ends - time.monotonic() - PAGE_S - reserved * frame_s
    affordable = int(min(for_film_s / frame_s / _film_frames(1), FRAMES))
    if min(affordable, len(found)) > 1:
        film(run, most=affordable, progress=watch)
        if not has_encoder():
            tell('film.gif alone: for film.mp4, `pip install "kit[video]"`')
    elif len(found) > 1:
        tell(f"no time left for the film: `kit report {run}` makes it")

    frames = page_frames()
    if frames is None:
        tell(f"no time left for the page: `kit report {run}` writes it")
        return
    # These load what nothing but a page needs.
    from kit.report.gallery import draw
    from kit.report.page import write_report

    left = ends - time.monotonic() - PAGE_S - frames * frame_s
    gallery_s = _gallery_seconds(read_run(run))
    in_time = gallery_s is not None and left >= MARGIN * gallery_s
    gallery = draw(run, trust=True, progress=watch) if in_time else None
    write_report(run, gallery=gallery, most_frames=frames)


def _frame_seconds(picture: Image.Image) -> float:
    """What a frame of the GIF takes here and now."""
    began = time.monotonic()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    return time.monotonic() - began


def _film_frames(grids: int) -> float:
    """The films of so many grids, counted in frames of the GIF."""
    return min(grids, FRAMES) * (1 + MP4_FACTOR * has_encoder())


def _gallery_seconds(record: RunRecord) -> float | None:
    """What the gallery will take, by what generating took; None for a run that does without."""
    result, seconds = record.result, record.seconds
    if not result or not seconds or result.count < GALLERY:
        return None
    return seconds.finishing * GALLERY / result.count


class _StoppedError(Exception):
    """A signal asked for the end."""
