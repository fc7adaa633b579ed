"""Damage drawn at random: whatever lies in the files, a command does its work or says in one line why it cannot.

`python bench/abuse.py D15 --seed N` draws more of it, and other damage each time.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from kit import cli
from kit.core.errors import KitError
from kit.data.prepared_set import load

EXAMPLES = 10 if settings().derandomize else 300  # in `make test`, in the bench


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, a run that was scored and reported, its submission and a kernel's recipe."""
    root = tmp_path_factory.mktemp("place")
    (root / "photographs").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(root / "photographs" / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        tiny = ("--images", "8", "--count", "12", *(f"--set={key}" for key in ("width=4", "latent=8", "batch=8")))
        for command in (
            ("data", "--from", "photographs", "--out", "data/set", "--size", "16"),
            ("train", "--model", "dcgan", "--out", "runs/one", *tiny),
            ("score", "runs/one", "--features", "random"),
            ("pack", "runs/one"),
            ("kernel", "build", "--slug", "tiny-one", "--model", "dcgan", "--budget", "30m", "--gpus", "none"),
        ):
            assert kit(*command) == "", command
    return root


def kit(*arguments: str) -> str:
    """What a command says of its failure; anything but such a line is raised."""
    result = CliRunner().invoke(cli.app, list(arguments))
    if isinstance(result.exception, KitError | OSError):  # what `kit.cli.main` prints in one line
        assert "\n" not in str(result.exception)
        return str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return "" if result.exit_code == 0 else f"exit code {result.exit_code}"


COMMANDS = {
    "runs/one/run.json": (
        ("runs", "--json"), ("report", "runs/one"), ("pack", "runs/one"), ("sample", "runs/one", "--out", "new.png"),
        ("score", "runs/one", "--features", "random"), ("runs", "--html"), ("submit", "runs/one", "--dry-run"),
        ("train", "--model", "dcgan", "--resume", "--images", "16", "--out", "runs/one"),
    ),
    "runs/one/progress.jsonl": (("report", "runs/one"), ("runs", "--html")),
    "runs/one/score.json": (("runs",), ("report", "runs/one"), ("pack", "runs/one")),
    "runs/one/checkpoint.pt": (("sample", "runs/one", "--out", "new.png"), ("report", "runs/one")),
    "runs/one/images.zip": (
        ("check", "runs/one/images.zip", "--count", "12"), ("pack", "runs/one"), ("report", "runs/one"),
        ("score", "runs/one/images.zip", "--features", "random"),
    ),
    "submissions/one/submission.json": (
        ("submissions", "--json"), ("submissions",), ("submit", "--dry-run"), ("reproduce", "submissions/one"),
        ("pack", "runs/one"),
    ),
    "submissions/one/source.zip": (("reproduce", "submissions/one", "--data", "data/set", "--keep", "photographs"),),
    "data/set/dataset.json": (("score", "runs/one/images.zip", "--features", "random"), ("report", "runs/one")),
    "data/set/samples.jsonl": (("score", "runs/one/images.zip", "--features", "random"), ("report", "runs/one")),
    "kernels/tiny-one/kernel.toml": (("kernel", "build", "tiny-one"), ("kernel", "push", "--help")),
}  # fmt: skip
"""What reads a file. `reproduce` ends before it trains: `--keep` names a folder that exists."""

ODD = st.sampled_from(
    [None, True, -1, 0, 10**40, 1e300, float("nan"), "", "../..", "..", "\0", "\x1b]0;x\x07", "\udcff", "x" * 5000, [],
     {}, [[]] * 50, "9" * 400, "2026-01-01T00:00:00", "/", "dcgan", {"a": {"b": []}}]
)  # fmt: skip
BYTES = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "zeros"]), st.floats(0, 1), st.binary(min_size=1, max_size=40)
)


