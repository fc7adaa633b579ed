"""A kernel built again, from the recipe in its `run.json` and the code that was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.kaggle.kernel import Kernel, read_kernel
from kit.provenance import tree_digest
from kit.submission.source import read_source

REBUILD = """
import json, sys
from pathlib import Path
from kit.errors import KitError
from kit.kaggle.kernel import build
from kit.kaggle.spec import parse_spec
from kit.provenance import Source
asked = json.loads(sys.argv[1])
try:
    spec = parse_spec(asked["recipe"], slug=asked["slug"])
    print(build(spec, Path(sys.argv[2]), source=Source(**asked["source"])).code)
except KitError as error:
    sys.exit(f"error: {error}")
"""
"""Run by the stored kit, not by this one: what writes a kernel is part of what is to be made again."""


def rebuild(record: Mapping[str, Any], source: Path, out: Path) -> Kernel:
    """Builds the kernel that made a run once more, with the kit that built it then.

    Args:
        record: the `run.json` that the kernel left.
        source: the submission's `source.zip`.
        out: the folder of kernels to build in.

    Returns:
        What was built. Where its `digest` is that of the kernel that ran (`read_kernel` of what was pushed or pulled),
        they are the same to the byte, but for the receipt.

    Raises:
        KitError: a run that no kernel made, a `source.zip` of other code, or a stored kit that does not build.
    """
    try:
        made = record["kernel"]
        asked = {
            "recipe": made["recipe"],
            "slug": made["slug"],
            "source": {"commit": record["commit"], "dirty": record["dirty"], "digest": record["tree"]},
        }
    except (KeyError, TypeError):
        raise KitError("this run was not made by a kernel", "`kit reproduce` makes it again") from None
    files = read_source(source)
    if tree_digest(files) != record["tree"]:
        raise KitError(f"{source}: not the code that the kernel carried", "restore it from git")
    with tempfile.TemporaryDirectory(prefix="kit-rebuild-") as name:
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", REBUILD, json.dumps(asked), str(out.absolute())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise KitError(f"{source}: the stored kit does not build the kernel ({last.removeprefix('error: ')})")
    return read_kernel(Path(done.stdout.splitlines()[-1]))
