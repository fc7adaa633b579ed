"""What several rooms' tests share."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores, and threads of several would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from kit.core.files import sha256
from kit.data.prepared_set import Counts, CropRecord, DatasetRecord, InputCounts, PreparedSet, load

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run, and no limit of time: a slow machine is no failure.
settings.register_profile("kit", derandomize=True, deadline=None)
settings.register_profile(
    "abuse", deadline=None, print_blob=True, max_examples=300
)  # of bench/abuse.py, which draws them at random
settings.load_profile("kit")

if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup make test` is not to keep it from the commands under test


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures; the project never depends on it, so the test skips where it is missing."""
    folder = Path(os.environ.get("KIT_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder} (set KIT_SHARED)")
    return folder


def write_set(
    path: Path,
    *,
    n: int = 32,
    size: int = 16,
    channels: int = 3,
    classes: int = 2,
    mixed: bool = False,
    inputs: int = 0,
    competition: str = "generative-dog-images",
) -> PreparedSet:
    """A small prepared set of random blobs, as `kit data` would write it.

    Every fourth source picture has two rows, every eighth is held out, and no two pictures are alike. With `classes=0`
    it has none; with `mixed` each source picture has a canvas of its own shape; `inputs` is the number of
    pictures to be translated.
    """
    path.mkdir(parents=True)
    rng = np.random.default_rng(n)

    def blobs(height: int, width: int) -> np.ndarray:
        coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, channels))
        return np.kron(coarse, np.ones((4, 4, 1)))[:height, :width].astype(np.uint8)

    pictures: list[int] = []
    while len(pictures) < n:
        picture = pictures[-1] + 1 if pictures else 0
        pictures += [picture] * (2 if picture % 4 == 3 else 1)
    pictures = pictures[:n]
    labels = [picture % classes if classes else -1 for picture in pictures]
    arrays: dict[str, np.ndarray] = {
        "images": np.stack([blobs(size, size) for _ in pictures]),
        "labels": np.array(labels, np.int16),
        "whole": np.stack([blobs(size, size) for _ in range(pictures[-1] + 1)]),
    }
    if mixed:
        shapes = [(size, size + 3 * (k % 9)) if k % 2 else (size + 2 * (k % 9), size) for k in range(pictures[-1] + 1)]
        offsets = np.cumsum([0, *(height * width for height, width in shapes)])
        arrays["canvas"] = np.concatenate([blobs(*shape).reshape(-1, channels) for shape in shapes])
        arrays["canvas_index"] = np.array([(o, *shape) for o, shape in zip(offsets, shapes, strict=False)], np.int64)
    if inputs:
        arrays["inputs"] = np.stack([blobs(size, size) for _ in range(inputs)])
        lines = (json.dumps({"file": f"{k:04}.jpg", "repair": None}) + "\n" for k in range(inputs))
        (path / "inputs.jsonl").write_text("".join(lines), encoding="utf-8")
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    samples = [
        {"file": f"dogs/{picture:04}.jpg", "box": [row, 0, row + 9, 9], "repair": None, "holdout": picture % 8 == 5}
        for row, picture in enumerate(pictures)
    ]
    (path / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    record = DatasetRecord(
        name=path.name,
        competition=competition,
        source="test",
        crop=CropRecord(policy="mixed" if mixed else "box"),
        size=size,
        channels=channels,
        classes=[f"breed_{k}" for k in range(classes)],
        counts=Counts(
            found=pictures[-1] + 1,
            kept=pictures[-1] + 1,
            samples=n,
            inputs=InputCounts(found=inputs, kept=inputs) if inputs else None,
        ),
        files={file.name: sha256(file) for file in sorted(path.iterdir())},
    )
    dataclasses.replace(record, digest=record.content_digest()).save(path / "dataset.json")
    return load(path)


@pytest.fixture(scope="session")
def make_set() -> Callable[..., PreparedSet]:
    """A function that writes a small prepared set: `make_set(tmp_path / "set", n=32, size=16)`, see `write_set`."""
    return write_set
