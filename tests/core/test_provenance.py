"""What made a run: versions, commit, and the digest of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kit.core import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that takes the kit's place."""
    folder = tmp_path / "project" / "kit"
    (folder / "room").mkdir(parents=True)
    (folder / "__init__.py").write_text("one = 1\n")
    (folder / "room" / "page.html").write_text("<p>")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment | identity, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_versions_are_those_imported() -> None:
    program = "import numpy, torch, PIL; print(numpy.__version__, torch.__version__.split('+')[0], PIL.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    versions = provenance.versions()
    assert [versions["numpy"], versions["torch"].split("+")[0], versions["pillow"]] == done.stdout.split()
    assert versions["python"] == platform.python_version()


def test_it_imports_nothing_heavy() -> None:
    program = (
        "import sys, kit.core.provenance as p; p.versions(); p.source_tree()\n"
        "print(*{'torch', 'numpy', 'PIL', 'kaggle', 'albumentations', 'typer'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_digest_follows_names_and_contents_only(package: Path) -> None:
    before = provenance.source_tree().digest
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    (package / ".hidden").write_text("an editor's")
    (package.parent / "setup.py").write_text("beside")
    os.utime(package / "__init__.py", (0, 0))
    assert provenance.source_tree().digest == before
    (package / "room" / "page.html").write_text("<b>")
    changed = provenance.source_tree().digest
    (package / "room" / "page.html").rename(package / "page.html")
    assert len({before, changed, provenance.source_tree().digest}) == 3


def test_outside_of_git(package: Path) -> None:
    source = provenance.source_tree()
    assert (source.commit, source.dirty) == (None, False)


def test_commit_and_dirty(package: Path) -> None:
    project = package.parent
    git(project, "init", "--quiet")
    git(project, "add", ".")
    assert provenance.source_tree().commit is None  # nothing committed yet
    git(project, "commit", "--quiet", "-m", "first")
    source = provenance.source_tree()
    assert (source.commit, source.dirty) == (git(project, "rev-parse", "HEAD"), False)
    (project / "notes.txt").write_text("outside of the package")
    assert not provenance.source_tree().dirty
    (package / "new.py").write_text("")
    assert provenance.source_tree().dirty
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("one = 2\n")
    assert provenance.source_tree().dirty


def test_somebody_elses_repository_says_nothing(package: Path) -> None:
    project = package.parent
    (project / ".gitignore").write_text("/kit/\n")
    git(project, "init", "--quiet")
    git(project, "add", ".gitignore")
    git(project, "commit", "--quiet", "-m", "first")
    assert provenance.source_tree().commit is None


def test_a_hook_of_another_repository_does_not_mislead(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("ours", package.parent), ("theirs", tmp_path / "theirs")):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(name)
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", name)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    assert provenance.source_tree().commit == git(package.parent, "rev-parse", "HEAD")


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.source_tree().commit is None