def damage_field(content: Any, steps: list[int], value: Any) -> Any:
    """A copy of a JSON value with another value at a place that the steps lead to; no more steps: there."""
    keys = (
        sorted(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(content, list) else []
    )
    if not steps or not keys:
        return value
    copy, key = content.copy(), keys[steps[0] % len(keys)]
    copy[key] = damage_field(content[key], steps[1:], value)
    return copy


def damage_bytes(content: bytes, how: str, where: float, new: bytes) -> bytes:
    at = min(int(where * len(content)), max(len(content) - 1, 0))
    if how == "cut":
        return content[:at]
    if how == "insert":
        return content[:at] + new + content[at:]
    return content[:at] + (bytes(len(new)) if how == "zeros" else new) + content[at + len(new) :]


@pytest.mark.abuse("D15")
@settings(max_examples=EXAMPLES)
@given(
    file=st.sampled_from(sorted(COMMANDS)), choice=st.integers(0, 7), odd=ODD, bytes_=BYTES,
    field=st.booleans(), steps=st.lists(st.integers(0, 40), min_size=1, max_size=4),
)  # fmt: skip
def test_a_damaged_file_is_one_line_in_every_command(
    place: Path, file: str, choice: int, odd: Any, bytes_: tuple[str, float, bytes], field: bool, steps: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root = shutil.copytree(place, Path(name) / "place")
        patch.chdir(root)
        path = root / file
        if field and file.endswith("json"):
            damaged = damage_field(json.loads(path.read_bytes()), steps, odd)
            path.write_bytes(json.dumps(damaged).encode("utf-8", "surrogatepass"))
        else:
            path.write_bytes(damage_bytes(path.read_bytes(), *bytes_))
        kit(*COMMANDS[file][choice % len(COMMANDS[file])])
        kept = sorted(file.name for file in (root / "photographs").iterdir())
        assert kept == sorted(file.name for file in (place / "photographs").iterdir())


@pytest.mark.abuse("B10")
@settings(max_examples=EXAMPLES // 2)
@given(bytes_=BYTES)
def test_no_damaged_checkpoint_draws_other_pictures(place: Path, bytes_: tuple[str, float, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root = shutil.copytree(place, Path(name) / "place")
        patch.chdir(root)
        assert kit("sample", "runs/one", "--out", "intact.png", "--count", "4") == ""
        path = root / "runs" / "one" / "checkpoint.pt"
        path.write_bytes(damage_bytes(path.read_bytes(), *bytes_))
        said = kit("sample", "runs/one", "--out", "new.png", "--count", "4")
        assert ("checkpoint.pt" in said) if said else same("intact.png", "new.png")


def same(a: str, b: str) -> bool:
    return np.array_equal(np.asarray(Image.open(a)), np.asarray(Image.open(b)))


def encoded(kind: str, mode: str, *, seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


KINDS = [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "P"),
         ("WEBP", "RGB"), ("BMP", "RGB"), ("PPM", "RGB"), ("TIFF", "RGB")]  # fmt: skip
DAMAGED = st.lists(st.tuples(st.sampled_from(KINDS), BYTES), min_size=30, max_size=60)


@pytest.mark.abuse("D15", "F27")
@pytest.mark.parametrize("write", ["folder", "zip"])
@settings(max_examples=max(EXAMPLES // 50, 1))
@given(pictures=DAMAGED, whole=BYTES)
def test_damaged_pictures_are_taken_or_listed(
    write: str, pictures: list[tuple[tuple[str, str], tuple[str, float, bytes]]], whole: tuple[str, float, bytes]
) -> None:
    """Each is kept, or rejected with its reason, or no picture any more; a zip may be damaged as a whole, too."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.chdir(name)
        files = {
            f"{n:03}.{kind[0].lower()}": damage_bytes(encoded(*kind), *how) for n, (kind, how) in enumerate(pictures)
        }
        files |= {f"good{n}.png": encoded("PNG", "RGB")[:-12] + bytes([n]) for n in range(2)}
        source = Path(name) / "source"
        if write == "zip":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for file, content in files.items():
                    archive.writestr(file, content)
            source.write_bytes(damage_bytes(buffer.getvalue(), *whole) if whole[2][0] % 2 else buffer.getvalue())
        else:
            source.mkdir()
            for file, content in files.items():
                (source / file).write_bytes(content)
        said = kit("data", "--from", "source", "--out", "set", "--size", "16", "--max-rejected", "1", "--holdout", "0")
        if said:
            assert "source" in said
        else:
            counts = load(Path("set")).record.counts
            assert counts.kept >= 1
            assert write == "zip" or counts.found + counts.other_files == len(files)
        assert not [file for file in Path(name).iterdir() if file.name.endswith((".part", ".lock", ".old"))]
