"""From a recipe to a score and from a run to a score, by the commands themselves, through the unmodified client.

Where a process is killed it is a real one, with SIGKILL; what was sent is counted on the other side.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kaggle_answers import Answer
from kaggle_desk import Run
from kaggle_server import KEY, SIGNATURE, Hang, KaggleServer, Lost
from kernel_tools import SLUG, output_of
from typer.testing import CliRunner, Result

from kit.cli import app
from kit.competition import COMPETITIONS, DEFAULT
from kit.core import trust
from kit.core.errors import KitError
from kit.core.files import read_json
from kit.core.streams import TalkHandler
from kit.kaggle import client as client_module
from kit.kaggle.client import RetryPolicy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

RECIPE = 'model = "dcgan"\nbudget = "1h"\ncount = 12\n'


@pytest.fixture
def place(
    server: KaggleServer, clock: RetryPolicy, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A user's folder with one recipe, for a competition that takes 12 pictures, and a Kaggle that would run it."""
    rules = dataclasses.replace(COMPETITIONS[DEFAULT], count=12, count_min=12, count_max=12)
    monkeypatch.setitem(COMPETITIONS, DEFAULT, rules)
    # The processes that are killed live in the real time, so this one begins there and goes on by its waits.
    today = dataclasses.replace(clock, now=lambda: time.time() + sum(waits))
    monkeypatch.setattr(client_module, "RETRY_POLICY", today)
    folder = tmp_path / "place"
    (folder / "kernels" / SLUG).mkdir(parents=True)
    (folder / "kernels" / SLUG / "kernel.toml").write_text(RECIPE)
    monkeypatch.chdir(folder)
    log = ["[1s] dcgan, seed 0\n", "[40s] 64,000 pictures  640/s  D 1.0  G 1.0  D(x) 0.5  D(G(z)) 0.5  left 50m\n"]
    server.kernels.next_run = Run(log=log, leaves=lambda version: output_of(version, tmp_path / "on-kaggle"))
    return folder


