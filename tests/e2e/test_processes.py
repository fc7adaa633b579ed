"""`kit train --gpus 2` without a GPU: two processes on the CPU, and what becomes of a run when one of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kit.competition import COMPETITIONS
from kit.generation.validate import check
from kit.training import checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

DOGS = COMPETITIONS["generative-dog-images"]
KIT = [sys.executable, "-P", "-m", "kit"]
TINY = ["--set", "width=4", "--set", "latent=8", "--set", "batch=8", "--count", "12", "--out", "run"]
TRAIN = ["train", "--model", "dcgan", "--data", "data/tiny", *TINY]
ENDLESS = "100000000"
HERE = Path(__file__).parent


@pytest.fixture
def environment(make_set, tmp_path):
    """A folder with a small set, and the machine's GPUs out of sight."""
    make_set(tmp_path / "data" / "tiny", n=32, size=16)
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


@pytest.fixture
def start(environment, tmp_path):
    """Starts `kit train …`, or what else is trained with."""

    def begin(*arguments, command=(*KIT, *TRAIN)):
        command = [*command, *arguments]
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
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "__init__.py").write_text("raise ImportError('a folder of the user, not the kit')")
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


def listening(processes: list[int]) -> set[int]:
    """The TCP ports at which processes wait for connections."""
    sockets = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            sockets |= {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


@pytest.mark.slow
@pytest.mark.abuse("E19")
@pytest.mark.parametrize(
    "words", [b"", b"\x80\x04cposix\nsystem\n", bytes(range(256)) * 4096], ids=["silent", "pickle", "much"]
)
def test_a_stranger_who_connects_first_does_not_hold_a_run_past_its_budget(start, tmp_path, words):
    process = start("--budget", "90s", "--gpus", "2")
    tried: Counter[int] = Counter()
    connections = []

    def meet() -> None:
        while process.poll() is None:
            for port in listening(list(workers(process.pid).values())):
                for _ in range(4 - tried[port]):
                    tried[port] += 1
                    with contextlib.suppress(OSError):
                        connections.append(socket.create_connection(("127.0.0.1", port), timeout=1))
                        connections[-1].sendall(words)

    stranger = threading.Thread(target=meet)
    stranger.start()
    _, said = process.communicate(timeout=1800)
    stranger.join()
    for connection in connections:
        connection.close()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert connections, "the stranger met nobody"
    ended = record(tmp_path)
    assert ended["state"] == "finished"
    assert ended["seconds"]["in_all"] < 90
    assert check(tmp_path / "run" / "images.zip", competition=DOGS, count=12).ok


@pytest.mark.slow
@pytest.mark.abuse("F22")
def test_processes_meet_where_the_hosts_name_does_not_resolve(start, tmp_path):
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname no-such-host.invalid && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*renamed, "true"], capture_output=True).returncode:
        pytest.skip("this user may not rename the host")
    process = start("--images", "64", "--gpus", "2", command=(*renamed, *KIT, *TRAIN))
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "frame #" not in said
    assert record(tmp_path)["parts"][-1]["processes"] == 2


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(start, tmp_path):
    images = 20_000
    process = start("--images", str(images))
    wait_for(tmp_path / "run" / "progress.jsonl", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=1800)
    at = record(tmp_path)["pictures"]
    process = start("--images", str(images), "--resume", "--gpus", "2")
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    ended = record(tmp_path)
    assert ended["state"] == "finished"
    assert [(part["processes"], part["from"], part["to"]) for part in ended["parts"]] == [(1, 0, at), (2, at, images)]
    assert 0 < at < images


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_all_processes_in_order(start, tmp_path, number, code):
    process = start("--images", ENDLESS, "--gpus", "2")
    wait_for(tmp_path / "run" / "progress.jsonl", process)
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


@pytest.fixture
def make_again(environment, tmp_path):
    """`kit pack` and `kit reproduce` of the run; gives the last line."""

    def reproduce():
        subprocess.run([*KIT, "pack", "run", "--out", "sent"], cwd=tmp_path, env=environment, check=True)
        command = [*KIT, "reproduce", "sent"]
        again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert again.returncode == 0, again.stdout + again.stderr
        return again.stdout.splitlines()[-1]

    return reproduce


@pytest.mark.slow
def test_what_two_processes_trained_is_made_again_by_two(start, make_again):
    process = start("--images", "64", "--gpus", "2")
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    assert make_again() == "identical"


def run_short(start, tmp_path, *arguments):
    """Trains where the second process has too little memory; gives what was said and recorded."""
    command = [sys.executable, "-m", "short_of_memory", *arguments, "--out", "run"]
    process = start(command=command)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert check(tmp_path / "run" / "images.zip", competition=DOGS, count=12).ok
    return record(tmp_path)


@pytest.mark.slow
def test_processes_that_run_out_of_memory_go_on_with_less_of_it(start, make_again, tmp_path):
    """The second process has room for 2 of its 4 pictures of a batch once 16 are seen."""
    ended = run_short(start, tmp_path, "2", "16", "--images", "64")
    assert (ended["state"], ended["why"], ended["pictures"]) == ("finished", "all pictures were seen", 64)
    (noted,) = ended["memory"]
    assert (noted["accumulation_steps"], noted["offload_activations"]) == (2, False)
    assert noted["to"] == 16
    assert [(part["from"], part["to"]) for part in ended["parts"]] == [(0, 16), (16, 64)]
    assert {part["processes"] for part in ended["parts"]} == {2}
    assert make_again() == "identical"


@pytest.mark.slow
def test_processes_without_memory_for_the_smallest_parts_end_in_order(start, tmp_path):
    ended = run_short(start, tmp_path, "1", "16", "--images", "64")
    assert (ended["state"], ended["why"]) == ("stopped", "out of memory")
    assert [noted["accumulation_steps"] for noted in ended["memory"]] == [2]
    assert ended["parts"][-1]["processes"] == 1  # that of the command, which made the zip


@pytest.mark.slow
def test_processes_find_out_before_a_budget_is_spent_that_memory_is_short(start, tmp_path):
    began = time.monotonic()
    run_short(start, tmp_path, "2", "0", "--images", "8")
    shutil.rmtree(tmp_path / "run")
    budget_s = round(60 + 2 * (time.monotonic() - began))  # the machine's own measure: only to start may take long
    ended = run_short(start, tmp_path, "2", "0", "--budget", f"{budget_s}s")
    assert (ended["state"], ended["pictures"] > 0) == ("finished", True)
    assert [(noted["to"], noted["accumulation_steps"]) for noted in ended["memory"]] == [(0, 2)]
    assert ended["seconds"]["in_all"] < budget_s


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
