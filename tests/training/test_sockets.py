"""Processes of one machine talk through sockets, and notice that one of them is gone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import FileStore, HashStore

from kit.training.sockets import Sockets

SIZE = 3


def together(function, size=SIZE):
    """What each of several threads makes of its own end of the connections."""
    store = HashStore()

    def one(rank):
        sockets = Sockets(rank, size, store)
        try:
            return function(sockets)
        finally:
            sockets.close()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(1,), (2, 3, 5), (700, 1000)], ids=str)
def test_all_get_the_same_sum(dtype, shape):
    own = [(torch.randn(shape, generator=torch.Generator().manual_seed(rank)) * 10).to(dtype) for rank in range(SIZE)]

    def add_up(sockets):
        x = own[sockets.rank].clone()
        sockets.add_up(x)
        return x

    first, *others = together(add_up)
    assert torch.equal(first, own[0] + own[1] + own[2])
    assert all(torch.equal(first, other) for other in others)


def test_all_hear_what_the_first_one_says_in_the_midst_of_sums():
    def talk(sockets):
        heard = []
        for turn in range(20):
            x = torch.full((turn,), float(sockets.rank))
            sockets.add_up(x)
            heard += [sockets.tell(("turn", turn, "x" * 1000 * turn) if sockets.rank == 0 else None), x.tolist()]
        return heard

    expected = [part for turn in range(20) for part in (("turn", turn, "x" * 1000 * turn), [3.0] * turn)]
    assert together(talk) == [expected] * SIZE


OTHER = """
import signal, sys
from torch.distributed import FileStore
from kit.training.sockets import Sockets
Sockets(int(sys.argv[1]), 2, FileStore(sys.argv[2], 2))
signal.pause()
"""


@pytest.mark.parametrize(
    ("rank", "wait"),
    [
        (0, lambda sockets: sockets.add_up(torch.ones(4))),
        (0, lambda sockets: sockets.tell("x" * 10**7)),
        (1, lambda sockets: sockets.tell(None)),
    ],
    ids=["a sum", "an ear", "a word"],
)
def test_a_process_that_is_killed_is_noticed(rank, wait, tmp_path):
    store = str(tmp_path / "store")
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(1 - rank), store])
    sockets = Sockets(rank, 2, FileStore(store, 2))
    other.kill()
    other.wait()
    with pytest.raises(ConnectionError):
        wait(sockets)
    sockets.close()
