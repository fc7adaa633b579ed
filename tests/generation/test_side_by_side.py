"""Several passes at once on a CPU: the same pictures, and the process as it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from kit.core.errors import KitError
from kit.generation.generate import sample
from kit.generation.side_by_side import AT_ONCE, side_by_side
from kit.models.registry import build, get

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3, 9])
def threads(request):
    """As many threads as torch is told that it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("row", ["dcgan", "sagan", "r3gan"])
def test_pictures_are_those_of_one_pass_after_the_other(row, precision, monkeypatch):
    torch.manual_seed(0)
    generator, _ = build(get(row).recipe.override(["width=8"]), size=32, channels=3, classes=3)
    generator.eval()

    def draw() -> np.ndarray:
        return np.concatenate(
            list(sample(generator, count=90, size=32, seed=0, device=CPU, batch=16, precision=precision))
        )

    ahead = draw()
    monkeypatch.setattr("kit.generation.generate.side_by_side", map)
    assert np.array_equal(ahead, draw())


def test_threads_are_shared_out_and_given_back(threads):
    found = list(side_by_side(lambda _: torch.get_num_threads(), range(20)))
    assert set(found) == {threads // min(threads, AT_ONCE)}
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this build of torch has no MKL")
def test_mkl_has_its_threads_again(threads):
    def of_mkl() -> str:
        return next(line for line in torch.__config__.parallel_info().splitlines() if "mkl_get_max_threads" in line)

    before = of_mkl()
    list(side_by_side(lambda _: None, range(20)))
    assert of_mkl() == before


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_two_are_at_work_at_the_same_time(threads):
    together = threading.Barrier(2, timeout=60)
    list(side_by_side(lambda _: together.wait(), range(6)))


def test_a_failure_comes_at_its_turn_and_threads_are_given_back(threads):
    def fail(item: int) -> int:
        if item == 3:
            raise KitError("no picture")
        return item

    results = side_by_side(fail, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KitError, match="no picture"):
        next(results)
    assert torch.get_num_threads() == threads


def test_no_more_is_drawn_ahead_than_threads_need(threads):
    begun = []
    results = side_by_side(begun.append, range(1000))
    next(results)
    assert len(begun) <= 2 * AT_ONCE
    results.close()
