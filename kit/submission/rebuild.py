"""`kit reproduce` of a kernel's submission: the same code, written again by the kit that wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from kit.core import provenance
from kit.core.errors import KitError
from kit.core.provenance import Source
from kit.core.source_zip import read_source
from kit.kaggle.kernel_spec import parse_spec
from kit.kaggle.kernels import METADATA, Built
from kit.models import custom
from kit.submission import ledger
from kit.submission.ledger import Submission
from kit.submission.reproduce import Verdict

BUILD = """
import json, sys
from pathlib import Path
from kit.core.errors import KitError
from kit.kaggle.kernels import build
from kit.kaggle.kernel_spec import parse_spec
from kit.core.provenance import Source
asked = json.load(sys.stdin)
try:
    spec = parse_spec(asked["recipe"], slug=asked["slug"])
    built = build(spec, Path(asked["root"]), source=Source(**asked["source"]), trust=True)
except KitError as error:
    sys.exit(f"error: {error}")
print(json.dumps({"code": str(built.code), "bytes": built.bytes, "digest": built.digest}))
"""
"""Run by the stored kit, not by this one."""


def rebuild(submission: Submission, root: Path, *, trust: bool = False) -> tuple[Verdict, Built]:
    """Writes a kernel submission's code again from its stored kit and recipe, and compares it with what was pushed.

    Args:
        submission: one with a `kernel`.
        root: the folder of kernels to write into.
        trust: whether the code of a model file in the recipe may be run, which looking at its settings does.

    Raises:
        KitError: the stored code is damaged, or does not run; a model file that is not trusted.
    """
    kernel = submission.kernel
    if kernel is None:
        raise KitError(f"{submission.name} was not made by a kernel", f"run `kit reproduce {submission.name}`")
    slug = kernel.version.split("/")[1]
    spec = parse_spec(kernel.recipe, slug=slug)
    custom.require_trust(spec.model, spec.source, trust=trust, where=submission.folder)
    files = read_source(submission.folder / ledger.SOURCE)
    tree = provenance.tree_digest(files)
    if tree != submission.source.tree:
        raise KitError(f"{submission.folder / ledger.SOURCE}: damaged (not the code that ran)", "restore it from git")
    source = Source(commit=submission.source.commit, dirty=submission.source.dirty, digest=tree)
    asked = {"recipe": kernel.recipe, "slug": slug, "source": asdict(source), "root": str(root.absolute())}
    with tempfile.TemporaryDirectory(prefix="kit-rebuild-") as home:
        for path, content in files.items():
            target = Path(home) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", BUILD],
            input=json.dumps(asked),
            cwd=home,
            env={**os.environ, "PYTHONPATH": home},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise KitError(
            f"{submission.folder}: the stored kit does not write the kernel ({last.removeprefix('error: ')})"
        )
    made = json.loads(done.stdout.splitlines()[-1])
    identical = made["digest"] == kernel.code_sha256
    same = "identical" if identical else f"differs: {made['digest'][:16]} now, {kernel.code_sha256[:16]} then"
    code = Path(made["code"])
    built = Built(
        folder=code.parent,
        spec=spec,
        code=code,
        metadata=code.parent / METADATA,
        bytes=made["bytes"],
        source=source,
        digest=made["digest"],
    )
    return Verdict(identical=identical, lines=(f"kit      {tree[:16]}", f"kernel   {same}")), built
