"""The command line as a user meets it: help, one-line errors, exit codes, what goes to which stream."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kit import __version__
from kit.cli import app
from kit.core.errors import KitError

KIT = [sys.executable, "-c", "from kit.cli import main; main()"]
TINY = ["--set", "width=4", "--set", "latent=8", "--set", "batch=8", "--count", "12"]


def all_commands(group, *above):
    """Each command by its words, those of groups too."""
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        yield (*above, name), command
        if hasattr(command, "commands"):
            yield from all_commands(command, *above, name)


COMMANDS = dict(all_commands(typer.main.get_command(app)))
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@pytest.fixture
def kit(tmp_path):
    """Runs `kit …` in a folder of its own, as another process."""

    def run(*arguments, code=0, cwd=tmp_path):
        environment = {**os.environ, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*KIT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def workplace(make_set, tmp_path):
    """A folder with a prepared set that `kit data` wrote last."""
    from kit.data.prepared_set import remember

    made = make_set(tmp_path / "data" / "tiny", n=32, size=16)
    remember(made.path)
    return tmp_path


@every_command
def test_every_command_has_help_with_an_example_and_explains_its_options(command):
    text = CliRunner().invoke(app, [*command, "--help"]).stdout
    assert re.search(rf"Example: kit {' '.join(command)}\b", text)
    assert "<" not in text  # an option says what it takes: N, FILE, …; not a type of Python
    assert not re.search(r"x>=|\d\.0\b", text)
    for parameter in COMMANDS[command].params:
        assert parameter.help, parameter.name


def test_the_help_shows_whole_sentences_and_the_version(kit, monkeypatch):
    text = " ".join(kit("--help").stdout.split())
    assert "..." not in text.partition("Commands:")[2]
    assert "cropped by their boxes, resized, checked, and traced to their source." in text
    assert kit("--version").stdout == f"kit {__version__}\n"
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell that runs the tests may be sh
    assert "COMPREPLY" in kit("--show-completion", "bash").stdout


@pytest.mark.parametrize(
    ("imports", "heavy"),
    [
        ("from kit import cli", "torch timm kaggle albumentations matplotlib scipy numpy"),
        # Each of these takes half a second or more, which every run and kernel would pay before its first step.
        (
            "import kit.run; from kit.run import processes; from kit.report.panel import TrainingScreen",
            "timm torchvision scipy.stats albumentations kaggle matplotlib",
        ),
    ],
    ids=["help", "training"],
)
def test_nothing_heavy_is_imported_for(imports, heavy):
    code = f"import sys; {imports}; print([module for module in {heavy.split()} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_main_job_from_a_set_to_a_submission(kit, workplace):
    done = kit("train", "--model", "dcgan", "--images", 32, *TINY)
    assert done.stdout == "runs/dcgan-tiny-1\n"
    assert "32 pictures to train on" in done.stderr  # results on stdout, talk on stderr
    run = Path(done.stdout.strip())
    assert "valid" in kit("check", run / "images.zip", "--count", 12).stdout
    assert "12 pictures" in kit("check", run / "images.zip", code=1).stdout
    kit("sample", run, "--out", "grid.png", "--count", 9)
    assert (workplace / "grid.png").stat().st_size > 100
    kit("sample", run, "--out", "again.zip", "--count", 12)
    assert (workplace / "again.zip").read_bytes() == (workplace / run / "images.zip").read_bytes()
    folder = Path(kit("pack", run).stdout.strip())
    assert {p.name for p in (workplace / folder).iterdir()} == {
        "images.zip",
        "preview.png",
        "source.zip",
        "submission.json",
    }
    assert "nothing was sent" in kit("submit", folder, "--dry-run", code=1).stdout  # 12 are not 10,000
    assert "dcgan-tiny-1" in kit("submissions").stdout
    rows = json.loads(kit("runs", "--json").stdout)
    assert [(row["name"], row["pictures"], row["state"]) for row in rows] == [("dcgan-tiny-1", 32, "finished")]


def test_the_doctor_says_what_it_finds_and_keeps_secrets(kit, workplace, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "very-secret")
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    said = json.loads(kit("doctor", "--json").stdout)
    assert said["problems"] == []
    assert "data/tiny" in said["facts"]["set"]
    assert "KAGGLE_USERNAME" in said["facts"]["Kaggle"]
    assert "very-secret" not in str(said)
    assert re.match(r"1 core,|\d+ cores,", said["facts"]["processor"])


def test_a_budget_covers_the_whole_command(kit, workplace):
    began = time.monotonic()
    kit("train", "--model", "dcgan", "--images", 0, *TINY)
    budget_s = round(20 + 2 * (time.monotonic() - began))  # the machine's own measure: only to start may take long
    began = time.monotonic()
    run = Path(kit("train", "--model", "dcgan", "--budget", f"{budget_s}s", *TINY).stdout.strip())
    assert time.monotonic() - began < budget_s  # the promise itself
    record = json.loads((workplace / run / "run.json").read_text())
    assert record["state"] == "finished"
    assert record["pictures"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--model", "dcgn", "--images", 8], "unknown model 'dcgn'; did you mean 'dcgan'?"),
        (["train", "--model", "dcgan"], "give either --budget TIME or --images N"),
        (["train", "--model", "dcgan", "--images", 8, "--budget", "1h"], "give either --budget TIME or --images N"),
        (["train", "--model", "dcgan", "--budget", "soon"], "'soon' is not a duration"),
        (["train", "--model", "dcgan", "--images", 8, "--set", "widht=3"], "unknown setting 'widht'"),
        (["train", "--model", "dcgan", "--images", 8, "--gpus", "two"], "--gpus two: neither all nor a number"),
        (["train", "--model", "dcgan", "--images", 8, "--memory", "much"], "'much' is not an amount of memory"),
        (["train", "--model", "dcgan", "--images", 8, "--started-at", "noon"], "'noon' is not a moment"),
        (["train", "--model", "dcgan", "--images", 8, "--data", "data/none"], "data/none: no such prepared set"),
        (["train", "--model", "dcgan", "--budget", "2s", *TINY], "a budget of 2s is too small"),
        (["data", "--from", "nowhere"], "nowhere: no such file or folder"),
        (["data", "--from", "demo", "--crop", "sqare"], "unknown crop policy 'sqare'; did you mean 'square'?"),
        (["data", "--competition", "generative-dogs"], "unknown competition 'generative-dogs'"),
        (["score", "data/none", "--features", "timn"], "unknown feature set 'timn'; did you mean 'timm'?"),
        (["score", "data/none", "--features", "random"], "data/none"),
        (["check", "images.zip"], "images.zip: no such file"),
        (["sample", "runs/none", "--out", "grid.png"], "runs/none"),
        (["pack", "runs/none"], "runs/none"),
        (["submit", "--dry-run"], "no finished run there"),
        (["models", "bigan"], "unknown model 'bigan'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(workplace, arguments, says, monkeypatch):
    monkeypatch.chdir(workplace)
    before = sorted(workplace.rglob("*"))
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    assert isinstance(done.exception, KitError)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.stdout == ""
    assert sorted(path for path in workplace.rglob("*") if "/.cache" not in str(path)) == before


def test_an_error_is_one_line_on_stderr_and_exit_code_1(kit):
    done = kit("models", "dcgn", code=1)
    assert (done.stdout, done.stderr) == ("", "error: unknown model 'dcgn'; did you mean 'dcgan'?\n")


@pytest.mark.parametrize("arguments", [["train"], ["nonsense"], ["train", "--model", "dcgan", "--images", "-1"]])
def test_wrong_usage_exits_with_2(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_an_existing_run_folder_is_an_error(kit, workplace):
    (workplace / "mine").mkdir()
    (workplace / "mine" / "notes.txt").write_text("of another kind")
    assert "mine exists already" in kit("train", "--model", "dcgan", "--images", 8, "--out", "mine", code=1).stderr


def test_a_damaged_set_is_named(kit, workplace):
    images = workplace / "data" / "tiny" / "images.npy"
    images.write_bytes(images.read_bytes()[:-10])
    done = kit("train", "--model", "dcgan", "--images", 8, *TINY, code=1)
    assert "images.npy: damaged" in done.stderr
    assert not (workplace / "runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals for one process there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ctrl_c_exits_with_130_and_a_request_to_stop_with_0(workplace, number, code):
    command = [*KIT, "train", "--model", "dcgan", "--images", "100000000", *TINY]
    with subprocess.Popen(command, cwd=workplace, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "pictures/s" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
