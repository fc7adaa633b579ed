"""Two processes give what one gives: weights, buffers, gradients, in float64."""

from __future__ import annotations

import pytest
import torch
from crew_tools import CASES, PROCESSES, trained, work

from kit.core.errors import KitError
from kit.run import launch
from kit.training import distributed
from kit.training.random import BatchSlice, SlicedGenerator, randomness


@pytest.fixture(scope="module")
def data(make_set, tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("crew") / "set", n=32, size=16, classes=2).path


@pytest.fixture(scope="module", params=["sockets", "process group"])
def crews(request, data, tmp_path_factory):
    """What each of two processes ends with, by case."""
    out = tmp_path_factory.mktemp("crew")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.start_processes(
        work, args=(request.param, store.port, data, out), nprocs=PROCESSES, start_method="spawn"
    )
    return [torch.load(out / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.fixture
def double():
    """Tensors are float64 for a while."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_whole_batch(case, crews, data, double):
    alone = trained(case, data, distributed.SINGLE_PROCESS)
    assert sum(key.endswith("'") for key in alone) > 4
    for found in crews:
        assert found[case].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[case][key], value, rtol=1e-8, atol=1e-10, msg=key)


@pytest.mark.parametrize("case", CASES)
def test_all_processes_end_with_the_same_bits(case, crews):
    first, second = (found[case] for found in crews)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("rows", "parts"), [(8, 2), (7, 3), (5, 5), (3, 4), (64, 1)])
def test_shares_cover_every_row_once(rows, parts):
    shares = BatchSlice(2, 2 + rows, 100).split(parts)
    assert [row for share in shares for row in range(share.first, share.last)] == list(range(2, 2 + rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sum(share.weight for share in shares) == pytest.approx(rows / 100)


@pytest.mark.parametrize("method", ["uniform", "normal", "integers"])
def test_a_share_gets_the_numbers_of_its_rows(method):
    def draw(stream: SlicedGenerator, rows: int) -> list[torch.Tensor]:
        bounds = (0, 100) if method == "integers" else ()
        return [getattr(stream, method)(*bounds, rows, *shape) for shape in ((), (3,), (2, 2))]

    device = torch.device("cpu")
    whole = draw(randomness(1, "test", 5, device), 20)
    for share in BatchSlice(0, 20, 20).split(3):
        for all_rows, own in zip(whole, draw(randomness(1, "test", 5, device, share), len(share)), strict=True):
            assert torch.equal(own, all_rows[share.first : share.last])


def test_a_batch_too_small_to_be_shared_is_said():
    with pytest.raises(KitError, match="2 pictures at a time cannot be shared by 3 processes"):
        distributed.Distributed(0, 3).own(BatchSlice(0, 2, 2))


@pytest.mark.parametrize("gpus", ["0", "-1", "1.5", "", "every"])
def test_what_is_no_number_of_gpus_is_refused(gpus):
    with pytest.raises(KitError, match="neither all nor a number"):
        launch.processes(gpus)


@pytest.mark.parametrize(
    ("there", "gpus", "processes"),
    [(0, None, 1), (0, "all", 1), (0, "3", 3), (2, None, 1), (2, "all", 2), (2, "1", 1), (2, "2", 2)],
)
def test_a_process_for_each_gpu(there, gpus, processes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert launch.processes(gpus) == processes


@pytest.mark.parametrize(
    ("codes", "rank", "why"),
    [
        ({1: launch.OUT_OF_MEMORY, 0: -9}, 1, "out of memory"),  # the first one waited too long for it to come back
        ({0: launch.LOST, 1: launch.OUT_OF_MEMORY}, 1, "out of memory"),
        ({0: launch.LOST, 1: -9}, 1, "process 1 was lost (signal 9)"),
        ({0: -15, 1: 3}, 1, "process 1 was lost (exit code 3)"),
        ({0: launch.LOST, 1: launch.LOST}, 0, f"process 0 was lost (exit code {launch.LOST})"),
    ],
)
def test_the_process_to_blame(codes, rank, why):
    ended = launch.first_dead(codes)
    assert (ended.rank, ended.why, ended.early) == (rank, why, True)


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(KitError, match="--gpus 3: this machine has 2"):
        launch.processes("3")