@pytest.fixture
def kit(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `kit …` in this process; what it does to time is in `clock`."""

    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [TalkHandler()])
    logging.getLogger("kit").setLevel(logging.INFO)

    environment = dict(os.environ)

    def run(*words: str, code: int = 0) -> Result:
        # Each command is a process of its own: neither trust nor the loss of credentials outlives it.
        monkeypatch.setattr(trust, "_allowed", set())
        os.environ.update(environment)
        done = CliRunner().invoke(app, words)
        if isinstance(done.exception, KitError):
            assert code == 1, done.exception
        else:
            assert done.exit_code == code, done.output
        return done

    return run


def creates(server: KaggleServer) -> int:
    return sum(call in ("CreateSubmission", "CreateCodeSubmission") for call in server.calls)


def test_the_whole_round(kit: Callable[..., Result], server: KaggleServer, place: Path) -> None:
    done = kit("kernel", "run", SLUG)
    assert done.stdout == "public   61.25000\nprivate  98.50000\n"
    for words in (
        "is queued",
        "is running",
        "has come to its end",
        "64,000 pictures",
        "the run itself",
        "warning: the deadline",
        "waiting for the score",
        "sent little",
    ):
        assert words in done.stderr
    [taken] = server.submissions.taken
    assert (taken.request["kernelSlug"], taken.request["kernelVersion"]) == (SLUG, 1)
    record = read_json(place / "submissions" / f"{SLUG}-v1" / "submission.json")
    assert (record["answer"]["public"], record["answer"]["private"]) == (61.25, 98.5)
    assert record["kernel"]["version"] == f"dog-lover/{SLUG}/1"
    assert record["receipts"][0]["id"] in taken.request["submissionDescription"]
    written = "".join(path.read_bytes().decode("latin-1") for path in place.rglob("*") if path.is_file())
    for secret in (KEY, SIGNATURE):
        assert secret not in written + done.output
    again = kit("kernel", "run", SLUG)
    assert again.stdout == done.stdout
    assert (server.calls.count("SaveKernel"), creates(server)) == (1, 1)
    assert "98.50" in kit("submissions").stdout


def test_step_by_step(kit: Callable[..., Result], server: KaggleServer) -> None:
    assert kit("kernel", "push").stdout == f"dog-lover/{SLUG}/1\n"  # the only recipe there is
    assert kit("kernel", "status").stdout == f"dog-lover/{SLUG}/1  QUEUED\n"
    assert "has not come to its end" in str(kit("kernel", "pull", code=1).exception)
    assert json.loads(kit("kernel", "status", SLUG, "--json").stdout)["status"] == "COMPLETE"
    assert kit("kernel", "pull").stdout == f"submissions/{SLUG}-v1\n"
    assert "code submission: images.zip of the kernel's version" in kit("submit", "--dry-run").stdout
    assert creates(server) == 0
    assert "public   61.25" in kit("kernel", "submit").stdout
    assert "public   61.25" in kit("submit").stdout  # the newest submission, which was sent
    assert creates(server) == 1


def test_a_local_run_is_trained_again_in_a_kernel(
    kit: Callable[..., Result], server: KaggleServer, place: Path, make_run: Callable[..., Path]
) -> None:
    from kit.models import registry

    recipe = registry.get("dcgan").override(["width=8", "flip=false"])
    made = make_run("dcgan-dogs-1", recipe=dataclasses.asdict(recipe), budget_s=5400.0, seed=3)
    (place / "runs").mkdir()
    made.rename(place / "runs" / made.name)
    error = kit("submit", code=1).exception
    assert "takes only what a Kaggle kernel has made" in str(error)
    assert "kit submit dcgan-dogs-1 --yes" in str(error)
    assert server.calls == []
    done = kit("submit", "dcgan-dogs-1", "--yes")
    assert done.stdout == "public   61.25000\nprivate  98.50000\n"
    toml = (place / "kernels" / "dcgan-dogs-1" / "kernel.toml").read_text()
    assert toml == 'model = "dcgan"\nbudget = "1h30m"\nseed = 3\nsize = 64\n\n[set]\nwidth = 8\nflip = false\n'
    assert [entry.request["kernelSlug"] for entry in server.submissions.taken] == ["dcgan-dogs-1"]


def test_a_file_where_files_are_taken(
    kit: Callable[..., Result],
    server: KaggleServer,
    place: Path,
    make_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = dataclasses.replace(COMPETITIONS[DEFAULT], kernels_only=False)
    monkeypatch.setitem(COMPETITIONS, DEFAULT, rules)
    server.submissions.kernels_only = False
    made = make_run("dcgan-dogs-1")
    (place / "runs").mkdir()
    made.rename(place / "runs" / made.name)
    done = kit("submit")
    assert "packing runs/dcgan-dogs-1" in done.stderr
    assert "public   61.25" in done.stdout
    assert "submissions/dcgan-dogs-1: the newest submission" in kit("submit").stderr
    assert creates(server) == 1


def test_scores_that_came_later_are_read(kit: Callable[..., Result], server: KaggleServer) -> None:
    server.submissions.pending = 10_000
    kit("kernel", "run", SLUG, code=1)
    assert "sent" in kit("submissions").stdout
    server.submissions.pending = 0
    assert "98.50" not in kit("submissions").stdout
    assert "98.50" in kit("submissions", "--refresh").stdout


MODEL_FILE = """\
from kit.models.recipe import Recipe
from kit.models.registry import ModelEntry
ENTRY = ModelEntry(recipe=Recipe(model="mine", architecture="dcgan", loss="hinge"), about="dcgan, hinge", paper="none")
"""


def test_a_kernels_submission_is_written_again_and_run_again_when_told_to(
    kit: Callable[..., Result], server: KaggleServer, place: Path, tmp_path: Path
) -> None:
    kit("kernel", "run", SLUG)
    seen = len(server.calls)
    done = kit("reproduce", f"{SLUG}-v1")
    assert done.stdout.splitlines()[-1].startswith("kernel   identical")
    assert "takes up to 1h of this account's GPU hours, and --yes does it" in done.stderr
    assert server.calls[seen:] == []  # nobody is asked for anything
    again = kit("reproduce", f"{SLUG}-v1", "--yes")
    assert again.stdout.splitlines()[-1] == "identical"
    assert [line.split()[1] for line in again.stdout.splitlines()[1:-1]] == ["identical"] * 6
    one, two = (version.request["text"] for version in server.kernels.versions[SLUG])
    assert [ours != theirs for ours, theirs in zip(one.splitlines(), two.splitlines(), strict=True)].count(True) == 1
    assert creates(server) == 1  # what it came to is compared, and not submitted
    server.kernels.next_run.leaves = lambda version: output_of(version, tmp_path / "on-kaggle", seed=1)
    other = kit("reproduce", f"{SLUG}-v1", "--yes", code=1)
    lines = dict(line.split(maxsplit=1) for line in other.stdout.splitlines() if " " in line)
    assert lines["weights"].startswith("identical")
    assert "now," in lines["pixels"]
    assert other.stdout.splitlines()[-1] == "not identical"


def test_a_second_run_that_was_cut_off_goes_on(kit: Callable[..., Result], server: KaggleServer, place: Path) -> None:
    kit("kernel", "run", SLUG)
    server.fail_always("GetKernelSessionStatus", Answer(401, "Unauthenticated"))
    assert "does not accept the key" in str(kit("reproduce", f"{SLUG}-v1", "--yes", code=1).exception)
    server.fail_always("GetKernelSessionStatus", None)
    again = kit("reproduce", f"{SLUG}-v1", "--yes")
    assert "going on with" in again.stderr
    assert again.stdout.splitlines()[-1] == "identical"
    assert server.calls.count("SaveKernel") == 2


def test_a_kernel_with_a_model_file_is_written_again_for_someone_who_trusts_it(
    kit: Callable[..., Result], server: KaggleServer, place: Path
) -> None:
    (place / "mine.py").write_text(MODEL_FILE)
    kit("kernel", "build", "--model", "mine.py", "--slug", "my-own", "--count", "12", "--set", "width=8")
    (place / "mine.py").unlink()  # the recipe has it
    assert "add --trust to run it" in str(kit("kernel", "run", "my-own", code=1).exception)
    kit("kernel", "run", "my-own", "--trust")
    assert "add --trust to run it" in str(kit("reproduce", "my-own-v1", code=1).exception)
    assert "add --trust to run it" in str(kit("reproduce", "my-own-v1", "--yes", code=1).exception)
    assert server.calls.count("SaveKernel") == 1
    assert kit("reproduce", "my-own-v1", "--trust").stdout.splitlines()[-1].startswith("kernel   identical")
    again = kit("reproduce", "my-own-v1", "--trust", "--yes")
    assert again.stdout.splitlines()[-1] == "identical"
    assert all("hinge" in version.request["text"] for version in server.kernels.versions["my-own"])


def killed(place: Path, words: list[str], when: Callable[[], bool], *, kernels_only: bool = True) -> None:
    """Runs `kit …` as a process of its own, and kills it at once when something has happened on Kaggle's side."""
    code = (
        "import dataclasses; from kit import competition as c; from kit.cli import main\n"
        "rules = c.COMPETITIONS[c.DEFAULT]\n"
        f"rules = dataclasses.replace(rules, count=12, count_min=12, count_max=12, kernels_only={kernels_only})\n"
        "c.COMPETITIONS[c.DEFAULT] = rules\n"
        "main()"
    )
    with subprocess.Popen([sys.executable, "-c", code, *words], cwd=place, stderr=subprocess.PIPE) as process:
        while not when():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)


