"""How many processes a run has, and which of them is to blame when they end early."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
import torch
from run_helpers import Clock, Silent

import kit.run
from kit.core.errors import KitError
from kit.models.registry import MODELS
from kit.run import processes as launch
from kit.run.processes import NOT_CONNECTED, Ended
from kit.training.distributed import LOST, RENDEZVOUS


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
        ({0: -15, 1: NOT_CONNECTED}, 1, f"process 1 was lost (exit code {NOT_CONNECTED})"),
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


@pytest.mark.abuse("E20")
def test_where_processes_cannot_be_connected_one_trains_alone(make_set, tmp_path, monkeypatch, caplog):
    make_set(tmp_path / "set", n=16, size=16)
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    config = kit.run.RunConfig(recipe=recipe, data=tmp_path / "set", out=tmp_path / "run", images=8, count=12)
    monkeypatch.setattr(launch, "launch", lambda *_, **__: Ended(rank=0, code=NOT_CONNECTED))
    record = launch.train(
        config, gpus="2", clock=Clock(), arguments=[], make_callback=lambda _: contextlib.nullcontext(Silent())
    )
    assert (record.state, record.parts[0].processes) == ("finished", 1)
    assert any("going on with one" in text for text in caplog.messages)


WITHOUT_LOOPBACK = """
import sys
from kit.training import distributed
distributed.LOOPBACK = "nosuch0"
from kit.cli import main
sys.argv = ["kit", "train", "--model", "dcgan", "--images", "8", "--data", "set", "--out", "run"]
main()
"""


@pytest.mark.abuse("E20")
def test_a_process_that_cannot_connect_says_so_at_once(make_set, tmp_path):
    make_set(tmp_path / "set", n=16, size=16)
    torchrun = {"TORCHELASTIC_RUN_ID": "kit", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    environment = {**os.environ, **torchrun, RENDEZVOUS: str(tmp_path / "meet"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", WITHOUT_LOOPBACK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == NOT_CONNECTED, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
