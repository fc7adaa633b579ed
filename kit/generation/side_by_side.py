"""Long pieces of work with torch on a CPU, several at once, each with its share of the threads.

Threads that share one pass of a network wait for each other at the end of every layer, and for those that meanwhile
encode the last pass's pictures; threads with a pass each do not. (bench/generation.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch

from kit.generation.ordered import map_ordered

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 4
"""Most of them: each has a network's activations in memory."""


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Like `map`, some items ahead of what is taken.

    Args:
        function: called in threads of their own.
        items: see `map_ordered`.
    """
    threads = torch.get_num_threads()
    at_once = min(threads, AT_ONCE)
    try:
        share = partial(torch.set_num_threads, threads // at_once)
        yield from map_ordered(function, items, workers=at_once, chunk=1, begin=share)
    finally:
        # What a thread sets is its own, but not MKL's number: that is the whole process's.
        torch.set_num_threads(threads)
