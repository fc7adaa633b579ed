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
    "translation.py": [
        "--threads",
        "1",
        "--size",
        "32",
        "--width",
        "2",
        "--batch",
        "2",
        "--steps",
        "1",
        "--rounds",
        "1",
    ],
}

# A bench's words, and how the tables begin that it prints; every figure in them is one.
OTHERS = {
    "growth.py --pictures 20,40 --sizes 16,32": ["| pictures, 64 px |", "| side in px, 20 pictures |"],
    "growth.py --mapped 100": [],
    "busy.py --seconds 0.1 --busy 0,1 --models dcgan:4": ["| model | beside |"],
    "kernel.py --repeats 1": [],
    "rows.py --rows cgan,wgan-gp --batches 4 --steps 1 --set width=4 --workers 1": ["| row | batch |"],
    "scaling.py --model dcgan --images 64 --rounds 1": ["| dcgan: pictures/s |"],
    "scaling.py --paper --rows dcgan": ["| row | GFLOP a picture |"],
    "start.py --repeats 2": ["| question |"],
}
SAY = {
    "growth.py --mapped 100": r"100 pictures: 0\.0 GB mapped, [\d.]+ MB held, \d+ s of CPU",
    "kernel.py --repeats 1": r"script [\d,]+ bytes, notebook [\d,]+ bytes",
    "start.py --repeats 2": r"from `kit train` to its first step: \d+\.\d s",
}


def printed(tmp_path, script, *options):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", OTHERS)
def test_a_bench_runs_to_its_end(words, tmp_path):
    out = printed(tmp_path, *words.split())
    for begins in OTHERS[words]:
        head, _, *rows = out[out.index(begins) :].partition("\n\n")[0].splitlines()
        assert rows
        for row in rows:
            assert row.count("|") == head.count("|")
            assert "nan" not in row
    assert re.search(SAY.get(words, ""), out)


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALLEST)
def test_a_bench_prints_its_table(script, tmp_path):
    out = printed(tmp_path, script, *SMALLEST[script])
    rows = [line for line in out.splitlines() if line.startswith("| ")]
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


@pytest.mark.slow
def test_the_scaling_study_goes_on_where_it_was_cut_off(make_set, tmp_path, shared):
    make_set(tmp_path / "set", n=48, size=64)
    command = ["widths.py", "--data", "set", "--widths", "4,8", "--count", "32", "--threads", "1", "--set", "batch=8"]
    assert '"pictures": 104' in printed(tmp_path, *command, "--at", "0.0001")
    again = printed(tmp_path, *command, "--at", "0.0001,0.0002")
    assert '"pictures": 104' not in again
    assert '"pictures": 200' in again
    table = printed(tmp_path, "widths.py", "--show", "widths.jsonl", "--plot", "widths.png")
    assert "| pictures | width 4 | width 8 |" in table
    assert "width 8 is better than 4 at equal CPU time by KID×1000:" in table
    assert (tmp_path / "widths.png").stat().st_size > 0
