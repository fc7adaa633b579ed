"""A shortened form of the fault test; `python bench/faults.py` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "faults.py"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks its runs")
def test_runs_keep_their_promises_whatever_happens(make_set, tmp_path):
    made = make_set(tmp_path / "set", n=64, size=16)
    often = {"kills": 3, "budget-kills": 1, "terms": 2, "breaks": 3, "disks": 1, "budgets": 0, "full": 0}
    options = [word for name, number in often.items() for word in (f"--{name}", str(number))]
    command = [sys.executable, str(BENCH), *options, "--count", "16", "--data", str(made.path)]
    done = subprocess.run(command, cwd=BENCH.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [int(row[1]) for row in rows][:4] == [3, 1, 2, 3]
    resumed = [row[4] for row in rows]
    assert all(same == f"{count}/{count}" for same in resumed for count in [same.split("/")[1]])
    assert sum(int(row[5].split("/")[0]) for row in rows) >= 4  # really resumed, and not begun again
