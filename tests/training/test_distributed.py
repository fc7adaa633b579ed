"""Two processes give what one gives: weights, buffers, gradients, in float64; and they notice each other's end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import distributed_tools
import pytest
import torch
from distributed_tools import CASES, MESSAGES, NORM_CASES, PROCESSES, normalize, train

from kit.core.errors import KitError
from kit.training import distributed
from kit.training.random import BatchSlice, SlicedGenerator, step_generator


@pytest.fixture(scope="module")
def data(make_set, tmp_path_factory):
    """A folder with a set for each task."""
    folder = tmp_path_factory.mktemp("sets")
    make_set(folder / "generation", n=32, size=16, classes=2)
    make_set(folder / "translation", n=32, size=32, inputs=24)
    return folder


HOST_WITHOUT_A_NAME = ("unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname nobody-knows && exec "$@"', "sh")


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """What two processes leave that torchrun started, on a host whose name does not resolve where that is possible."""
    out = tmp_path_factory.mktemp("processes")
    nameless: tuple[str, ...] = HOST_WITHOUT_A_NAME
    if not shutil.which("unshare") or subprocess.run([*nameless, "true"], capture_output=True).returncode:
        nameless = ()  # not allowed to be another host here
    (out / "rendezvous").mkdir()
    options, variables = distributed.torchrun_options(PROCESSES, out / "rendezvous")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [*nameless, sys.executable, "-m", "torch.distributed.run", *options, distributed_tools.__file__, data, out],
        env={**os.environ, **variables, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stderr=(out / "stderr").open("wb"),
        check=False,
    )
    return out


@pytest.fixture(scope="module")
def found(folder):
    """What each of the two processes came to."""
    assert (folder / "1.pt").exists(), (folder / "stderr").read_text()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


@pytest.fixture
def double():
    """Tensors are float64 for a while."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_whole_batch(case, found, data, double):
    single = train(case, data, distributed.SINGLE_PROCESS)
    assert sum(key.endswith("'") for key in single) > 4
    for process in found:
        assert process["trained"][case].keys() == single.keys()
        for key, value in single.items():
            torch.testing.assert_close(process["trained"][case][key], value, rtol=1e-8, atol=1e-9, msg=key)


@pytest.mark.parametrize("case", CASES)
def test_all_processes_end_with_the_same_bits(case, found):
    first, second = (process["trained"][case] for process in found)
    assert all(torch.equal(first[key], second[key]) for key in first)


def difference(ours, theirs):
    """Relative, of two tensors."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("name", NORM_CASES)
def test_batch_norm_over_two_processes_is_torchs_own_over_the_whole_batch(name, found):
    case, halves = NORM_CASES[name], [process["norms"][name] for process in found]
    whole = normalize(case, slice(None), synchronized=False)
    assert all(half.keys() == whole.keys() for half in halves)
    for key, value in whole.items():
        if key.startswith("buffer"):
            assert torch.equal(halves[0][key], halves[1][key])
            ours = halves[0][key]
        elif key == "y" or key.split()[0] in ("dx", "ddx"):
            ours = torch.cat([half[key] for half in halves])
        else:  # each process has its own part of the weights' gradients
            ours = sum(half[key] for half in halves)
        assert ours.dtype == value.dtype
        assert difference(ours, value) < case.tolerance, key


def test_all_receive_the_messages_of_the_first(found):
    assert [process["received"] for process in found] == [list(MESSAGES)] * PROCESSES


def test_a_process_that_is_killed_is_noticed(folder):
    assert (folder / "noticed").read_text() == "WorkerLostError"


@pytest.mark.abuse("E19", "F22")
@pytest.mark.skipif(sys.platform != "linux", reason="looks for sockets in /proc")
def test_processes_listen_on_the_loopback_alone_whatever_the_hosts_name(folder):
    assert set((folder / "listening").read_text().split()) == {"127.0.0.1"}


def test_torchruns_own_way_to_connect_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a user's own")
    monkeypatch.delenv(distributed.RENDEZVOUS, raising=False)
    monkeypatch.setattr(distributed, "exit_with_parent", lambda code: None)
    with pytest.raises(KitError, match="torchrun started this process"):
        distributed.init()


@pytest.mark.parametrize(("rows", "parts"), [(8, 2), (7, 3), (5, 5), (3, 4), (64, 1)])
def test_slices_cover_every_row_once(rows, parts):
    slices = BatchSlice(2, 2 + rows, 100).split(parts)
    assert [row for part in slices for row in range(part.first, part.last)] == list(range(2, 2 + rows))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1
    assert sum(part.weight for part in slices) == pytest.approx(rows / 100)


@pytest.mark.parametrize("method", ["uniform", "normal", "integers"])
def test_a_slice_gets_the_numbers_of_its_rows(method):
    def draw(generator: SlicedGenerator, rows: int) -> list[torch.Tensor]:
        bounds = (0, 100) if method == "integers" else ()
        return [getattr(generator, method)(*bounds, rows, *shape) for shape in ((), (3,), (2, 2))]

    device = torch.device("cpu")
    whole = draw(step_generator(1, "test", 5, device), 20)
    for part in BatchSlice(0, 20, 20).split(3):
        for all_rows, own in zip(whole, draw(step_generator(1, "test", 5, device, part), len(part)), strict=True):
            assert torch.equal(own, all_rows[part.first : part.last])


def test_a_batch_too_small_to_be_shared_is_refused():
    with pytest.raises(KitError, match="2 pictures at a time cannot be shared by 3 processes"):
        distributed.Distributed(0, 3).local(BatchSlice(0, 2, 2))
