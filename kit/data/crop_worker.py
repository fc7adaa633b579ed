"""Crops all pictures of a source: on several processes, with the results in order."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from kit.core.errors import KitError
from kit.core.machine import cores
from kit.core.signals import exit_with_parent, ignore_signals
from kit.core.threads import ROUNDS, Trial, numbers, users_number
from kit.data import crops, decoding
from kit.data.annotations import MAX_BYTES, parse
from kit.data.archives import BadFile, Reader
from kit.data.crops import CropSettings, Pixels, Plan
from kit.data.sources import Item
from kit.data.tree import Tree

log = logging.getLogger(__name__)

CHUNK = 16
"""Pictures that a process is given at a time."""

POOL_FROM = 256
"""With fewer pictures, starting processes takes longer than it saves."""

TRIED = 2
"""Chunks for each process in a measurement of a number of processes."""

PAYS = 4
"""Numbers of processes are measured where there are so many times as many pictures as it takes."""

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""Forking takes no time, needs no `if __name__ == "__main__"` in the caller's script, and is safe because the children
start no threads. macOS and Windows do not allow it."""


@dataclass(frozen=True)
class CropJob:
    """The pictures to be cropped and how; each process gets it once."""

    tree: Tree
    items: list[Item]
    policy: str  # a name of CROPS
    settings: CropSettings
    size: int  # side of a sample, in pixels
    channels: int  # 1 for grey, 3 for RGB


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: samples, or a reason why there are none."""

    rejected: str | None = None
    digest: bytes = b""  # of the file's bytes
    plan: Plan = field(default_factory=lambda: Plan(()))
    repairs: tuple[str, ...] = ()  # to the picture, besides those to its boxes
    images: Pixels | None = None  # (n, size, size, C), one a crop
    whole: Pixels | None = None  # (size, size, C); None where it is the one sample itself
    canvas: Pixels | None = None  # (h, w, C)


def outcomes(job: CropJob, *, workers: int | None = None) -> Generator[Outcome]:
    """Reads, decodes and crops all pictures.

    Args:
        job: the pictures, and what is wanted of them.
        workers: processes; with 1 it is done in this one. None: as many as are fastest with the first pictures, all
            cores or fewer, or what OMP_NUM_THREADS says.

    Returns:
        One outcome an item, in the order of the items, read as they are taken: a few are in memory at a time.

    Raises:
        KitError: a process died.
    """
    if job.policy != "whole":
        crops.import_albumentations()  # once, before the processes fork and share it
    fixed = workers or users_number()
    workers = fixed or cores()
    if workers == 1 or len(job.items) < POOL_FROM:
        worker = _Worker(job)
        try:
            for i in range(len(job.items)):
                yield worker.prepare(i)
        finally:
            worker.close()
        return
    context = multiprocessing.get_context(START_METHOD)
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(job,))
    starts = iter(range(0, len(job.items), CHUNK))
    pays = len(job.items) >= PAYS * ROUNDS * TRIED * CHUNK * sum(numbers(workers))
    trial = Trial(workers, fixed=bool(fixed) or not pays)
    try:
        while not trial.is_over():
            began, number = time.monotonic(), trial.number
            some = list(_in_order(pool, job, islice(starts, TRIED * number), at_once=number))
            trial.measured(len(some) / max(time.monotonic() - began, 1e-9))
            yield from some
        if trial.number < workers:
            log.info("%s of %s processes: the fastest here and now", trial.number, workers)
        yield from _in_order(pool, job, starts, at_once=trial.number if trial.number < workers else 4 * workers)
    except BrokenProcessPool as error:
        raise KitError("a process that reads pictures was killed, most likely for memory", "try --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: Executor, job: CropJob, starts: Iterator[int], *, at_once: int) -> Iterator[Outcome]:
    """The outcomes of the chunks that begin at `starts`, with at most so many of them in the pool."""
    waiting: deque[Future[list[Outcome]]] = deque()
    for start in starts:
        waiting.append(pool.submit(_prepare_some, start, min(start + CHUNK, len(job.items))))
        if len(waiting) >= at_once:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


class _Worker:
    def __init__(self, job: CropJob) -> None:
        self._job = job
        self._reader = Reader(job.tree.stores)

    def close(self) -> None:
        self._reader.close()

    def prepare(self, number: int) -> Outcome:
        # What Pillow warns of is rejected here with a reason, or harmless.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._prepare(self._job.items[number])
            except BadFile as error:
                return Outcome(rejected=str(error))
            except MemoryError:
                return Outcome(rejected="too large for the memory of this machine")

    def _prepare(self, item: Item) -> Outcome:
        job = self._job
        data = self._reader.read(item.picture)
        digest = hashlib.sha256(data).digest()
        picture = decoding.open_picture(data)
        boxes = None
        if item.annotation and crops.CROPS[job.policy].region:
            note = parse(self._reader.read(item.annotation, limit=MAX_BYTES))
            boxes = [picture.exif_transpose(box, note.size) for box in note.boxes]
        plan = crops.plan(boxes, picture.width, picture.height, job.policy, job.settings)
        if not plan.crops:
            return Outcome(digest=digest, plan=plan)

        everything = (0, 0, picture.width, picture.height)
        regions = [crop.box or everything for crop in plan.crops]
        least = min(min(box[2] - box[0], box[3] - box[1]) for box in regions)
        image, reduced = picture.decode(job.channels, least=least, size=job.size)
        extent = (picture.width / reduced, picture.height / reduced)

        whole = crops.resize_to_square(image, extent, job.size)
        pixels = np.asarray(image) if any(crop.box for crop in plan.crops) else None
        images = [
            whole if crop.box is None or pixels is None else crops.cut(pixels, crop.box, job.size, reduced=reduced)
            for crop in plan.crops
        ]
        return Outcome(
            digest=digest,
            plan=plan,
            repairs=tuple(picture.repairs),
            images=np.stack(images),
            whole=whole if job.policy != "whole" else None,
            canvas=crops.to_canvas(image, extent, job.size) if crops.CROPS[job.policy].canvas else None,
        )


# A pool's function reaches what its initializer made only through the module; it exists in the children alone.
_worker: _Worker | None = None


def _start(job: CropJob) -> None:
    global _worker
    ignore_signals()  # Ctrl-C reaches all of the group; the parent ends its children
    exit_with_parent()
    _worker = _Worker(job)


def _prepare_some(start: int, stop: int) -> list[Outcome]:
    assert _worker is not None
    return [_worker.prepare(i) for i in range(start, stop)]
