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
from kit.core.files import write_json
from kit.generation.pack import pack


def write_run(path: Path, *, count: int = 12, slug: str = competition.DEFAULT, seed: int = 0, **changes: Any) -> Path:
    """A finished run with real pictures in a real zip; `changes` replace parts of its `run.json`."""
    rules = competition.get(slug)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, rules.size, rules.size, 3), dtype=np.uint8)
    packed = pack([pixels], path / "images.zip", competition=rules)
    source = provenance.source_tree()
    result = {key: value for key, value in asdict(packed).items() if key != "path"}
    record = {
        "version": 1,
        "kit": __version__,
        "name": path.name,
        "recipe": {"model": "dcgan", "latent": 100, "width": 64, "batch": 64, "lr_g": 2e-4},
        "seed": seed,
        "data": {"path": "data/demo", "name": "demo", "digest": "d" * 64, "competition": slug},
        "competition": slug,
        "count": count,
        "budget_s": 180.0,
        "images": None,
        "versions": provenance.versions(),
        "commit": source.commit,
        "dirty": source.dirty,
        "tree": source.digest,
        "device": {"type": "cpu", "name": "a processor", "threads": 2},
        "plan": {"deadline_s": 170.0},
        "parts": [{"from": 0, "to": 12_800}],
        "state": "finished",
        "why": "the budget's training time was used",
        "pictures": 12_800,
        "result": {"file": "images.zip", "weights_sha256": "w" * 64, **result},
    }
    write_json(path / "run.json", record | changes)
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
