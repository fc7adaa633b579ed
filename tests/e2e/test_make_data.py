"""`make data` as a competitor types it: the real client, a real server on this machine, and a few steps of training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kaggle_server import KEY, Answer, Cut, kaggle_server

from kit import demo

ROOT = Path(__file__).resolve().parents[2]
MAKE = ["make", "-f", str(ROOT / "Makefile"), "-o", "venv", f"BIN={Path(sys.executable).parent}"]  # set up already
PICTURES = 200

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """The embedded set, as Kaggle would serve it."""
    folder = demo.draw(tmp_path_factory.mktemp("zips"), seed=1, pictures=PICTURES)
    return {name: (folder / name).read_bytes() for name in ("all-dogs.zip", "Annotation.zip")}


@pytest.fixture
def user(tmp_path):
    """Runs a command in an empty folder, with a home of its own, against a server."""
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()

    def run(server, *command):
        return subprocess.run(command, cwd=folder, env=server.environment(home), capture_output=True, text=True)

    return run, folder


def test_make_data_fetches_prepares_and_can_be_trained_on(zips, user):
    run, folder = user
    with kaggle_server(files=zips) as server:
        server.fail("storage", Cut(10_000))  # the first download breaks off, and is gone on with
        first = run(server, *MAKE, "data")
        assert first.returncode == 0, first.stderr
        prepared = folder / "data" / "generative-dog-images"
        counts = json.loads((prepared / "dataset.json").read_text())["counts"]
        assert counts["found"] == PICTURES - 1  # one annotation of the embedded set has no picture
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        calls = len(server.calls)
        second = run(server, *MAKE, "data")
        assert second.returncode == 0, second.stderr
        assert len(server.calls) == calls
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert [path.name for path in changed] in ([], [".latest"])
    tiny = ["--set", "width=4", "--set", "batch=8", "--count", "12"]
    train = run(server, sys.executable, "-c", "from kit.cli import main; main()", "train", "--model", "dcgan",
                "--images", "24", *tiny)  # fmt: skip
    assert train.returncode == 0, train.stderr
    run_folder = folder / train.stdout.strip()
    assert json.loads((run_folder / "run.json").read_text())["pictures"] == 24
    everything = first.stdout + first.stderr + second.stdout + second.stderr
    assert KEY not in everything
    assert not any(KEY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_rules_that_were_not_accepted_are_told_with_their_page(zips, user):
    run, folder = user
    with kaggle_server(files=zips) as server:
        server.fail_always("ListDataFiles", Answer(403, "You must accept this competition's rules"))
        done = run(server, *MAKE, "data")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "https://www.kaggle.com/competitions/generative-dog-images/rules" in errors[0]
    assert "You must accept this competition's rules" in errors[0]
    assert not list(folder.rglob("*.npy"))
