"""Files that land whole or not at all, with the permissions the user wants, and folders that are replaced."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.core.files import atomic, atomic_folder, clear_leftovers, read_json, recover_folder, sweep, write_json

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links are POSIX's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.abuse("B11")
@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_new_files_and_folders_keep_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic(tmp_path / "file") as file:
            file.write(b"x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == 0o777 & ~umask


@pytest.mark.abuse("B11")
@posix
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664])
def test_what_is_private_stays_private(permissions: int, tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    path.write_text("{}")
    path.chmod(permissions)
    write_json(path, {"new": 1})
    assert mode(path) == permissions
    assert read_json(path) == {"new": 1}


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 100, " [odd] ", "*"])
def test_any_name_that_the_disk_takes_can_be_written(name: str, tmp_path: Path) -> None:
    with atomic(tmp_path / name) as file:
        file.write(b"x")
    with atomic_folder(tmp_path / "below" / name):
        pass
    assert (tmp_path / name).read_bytes() == b"x"
    assert (tmp_path / "below" / name).is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems allow no such names")
def test_names_that_are_no_utf8_go_through_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"path": name})
    assert read_json(tmp_path / "a.json") == {"path": name}
    json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


@pytest.mark.abuse("B6")
def test_a_folder_that_is_replaced_loses_only_what_is_owned(tmp_path: Path) -> None:
    path = folder(tmp_path / "set", images="old", notes="mine")
    (path / "more").mkdir()
    (path / "more" / "photo").write_text("mine, too")
    with atomic_folder(path, owned={"images", "labels"}) as part:
        (part / "images").write_text("new")
    assert {item.name: item.read_text() for item in path.rglob("*") if item.is_file()} == {
        "images": "new",
        "notes": "mine",
        "photo": "mine, too",
    }
    assert [item.name for item in tmp_path.iterdir()] == ["set"]


@pytest.mark.abuse("B6")
@pytest.mark.parametrize("owned", [(), ("images",)])
def test_a_foreign_file_with_the_name_of_a_new_one_is_not_overwritten_either(
    owned: Sequence[str], tmp_path: Path
) -> None:
    path = tmp_path / "set"
    with atomic_folder(path, owned=owned) as part:
        folder(path, canvas="mine", notes="mine, too")  # also where it comes while the new one is being filled
        (part / "canvas").write_text("new")
    assert "mine" in {item.read_text() for item in tmp_path.rglob("canvas")}
    assert (path / "notes").read_text() == "mine, too"


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "set", images="old")

    def fail() -> None:
        with atomic_folder(path) as part:
            (part / "images").write_text("new")
            raise OSError(28, "No space left on device")

    with pytest.raises(KitError, match="the disk is full"):
        fail()
    assert (path / "images").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["set"]


KILLED = """
import os, sys
from collections.abc import Sequence
from pathlib import Path
from kit.core.files import atomic_folder

path, moment, replace, calls = Path(sys.argv[1]), int(sys.argv[2]), Path.replace, 0

def killed(self, target):
    global calls
    calls += 1
    if calls > moment:
        os._exit(9)
    return replace(self, target)

Path.replace = killed
with atomic_folder(path) as part:
    (part / "images").write_text("new")
"""


@pytest.mark.abuse("D17")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_replacement_that_is_cut_short_after_any_rename_keeps_one_of_both(renames: int, tmp_path: Path) -> None:
    path = folder(tmp_path / "set", images="old")
    subprocess.run([sys.executable, "-c", KILLED, path, str(renames)], check=False)
    recover_folder(path)
    assert (path / "images").read_text() == ("new" if renames == 2 else "old")
    clear_leftovers(path, owned={"images"})
    assert (path / "images").read_text() == ("new" if renames == 2 else "old")
    assert [item.name for item in tmp_path.iterdir()] == ["set"]


def test_only_what_was_left_by_a_killed_process_is_swept(tmp_path: Path) -> None:
    mine = [".holiday.part", "run.json.part", ".notes.0123456789ab.part"]
    for name in (*mine, ".run.json.0123456789ab.part"):
        (tmp_path / name).write_text("x")
    sweep(tmp_path, r"run\.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)
