"""The README's own commands, typed one after the other into an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from kit import demo
from kit.competition import COMPETITIONS
from kit.generation.validate import check

ROOT = Path(__file__).resolve().parents[2]
MAIN_JOB = re.search(r"## The main job\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)

# The same commands, but small: what is added to each, and how it is allowed to end.
SMALLER = {
    "train": (["--set", "width=8", "--set", "batch=16", "--count", "64"], 0),
    "score": (["--count", "40"], 0),
    "check": (["--count", "64"], 0),
    "submit": ([], 1),  # 64 pictures are not 10,000, and it says so
}


def commands():
    assert MAIN_JOB
    return [shlex.split(line, comments=True) for line in MAIN_JOB.group(1).splitlines() if line.strip()]


def test_the_main_job_as_the_readme_tells_it(tmp_path):
    """Each command does what its line says; only set, budget and counts are smaller."""
    folder = tmp_path / "reader"
    folder.mkdir()
    demo.draw(tmp_path / "demo", seed=0, pictures=120)
    smaller = {"demo": str(tmp_path / "demo")}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands():
        began = time.monotonic()
        arguments, code = SMALLER.get(command[1], ([], 0))
        command = [smaller.get(word, word) for word in command]
        done = subprocess.run(
            [sys.executable, "-c", "from kit.cli import main; main()", *command[1:], *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{command}: {done.stderr}"
        assert "Traceback" not in done.stderr
        # A budget by the machine's own measure: to start may take long.
        smaller.setdefault("4m", f"{25 + 2 * (time.monotonic() - began):.0f}s")
    archive = folder / "runs" / "dcgan-demo-1" / "images.zip"
    assert check(archive, competition=COMPETITIONS["generative-dog-images"], count=64).ok
    with zipfile.ZipFile(archive) as pictures:
        assert len(pictures.namelist()) == 64


def test_every_document_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert target.startswith("http") or (ROOT / target).is_file(), target
