"""The commands of docs/gan-getting-started.md as they stand there, on a few pictures; the kernel runs as on Kaggle."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import kaggle_image
import pytest
from dog_files import photo
from kaggle_desk import Run, Version
from kaggle_server import KaggleServer
from kaggle_user import Waits
from typer.testing import CliRunner

from kit.cli import app
from kit.competition import COMPETITIONS
from kit.core import trust
from kit.core.files import read_json
from kit.core.streams import TalkHandler
from kit.generation.validate import check
from kit.kaggle import client as client_module
from kit.kaggle.client import RetryPolicy

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="the kernel's image is Linux")]

MONET = COMPETITIONS["gan-getting-started"]
PAGE = Path(__file__).parents[2] / "docs" / "gan-getting-started.md"
PHOTOGRAPHS = 8
SMALL = shlex.split("--set width=4 --set generator=unet --set batch=2")


def commands() -> list[list[str]]:
    """The words of the page's commands, after `kit`."""
    _, block = PAGE.read_text().split("```sh\n", 1)
    lines = block.split("```")[0].splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("kit ")]


def smaller(words: list[str]) -> list[str]:
    """The same command for a test: less training, on what this machine has."""
    if words[0] == "train":
        return [*words, "--images", "8", "--count", "4", *SMALL]
    if words[:2] == ["kernel", "build"]:
        return [*words, "--budget", "4m", "--gpus", "none", "--count", f"{PHOTOGRAPHS}", *SMALL]
    return words


@pytest.fixture
def run_as_kaggle(server: KaggleServer, tmp_path: Path) -> Callable[[Version], dict[str, bytes]]:
    """Runs what was pushed, without network and with the competition mounted; gives the files that it leaves."""
    server.files = {f"monet_jpg/{k:x}.jpg": photo(256, 256, seed=k) for k in range(12)}
    server.files |= {f"photo_jpg/{k:x}.jpg": photo(256, 256, seed=100 + k) for k in range(PHOTOGRAPHS)}
    mounts = tmp_path / "input"
    for name, content in server.files.items():
        file = mounts / "competitions" / MONET.slug / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def run(version: Version) -> dict[str, bytes]:
        code = tmp_path / "pushed.py"
        code.write_text(version.request["text"], encoding="utf-8")
        done = kaggle_image.run(code, folder=tmp_path / "kaggle", mounts=mounts)
        assert done.returncode == 0, done.stdout
        return {path.name: path.read_bytes() for path in (tmp_path / "kaggle" / "working").iterdir()}

    return run


def test_from_an_account_to_the_board(
    run_as_kaggle: Callable[[Version], dict[str, bytes]],
    server: KaggleServer,
    clock: RetryPolicy,
    waits: Waits,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rules = dataclasses.replace(MONET, count_min=PHOTOGRAPHS, count_max=PHOTOGRAPHS)
    monkeypatch.setitem(COMPETITIONS, MONET.slug, rules)
    monkeypatch.setattr(client_module, "RETRY_POLICY", clock)
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [TalkHandler()])
    server.kernels.next_run = Run(states=["QUEUED", "COMPLETE"], leaves=run_as_kaggle)
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    environment = dict(os.environ)
    said = ""
    for words in commands():
        monkeypatch.setattr(trust, "_allowed", set())
        os.environ.update(environment)  # each command is a process of its own
        if words[:2] == ["kernel", "pull"]:
            server.kernels.versions["my-monet"][0].files  # noqa: B018  # it runs meanwhile
            assert CliRunner().invoke(app, ["kernel", "status", "my-monet"]).exit_code == 0
        done = CliRunner().invoke(app, smaller(words))
        assert done.exit_code == 0, (words, done.output, done.exception)
        said += done.output
    assert len(commands()) == 9  # and `make venv`
    assert check(Path("submissions/my-monet-v1/images.zip"), competition=rules, count=PHOTOGRAPHS).ok
    record = read_json(Path("submissions/my-monet-v1/submission.json"))
    assert record["kernel"]["version"] == "dog-lover/my-monet/1"
    [taken] = server.submissions.taken
    assert taken.request["competitionName"] == MONET.slug
    assert "public   61.25" in said
