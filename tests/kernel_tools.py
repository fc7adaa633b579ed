"""Kernels to push in tests, and what they would leave."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from kaggle_desk import Version
from kaggle_server import make_zip
from run_tools import result_record, run_record

from kit import competition
from kit.core import provenance
from kit.generation.pack import pack
from kit.kaggle.kernel_spec import KernelSpec, spec_text
from kit.kaggle.kernels import Built, build, read_kernel
from kit.training.run_record import KernelRecord

SLUG = "little-dogs"
MODULE = b'"""A kit so small that building a kernel takes no time."""\n'


def build_little(root: Path, **changes: Any) -> Built:
    """A kernel whose kit is one small file."""
    files = {"kit/__init__.py": MODULE}
    source = provenance.Source(commit=None, dirty=False, digest=provenance.tree_digest(files))
    spec = KernelSpec(**{"slug": SLUG, "model": "dcgan", "budget": "1h", "count": 12, **changes})
    return build(spec, root / "kernels", source=source, files=files)


def output_of(version: Version, folder: Path, *, seed: int = 0, **changes: Any) -> dict[str, bytes]:
    """The files that a pushed version leaves when all goes well."""
    folder.mkdir(parents=True, exist_ok=True)
    code = folder / "pushed.py"
    code.write_text(version.request["text"], encoding="utf-8")
    kernel = read_kernel(code)
    rules = competition.get(kernel.spec.competition)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, rules.size, rules.size, 3), dtype=np.uint8)
    packed = pack([pixels], folder / "images.zip", competition=rules)
    result = result_record(4_000_000, **{key: value for key, value in asdict(packed).items() if key != "path"})
    record = run_record(
        SLUG,
        competition=rules.slug,
        tree=kernel.source.digest,
        commit=kernel.source.commit,
        dirty=kernel.source.dirty,
        pictures=4_000_000,
        kernel=KernelRecord(slug=SLUG, receipt=kernel.receipt, recipe=spec_text(kernel.spec), budget_s=3600.0),
        result=result,
    )
    record.save(folder / "run.json")
    written = json.loads((folder / "run.json").read_text())
    return {
        "__results__.html": b"<html></html>",  # Kaggle's own
        "checkpoint.pt": make_zip({"checkpoint/data.pkl": b"weights"}),
        "film.gif": b"gif",
        "run.json": json.dumps(written | changes).encode(),
        "samples.png": b"png",
        "images.zip": (folder / "images.zip").read_bytes(),
        "report.html": b"<html></html>",
    }
