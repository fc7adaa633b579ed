"""What made a run: versions, commit, digest, and `source.zip`, which is refused where it holds anything else."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kit import __version__
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.provenance import read_source, write_files, write_source


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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that takes the kit's place."""
    folder = tmp_path / "site-packages" / "kit"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    return folder


def test_it_holds_the_package_as_it_is(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.zip")
    files = read_source(tmp_path / "source.zip", expected=source)
    package = provenance.PACKAGE
    installed = {file.relative_to(package.parent).as_posix(): file for file in package.rglob("*") if file.is_file()}
    installed = {name: file for name, file in installed.items() if not name.endswith(".pyc")}
    assert {name: file.read_bytes() for name, file in installed.items()}.items() <= files.items()
    assert {name for name in files if name.startswith("kit/")} == installed.keys()
    assert source.sha256 == sha256(tmp_path / "source.zip")
    assert source.tree == provenance.tree_digest(files) == provenance.source_tree().digest


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    write_source(tmp_path / "one.zip")
    write_source(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_it_runs_from_the_zip(tmp_path: Path) -> None:
    write_source(tmp_path / "source.zip")
    with zipfile.ZipFile(tmp_path / "source.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    program = "import kit, kit.core.provenance as p; print(kit.__version__, p.source_tree().digest, p.PACKAGE)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "unpacked", capture_output=True, text=True, check=True
    )
    digest = provenance.source_tree().digest
    assert done.stdout.split() == [__version__, digest, str((tmp_path / "unpacked" / "kit").resolve())]


def test_an_installed_package_takes_nothing_of_its_neighbours(installed: Path, tmp_path: Path) -> None:
    (installed.parent / "README.md").write_text("of another package")
    write_source(tmp_path / "source.zip")
    assert read_source(tmp_path / "source.zip") == {"kit/__init__.py": b""}
    (installed.parent / "setup.py").write_text("setup()")
    write_source(tmp_path / "source.zip")
    assert sorted(read_source(tmp_path / "source.zip")) == ["README.md", "kit/__init__.py", "setup.py"]


@pytest.mark.abuse("A5")
def test_what_lies_in_the_package_and_is_not_the_kits_stays_at_home(installed: Path, tmp_path: Path) -> None:
    for name in (
        "kaggle.json", ".env", ".idea/workspace.xml", ".ipynb_checkpoints/cli-checkpoint.py", "cli.py~", "#cli.py#",
        "cli (copy).py", "cli.py.orig", "room/.#cli.py", "notes.txt", "images.zip", "evil.so", "__pycache__/a.pyc",
    ):  # fmt: skip
        (installed / name).parent.mkdir(exist_ok=True)
        (installed / name).write_text("secret")
    (installed / "link.py").symlink_to("/nonexistent")
    before = provenance.source_tree().digest
    write_source(tmp_path / "source.zip")
    assert read_source(tmp_path / "source.zip") == {"kit/__init__.py": b""}
    assert before == provenance.tree_digest({"kit/__init__.py": b""})


@pytest.mark.parametrize(
    ("entries", "problem"),
    [({}, "no source of the kit"), ({"README.md": b"x"}, "no source of the kit"), (None, "damaged .File is not a zip")],
)
def test_no_source(tmp_path: Path, entries: dict[str, bytes] | None, problem: str) -> None:
    path = tmp_path / "source.zip"
    if entries is None:
        path.write_bytes(hashlib.sha256(b"").digest())
    else:
        write_files(entries, path)
    with pytest.raises(KitError, match=rf"source\.zip.*{problem}"):
        read_source(path)
    with pytest.raises(KitError, match=r"nowhere\.zip: no such file"):
        read_source(tmp_path / "nowhere.zip")


def test_a_damaged_source_is_named(tmp_path: Path) -> None:
    write_source(tmp_path / "source.zip")
    data = bytearray((tmp_path / "source.zip").read_bytes())
    data[1000:1010] = b"damaged..."
    (tmp_path / "source.zip").write_bytes(data)
    with pytest.raises(KitError, match=r"source\.zip: damaged"):
        read_source(tmp_path / "source.zip")


def write_zip(path: Path, entries: dict[str, bytes], *, mode: int = 0o100644) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"kit/__init__.py": b"", **entries}.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100644 if name == "kit/__init__.py" else mode) << 16
            archive.writestr(info, content)


@pytest.mark.abuse("A1")
@pytest.mark.parametrize(
    "name",
    [
        "sitecustomize.py", "usercustomize.py", "numpy.py", "torch/__init__.py", "x.pth", "../kit/x.py",
        "kit/../../x.py", "/etc/x.py", "kit//x.py", "kit/./x.py", "C:/kit/x.py", "kit\\..\\..\\x.py", "kit/x.so",
        "kit/.x.py", "kit/", "kit/a\x1b]0;b\x07.py", "kit/ä.py", "kit/__init__.PY", "kit/x.pyc", "kit/__pycache__/x.py",
        "kit/kaggle.json",
    ],
)  # fmt: skip
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "source.zip", {name: b"open('it-ran', 'w')"})
    with pytest.raises(KitError, match=r"source\.zip: holds .* (no file of the kit|twice)") as error:
        read_source(tmp_path / "source.zip")
    assert "\x1b" not in str(error.value)
    with pytest.raises(KitError, match="no file of the kit"):
        write_files({name: b""}, tmp_path / "other.zip")


@pytest.mark.abuse("A1")
def test_links_and_other_kinds_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR):
        write_zip(tmp_path / "source.zip", {"kit/x.py": b"/etc/passwd"}, mode=kind | 0o777)
        with pytest.raises(KitError, match=r"'kit/x\.py' is a link"):
            read_source(tmp_path / "source.zip")


@pytest.mark.abuse("A1")
@pytest.mark.parametrize("limit", ["MAX_ARCHIVE", "MAX_FILES", "MAX_BYTES"])
def test_sizes_are_bounded_before_anything_is_unpacked(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(tmp_path / "source.zip", {"kit/x.py": bytes(100_000)})
    assert len(read_source(tmp_path / "source.zip")) == 2
    monkeypatch.setattr(provenance, limit, 1)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(KitError, match=r"source\.zip: .*(bytes|files)"):
        read_source(tmp_path / "source.zip")


@pytest.mark.abuse("A1")
def test_a_size_that_lies_is_found_out(tmp_path: Path) -> None:
    """The directory says 10 bytes where a megabyte comes out."""
    write_zip(tmp_path / "source.zip", {"kit/x.py": bytes(2**20)})
    data = (tmp_path / "source.zip").read_bytes()
    (tmp_path / "source.zip").write_bytes(data.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(KitError, match=r"source\.zip: damaged"):
        read_source(tmp_path / "source.zip")


@pytest.mark.abuse("A5")
def test_the_digests_of_the_record_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    record = write_source(path)
    with pytest.raises(KitError, match=r"its SHA-256 differs"):
        read_source(path, expected=dataclasses.replace(record, sha256="0" * 64))
    with pytest.raises(KitError, match=r"its digest differs"):
        read_source(path, expected=dataclasses.replace(record, tree="0" * 64))


@pytest.mark.abuse("A1")
def test_a_damaged_entry_is_named_however_it_is_packed(tmp_path: Path) -> None:
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / "source.zip"
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("kit/__init__.py", bytes(range(256)) * 40)
        content = bytearray(path.read_bytes())
        content[50:90] = bytes(40)
        path.write_bytes(content)
        with pytest.raises(KitError, match="damaged"):
            read_source(path)
