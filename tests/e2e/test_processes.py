"""`kit train --gpus 2` without a GPU: two processes on the CPU, and what becomes of a run when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.competition import COMPETITIONS
from kit.generation.check import check
from kit.training import checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

DOGS = COMPETITIONS["generative-dog-images"]
KIT = [sys.executable, "-m", "kit"]
TINY = ["--set", "width=4", "--set", "latent=8", "--set", "batch=8", "--count", "12", "--out", "run"]
ENDLESS = "100000000"


@pytest.fixture
def start(make_set, tmp_path):
    """Starts `kit train …` on a small set, with the machine's GPUs out of sight."""
    made = make_set(tmp_path / "data" / "tiny", n=32, size=16)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def begin(*arguments):
        command = [*KIT, "train", "--model", "dcgan", "--data", str(made.path), *TINY, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    return begin


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def workers(parent: int) -> dict[int, int]:
    """The process ids of a launcher's processes, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            variables = dict(pair.split("=", 1) for pair in (folder / "environ").read_text().split("\0") if "=" in pair)
        except (OSError, ValueError):
            continue
        if "RANK" in variables:
            found[int(variables["RANK"])] = int(folder.name)
    return found


def record(folder: Path):
    return json.loads((folder / "run" / "run.json").read_text())


def test_a_run_survives_the_death_of_a_process_and_goes_on_with_one(start, tmp_path):
    process = start("--images", "4000", "--gpus", "2")
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    ended = record(tmp_path)
    assert (ended["state"], ended["why"]) == ("stopped", "process 1 was lost (signal 9)")
    assert check(tmp_path / "run" / "images.zip", competition=DOGS, count=12).ok
    at = ended["pictures"]
    with start("--images", "4000", "--resume") as process:
        process.communicate(timeout=1800)
    ended = record(tmp_path)
    assert (ended["state"], ended["pictures"]) == ("finished", 4000)
    assert [(part["processes"], part["from"]) for part in ended["parts"]] == [(2, 0), (1, at), (1, at)]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_all_processes_in_order(start, tmp_path, number, code):
    process = start("--images", ENDLESS, "--gpus", "2")
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    time.sleep(1)
    started = workers(process.pid)
    process.send_signal(number)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == code, said
    assert "Traceback" not in said
    ended = record(tmp_path)
    assert (ended["state"], ended["signal"]) == ("stopped", number.name)
    assert ended["pictures"] > 0
    assert check(tmp_path / "run" / "images.zip", competition=DOGS, count=12).ok
    assert not any(Path(f"/proc/{pid}").exists() for pid in started.values())


@pytest.mark.slow
def test_what_two_processes_trained_is_made_again_by_two(start, tmp_path):
    process = start("--images", "64", "--gpus", "2")
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*KIT, "pack", "run", "--out", "sent"], cwd=tmp_path, env=environment, check=True)
    again = subprocess.run([*KIT, "reproduce", "sent"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.splitlines()[-1] == "identical"


@pytest.mark.slow
def test_the_death_of_the_first_process_leaves_a_valid_zip(start, tmp_path):
    process = start("--images", ENDLESS, "--gpus", "2")
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    process.communicate(timeout=1800)
    assert record(tmp_path)["why"] == "process 0 was lost (signal 9)"
    assert check(tmp_path / "run" / "images.zip", competition=DOGS, count=12).ok


@pytest.mark.slow
def test_processes_do_not_outlive_the_one_that_started_them(start, tmp_path):
    process = start("--images", ENDLESS, "--gpus", "2")
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    started = workers(process.pid)
    process.kill()
    process.communicate(timeout=1800)
    for _ in range(200):
        left = [pid for pid in started.values() if Path(f"/proc/{pid}").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert not left
    checkpoint.load_generator(tmp_path / "run" / "checkpoint.pt")