def test_killed_between_push_and_record(kit: Callable[..., Result], server: KaggleServer, place: Path) -> None:
    server.fail("SaveKernel", Lost(Hang()))
    killed(place, ["kernel", "run", SLUG], lambda: SLUG in server.kernels.versions)
    done = kit("kernel", "run", SLUG)
    assert "arrived: Kaggle has it as 1" in done.stderr
    assert "public   61.25" in done.stdout
    assert (server.calls.count("SaveKernel"), creates(server)) == (1, 1)


def test_killed_between_submission_and_record(kit: Callable[..., Result], server: KaggleServer, place: Path) -> None:
    kit("kernel", "run", SLUG, "--no-submit")
    server.fail("CreateCodeSubmission", Lost(Hang()))
    killed(place, ["submit"], lambda: len(server.submissions.taken) == 1)
    done = kit("submit")
    assert "arrived: Kaggle has it as" in done.stderr
    assert "public   61.25" in done.stdout
    assert creates(server) == 1


def test_killed_between_upload_and_submit(
    kit: Callable[..., Result],
    server: KaggleServer,
    place: Path,
    make_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(COMPETITIONS, DEFAULT, dataclasses.replace(COMPETITIONS[DEFAULT], kernels_only=False))
    server.submissions.kernels_only = False
    (place / "runs").mkdir()
    made = make_run("dcgan-dogs-1")
    made.rename(place / "runs" / made.name)
    kit("pack", "runs/dcgan-dogs-1")
    server.fail("CreateSubmission", Hang())
    killed(place, ["submit"], lambda: "CreateSubmission" in server.calls, kernels_only=False)
    assert "upload" in server.calls
    assert server.submissions.taken == []
    assert "--again` sends it" in str(kit("submit", code=1).exception)
    assert server.submissions.taken == []
    assert "public   61.25" in kit("submit", "--again").stdout
    assert len(server.submissions.taken) == 1
