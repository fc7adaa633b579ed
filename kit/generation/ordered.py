"""Work on all cores, results in order, and never more than a handful of items in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Handing one item to a thread costs about as much as a tenth of encoding it; in sixteens that is nothing.
CHUNK = 16


def map_ordered(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Like `map`, on several threads, for functions that release the GIL (Pillow's coders and zlib do).

    Unlike `Executor.map` it takes items only as fast as results are taken, so a stream of any length fits.

    Args:
        function: called once for each item; its exception is raised here, at the item's turn.
        items: read from this thread only, so it may come from a network or an open archive.
        workers: threads.
    """
    items = iter(items)
    waiting: deque[Future[list[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        while chunk := list(islice(items, CHUNK)):
            waiting.append(pool.submit(_each, function, chunk))
            # One chunk being worked on and one in reserve for each thread.
            if len(waiting) >= 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _each(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]
