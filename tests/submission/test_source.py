"""`source.zip`: the code, byte for byte, and able to run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kit import __version__
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.submission.source import read_source, write_source


def test_it_holds_the_package_as_it_is(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.zip")
    files = read_source(tmp_path / "source.zip")
    package = provenance.PACKAGE
    modules = {file.relative_to(package.parent).as_posix(): file.read_bytes() for file in package.rglob("*.py")}
    assert modules.items() <= files.items()
    assert {name for name in files if name.startswith("kit/") and name.endswith(".py")} == modules.keys()
    assert not [name for name in files if "__pycache__" in name]
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


def test_an_installed_package_takes_nothing_of_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "kit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "README.md").write_text("of another package")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    write_source(tmp_path / "source.zip")
    assert read_source(tmp_path / "source.zip") == {"kit/__init__.py": b""}
    (package.parent / "setup.py").write_text("setup()")
    write_source(tmp_path / "source.zip")
    assert sorted(read_source(tmp_path / "source.zip")) == ["README.md", "kit/__init__.py", "setup.py"]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [({}, "no source of the kit"), ({"readme.txt": b"x"}, "no source of the kit"), (None, "not a zip")],
)
def test_no_source(tmp_path: Path, entries: dict[str, bytes] | None, problem: str) -> None:
    path = tmp_path / "source.zip"
    if entries is None:
        path.write_bytes(hashlib.sha256(b"").digest())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
    with pytest.raises(KitError, match=rf"source\.zip.*{problem}"):
        read_source(path)


def test_a_damaged_source_is_named(tmp_path: Path) -> None:
    write_source(tmp_path / "source.zip")
    data = bytearray((tmp_path / "source.zip").read_bytes())
    data[1000:1010] = b"damaged..."
    (tmp_path / "source.zip").write_bytes(data)
    with pytest.raises(KitError, match=r"source\.zip: damaged"):
        read_source(tmp_path / "source.zip")
