"""A run folder as `kit train` leaves it, without the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import __version__, competition
from kit.core import provenance
from kit.generation.pack import pack
from kit.models.registry import MODELS
from kit.training.run_record import DataRecord, DeviceRecord, PartRecord, ResultRecord, RunRecord


def run_record(name: str = "dcgan-demo-1", **changes: Any) -> RunRecord:
    """The record of a finished run on the drawn dogs; `changes` replace its fields."""
    source = provenance.source_tree()
    fields: dict[str, Any] = {
        "name": name,
        "state": "finished",
        "why": "the time to train was used",
        "recipe": MODELS["dcgan"].recipe,
        "seed": 0,
        "images": None,
        "count": 12,
        "competition": competition.DEFAULT,
        "data": DataRecord(name="demo", digest="d" * 64, size=64, channels=3, path="data/demo", sources="s" * 64),
        "kit": __version__,
        "versions": provenance.versions(),
        "budget_s": 180.0,
        "device": DeviceRecord(type="cpu", name="a processor", precision="float32", threads=2),
        "commit": source.commit,
        "dirty": source.dirty,
        "tree": source.digest,
        "pictures": 12_800,
        "parts": [PartRecord(start=0, stop=12_800, seconds=170.0)],
    }
    return RunRecord(**{**fields, **changes})


def result_record(pictures: int = 12_800, **changes: Any) -> ResultRecord:
    """What a run's record says of its images.zip."""
    digests = {"sha256": "a" * 64, "pixels_sha256": "b" * 64, "weights_sha256": "f" * 64}
    fields: dict[str, Any] = {"file": "images.zip", "pictures": pictures, "count": 256, "bytes": 2_000_000, **digests}
    return ResultRecord(**{**fields, **changes})


def write_run(path: Path, *, count: int = 12, slug: str = competition.DEFAULT, seed: int = 0, **changes: Any) -> Path:
    """A finished run with real pictures in a real zip; `changes` replace fields of its record."""
    rules = competition.get(slug)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, rules.size, rules.size, 3), dtype=np.uint8)
    packed = pack([pixels], path / "images.zip", competition=rules)
    result = result_record(**{key: value for key, value in asdict(packed).items() if key != "path"})
    fields = {"count": count, "competition": slug, "seed": seed, "result": result, **changes}
    run_record(path.name, **fields).save(path / "run.json")
    return path


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`make_run("name", count=12, state="failed", …)` writes `runs/name`, see `write_run`.

    The kit's own code is a small package here: who edits the real one while the tests run would otherwise be told,
    rightly, that the kit has changed since the run.
    """
    package = tmp_path / "installed" / "kit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.1.0"\n')
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def make(name: str = "dcgan-demo-1", **options: Any) -> Path:
        return write_run(tmp_path / "runs" / name, **options)

    return make
