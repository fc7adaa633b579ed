"""The benches run, in their smallest form, and fill the table that they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLEST = {
    "step.py": ["--steps", "1", "--rounds", "2", "--width", "4", "--batch", "4", "--threads", "1"],
    "pack.py": ["--count", "20", "--repeats", "2"],
    "score.py": [
        "--count",
        "1500",
        "--real",
        "1500",
        "--dim",
        "384",
        "--features",
        "0",
        "--whole",
        "0",
        "--repeats",
        "2",
    ],
    "generation.py": ["--count", "20", "--repeats", "2", "--width", "4"],
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALLEST)
def test_a_bench_prints_its_table(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *SMALLEST[script]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[0] == "| question | the kit | the other way | ratio | spread | CPU ratio |"
    assert len(rows) > 1
    for row in rows[1:]:
        ratio, cpu = (float(row.split(" | ")[column].rstrip(" |×")) for column in (3, 5))
        assert ratio > 0
        assert cpu > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process holds")
def test_the_memory_of_both_scores_is_told(tmp_path):
    options = ["--count", "64", "--real", "80", "--batches", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "memory.py"), *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, later = (
        float(re.search(r": ([\d,]+) MB resident", line)[1].replace(",", "")) for line in done.stdout.splitlines()
    )
    assert 100 < later <= first * 1.1
