"""What made a run: the versions of its libraries and the very text of this package."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

# The libraries whose versions can change a byte of what the kit makes.
LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "numpy", "scipy", "pillow", "kaggle")

GIT_TIMEOUT_S = 10


@dataclass(frozen=True)
class Source:
    """The state of the package that is running."""

    commit: str | None  # None: not in a git checkout, or nothing committed yet
    dirty: bool  # some of its files differ from that commit
    digest: str  # of its files, see `tree_digest`


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide what comes out; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


_FILE = re.compile(r"kit/([A-Za-z0-9][A-Za-z0-9_]*/)*([A-Za-z_][A-Za-z0-9_]*\.(py|html|css|js)|py\.typed)")


def belongs(name: str) -> bool:
    """Whether a path ("kit/cli.py") can be one of the kit's own files: a module, or a page of the report.

    Folders of editors, their backups, notebooks' checkpoints and keys that lie in the package do not belong to it.
    """
    return _FILE.fullmatch(name) is not None


def package_files() -> dict[str, bytes]:
    """Every file of the running package by its path ("kit/cli.py"); what does not belong to it is left out."""
    files = {file.relative_to(PACKAGE.parent).as_posix(): file for file in sorted(PACKAGE.rglob("*"))}
    return {name: file.read_bytes() for name, file in files.items() if belongs(name) and file.is_file()}


def tree_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256, in hexadecimal, over the files' names and contents, in the order of their names.

    Args:
        files: by path with `/`, as `package_files` gives them; what lies outside `kit/` is left out, so that a
            checkout, an installed package and a `source.zip` of the same code agree.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.startswith("kit/"):
            digest.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def source_tree() -> Source:
    """The package that is running: git's commit where it knows these files, and their digest in any case."""
    digest = tree_digest(package_files())
    # An installed kit may lie in somebody else's repository, whose commit says nothing about it.
    known = _git("ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git("rev-parse", "--verify", "HEAD") if known else None
    dirty = commit is not None and bool(_git("status", "--porcelain", "--", "."))
    return Source(commit=commit, dirty=dirty, digest=digest)


def _git(*arguments: str) -> str | None:
    """What git says in the package's folder; None where it fails or is not there."""
    # In a git hook these point at the repository being committed to, not at the one the package lies in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, env=environment, capture_output=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
