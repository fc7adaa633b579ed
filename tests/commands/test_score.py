"""`kit score` as a user meets it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_tools import run_record
from typer.testing import CliRunner

from kit import cli
from kit.competition import COMPETITIONS, DEFAULT
from kit.data.prepared_set import PreparedSet
from kit.generation.pack import pack
from kit.scoring.score_record import Score
from kit.training.run_record import DataRecord

MakeSet = Callable[..., PreparedSet]


@pytest.fixture
def digits(make_set: MakeSet, tmp_path: Path) -> Path:
    """A run on grey pictures of 32 px, with the images.zip that the kit packs of it."""
    prepared = make_set(tmp_path / "set", n=24, size=32, channels=1)
    run = tmp_path / "run"
    pictures = prepared.images[:12].repeat(2, axis=1).repeat(2, axis=2)
    pack([pictures], run / "images.zip", competition=COMPETITIONS[DEFAULT])
    data = DataRecord(name="set", digest=prepared.digest, size=32, channels=1, path=str(prepared.path))
    run_record("run", data=data).save(run / "run.json")
    return run


def kit_score(run: Path, *options: str) -> tuple[int, list[str], str]:
    """Exit code, lines on stdout, and the error or what was said on stderr."""
    result = CliRunner().invoke(cli.app, ["score", str(run), "--features", "random", *options])
    return result.exit_code, result.stdout.splitlines(), str(result.exception or result.stderr)


@pytest.mark.abuse("F24")
def test_what_the_kit_made_at_another_size_can_be_scored(digits: Path) -> None:
    code, lines, problem = kit_score(digits)
    assert code == 0, problem
    assert any("12 generated pictures" in line for line in lines)
    assert Score.load(digits / "score.json").size == 32


@pytest.mark.abuse("B11")
def test_the_number_is_printed_though_it_cannot_be_kept(digits: Path, caplog: pytest.LogCaptureFixture) -> None:
    (digits / "score.json").mkdir()  # cannot be replaced by a file, as on a read-only medium
    (digits / "score.json" / "note").write_text("")
    code, lines, problem = kit_score(digits)
    assert code == 0, problem
    assert any(line.startswith("FID ") for line in lines)
    assert any("not kept" in record.getMessage() and "score.json" in record.getMessage() for record in caplog.records)


@pytest.mark.abuse("F23")
@pytest.mark.parametrize("options", [(), ("--all",)])
def test_another_set_under_the_runs_name_is_refused(
    digits: Path, make_set: MakeSet, tmp_path: Path, options: tuple[str, ...]
) -> None:
    shutil.rmtree(tmp_path / "set")
    other = make_set(tmp_path / "set", n=20, size=32, channels=1)
    code, _, problem = kit_score(digits, *options)
    assert code == 1
    assert f"{tmp_path / 'set'}: another set than the one that this run was trained on" in problem
    assert other.digest[:12] in problem
    if not options:
        assert kit_score(digits, "--data", str(other.path))[0] == 0  # asked for by name


def test_one_way_to_ask_at_a_time(digits: Path) -> None:
    code, _, problem = kit_score(digits, "--all", "--method", "sqrtm")
    assert code == 1
    assert "--method sqrtm is for one score" in problem


def test_a_folder_of_real_pictures_as_the_reference(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more real ones"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(9):  # of any size and mode
        pixels = rng.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    code, lines, problem = kit_score(digits, "--against", str(folder))
    assert code == 0, problem
    assert lines[0].startswith("KID")  # 9 pictures are fewer than the features' 512 dimensions
    assert "12 generated pictures against 9 whole pictures of more real ones (all)" in lines
    assert not (digits / "score.json").exists()  # the run's score is the one against its own set
    assert kit_score(digits, "--against", str(tmp_path / "none"))[0] == 1
    assert "--against FOLDER has whole pictures" in kit_score(digits, "--against", str(folder), "--all")[2]
