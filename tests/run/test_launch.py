"""How many processes a run has, and which of them is to blame when they end early."""

from __future__ import annotations

import pytest
import torch

from kit.core.errors import KitError
from kit.run import processes as launch
from kit.training.distributed import LOST


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
        ({0: LOST, 1: launch.OUT_OF_MEMORY}, 1, "out of memory"),
        ({0: LOST, 1: -9}, 1, "process 1 was lost (signal 9)"),
        ({0: -15, 1: 3}, 1, "process 1 was lost (exit code 3)"),
        ({0: LOST, 1: LOST}, 0, f"process 0 was lost (exit code {LOST})"),
    ],
)
def test_the_process_to_blame(codes, rank, why):
    ended = launch.first_dead(codes)
    assert (ended.rank, ended.why, ended.early) == (rank, why, True)


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(KitError, match="--gpus 3: this machine has 2"):
        launch.processes("3")
