"""A shortened form of the fault test; `python bench/faults.py` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "faults.py"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks its runs")
def test_runs_keep_their_promises_whatever_happens(make_set, tmp_path):
    made = make_set(tmp_path / "set", n=64, size=16)
    often = {"kills": 2, "budget-kills": 1, "terms": 1, "breaks": 1, "disks": 1, "budgets": 0, "full": 0}
    options = [word for name, number in often.items() for word in (f"--{name}", str(number))]
    log = tmp_path / "faults.jsonl"
    command = [sys.executable, str(BENCH), *options, "--count", "16", "--data", str(made.path), "--out", str(log)]
    done = subprocess.run(command, cwd=BENCH.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [json.loads(line) for line in log.read_text().splitlines()]
    made = Counter(run["fault"] for run in runs)
    assert made == {name: number for name, number in often.items() if number and (name != "disks" or made["disks"])}
    assert not any(run["broken"] for run in runs)
    assert all(run["identical"] for run in runs)
    assert all(run["zips"] and all(run["zips"] + run["checkpoints"]) for run in runs)

    again = subprocess.run([*command, "--kinds", "kills,terms"], cwd=BENCH.parents[1], capture_output=True, text=True)
    assert again.returncode == 0
    assert len(log.read_text().splitlines()) == len(runs)  # all were there
    assert "| SIGKILL | 2 |" in again.stdout
