"""Threads with order and with bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from kit.generation.ordered import CHUNK, map_ordered


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, 10 * CHUNK + 1])
def test_results_come_in_order(workers: int, count: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.01 if item == 0 else 0)
        return item * item

    assert list(map_ordered(slow_at_first, range(count), workers=workers)) == [item**2 for item in range(count)]


def test_items_are_taken_only_as_results_are() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while taken < 10_000:
            taken += 1
            yield taken

    results = map_ordered(lambda item: item, source(), workers=2)
    for done in range(1, 500):
        next(results)
        assert taken - done < 5 * CHUNK


def test_an_exception_comes_at_its_turn_and_ends_the_threads() -> None:
    before = threading.active_count()

    def fail(item: int) -> int:
        if item == 40:
            raise ValueError("forty")
        return item

    results = map_ordered(fail, range(1000), workers=3)
    assert [next(results) for _ in range(2 * CHUNK)] == list(range(2 * CHUNK))
    with pytest.raises(ValueError, match="forty"):
        list(results)
    assert threading.active_count() == before


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    results = map_ordered(lambda item: item, range(1000), workers=3)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_work_is_spread() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(map_ordered(lambda item: both.wait(), range(2 * CHUNK), workers=2))) == 2 * CHUNK


def test_each_thread_begins_before_its_first_item() -> None:
    begun: set[int] = set()
    results = map_ordered(
        lambda _: threading.get_ident() in begun,
        range(50),
        workers=3,
        chunk=1,
        begin=lambda: begun.add(threading.get_ident()),
    )
    assert all(results)
    assert 1 <= len(begun) <= 3
