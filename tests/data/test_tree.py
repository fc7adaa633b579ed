import contextlib
import os
import struct
import sys
import zipfile
from pathlib import Path

import pytest
from dog_files import below, make_folder, make_zip
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.core.files import sha256
from kit.data import tree
from kit.data.archives import BadFile
from kit.data.prepared_set import SourceRecord
from kit.data.tree import open_tree

FILES = {"a/one.jpg": b"1" * 50, "a/two.jpg": bytes(range(256)) * 9, "three": b""}


def contents(path: Path, spool: Path) -> dict[str, bytes]:
    spool.mkdir(exist_ok=True)
    tree = open_tree(path, spool=spool)
    with tree.reader() as reader:
        return {entry.name: reader.read(entry) for entry in tree.entries}


def test_a_stored_zip_in_a_zip_is_read_where_it_is_and_a_packed_one_as_one_file(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", FILES).read_bytes()
    spool = tmp_path / "spool"
    for method, copies in ((zipfile.ZIP_STORED, 0), (zipfile.ZIP_DEFLATED, 1)):
        outer = make_zip(tmp_path / "outer.zip", {"x/inner.zip": inner, "other": b"o"}, method)
        assert contents(outer, spool) == below("x/inner.zip", FILES) | {"other": b"o"}
        assert len(list(spool.iterdir())) == copies


def test_a_zip_in_a_zip_in_a_zip_is_opened_and_a_fourth_is_a_file(tmp_path: Path) -> None:
    data = make_zip(tmp_path / "4.zip", FILES).read_bytes()
    for level in (3, 2, 1):
        data = make_zip(tmp_path / f"{level}.zip", {f"{level + 1}.zip": data}, zipfile.ZIP_STORED).read_bytes()
    assert list(contents(tmp_path / "1.zip", tmp_path / "spool")) == ["2.zip/3.zip/4.zip"]
    assert set(contents(tmp_path / "2.zip", tmp_path / "spool")) == set(below("3.zip/4.zip", FILES))


def truncated(path: Path) -> Path:
    make_zip(path, {"big": os.urandom(4000)})
    path.write_bytes(path.read_bytes()[:3000])
    return path


def no_utf8(path: Path) -> Path:
    make_zip(path, {"é.jpg": b"x"})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    return path


def plain_text(path: Path) -> Path:
    path.write_text("<html>please sign in</html>")
    return path


def with_a_broken_zip(path: Path) -> Path:
    return make_zip(path, {"all-dogs.zip": b"PK\x03\x04 and no more"}, zipfile.ZIP_STORED)


UNUSABLE = {
    "truncated": (truncated, "truncated"),
    "text": (plain_text, "no zip"),
    "names not UTF-8": (no_utf8, "zip"),
    "climbing": (lambda path: make_zip(path, {"a/../../b.jpg": b"x"}), "'a/../../b.jpg'"),
    "climbing with backslashes": (lambda path: make_zip(path, {"..\\b.jpg": b"x"}), "leads out"),
    "absolute": (lambda path: make_zip(path, {"/etc/b.jpg": b"x"}), "'/etc/b.jpg'"),
    "a drive": (lambda path: make_zip(path, {"C:/b.jpg": b"x"}), "'C:/b.jpg'"),
    "a bomb": (lambda path: make_zip(path, {"b.jpg": bytes(4_000_000)}), "zip bomb"),
    "a bomb as a zip": (lambda path: make_zip(path, {"b.zip": bytes(4_000_000)}), "zip bomb"),
    "a broken zip inside": (with_a_broken_zip, "all-dogs.zip"),
    "nothing there": (lambda path: path, "no such"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_archive_that_cannot_be_used_is_one_line_with_its_name(case: str, tmp_path: Path) -> None:
    make, words = UNUSABLE[case]
    path = make(tmp_path / "set.zip")
    spool = tmp_path / "spool"
    spool.mkdir()
    with pytest.raises(KitError) as error:
        open_tree(path, spool=spool)
    assert str(path) in error.value.problem
    assert words in str(error.value)
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_ENTRIES", 2)
    with pytest.raises(KitError, match="over 2 files"):
        open_tree(make_zip(tmp_path / "a.zip", FILES), spool=tmp_path)


def test_a_damaged_an_encrypted_and_an_oversized_file_are_bad_files(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"damaged": b"12345678" * 20, "locked": b"x", "big": b"y" * 100}, 0)
    data = bytearray(path.read_bytes())
    data[data.index(b"12345678")] ^= 1
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both of its headers
        at = data.index(b"locked") if signature == b"PK\x03\x04" else data.rindex(b"locked")
        data[data.rindex(signature, 0, at) + flags] |= 1
    path.write_bytes(data)
    tree = open_tree(path, spool=tmp_path)
    with tree.reader() as reader:
        for entry, words in zip(tree.entries, ("CRC", "encrypted", "limit"), strict=True):
            with pytest.raises(BadFile, match=words):
                reader.read(entry, limit=60 if entry.name == "big" else 1000)


def test_hidden_files_are_passed_over_and_links_never_go_in_circles(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path / "root", {"a/x.jpg": b"x", ".git/y.jpg": b"y", "__MACOSX/._x.jpg": b"z", ".DS_Store": b""}
    )
    (root / "a" / "loop").symlink_to(root)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.jpg").write_bytes(b"l")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert contents(root, tmp_path / "spool") == {"a/x.jpg": b"x", "link/linked.jpg": b"l"}
    packed = make_zip(tmp_path / "a.zip", {"a/x.jpg": b"x", "__MACOSX/a/._x.jpg": b"z", "a/.DS_Store": b""})
    assert contents(packed, tmp_path / "spool") == {"a/x.jpg": b"x"}


def test_a_name_is_the_same_from_any_system(tmp_path: Path) -> None:
    expected = {"Grüße/é.jpg": b"x"}
    composed = make_zip(tmp_path / "composed.zip", expected)
    decomposed = make_zip(tmp_path / "decomposed.zip", {"Gru\u0308ße/e\u0301.jpg": b"x"})
    backslashes = make_zip(tmp_path / "backslashes.zip", {"Grüße\\é.jpg": b"x"})
    # UTF-8 bytes without the flag that says so, as many programs write them.
    unflagged = tmp_path / "unflagged.zip"
    unflagged.write_bytes(composed.read_bytes())
    data = bytearray(unflagged.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(signature) + at
        data[start : start + 2] = struct.pack("<H", struct.unpack_from("<H", data, start)[0] & ~0x800)
    unflagged.write_bytes(data)
    folder = make_folder(tmp_path / "folder", expected)
    for source in (composed, decomposed, backslashes, unflagged, folder):
        assert contents(source, tmp_path / "spool") == expected


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems allow no such names")
def test_a_name_that_is_no_text_is_shown_escaped_and_still_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / os.fsdecode(b"caf\xe9\x1b[31m.jpg")).write_bytes(b"x")
    assert contents(tmp_path / "set", tmp_path / "spool") == {"caf\\udce9\\x1b[31m.jpg": b"x"}


def test_the_fingerprint_is_of_the_bytes_that_are_used(tmp_path: Path) -> None:
    def fingerprint(path: Path) -> list[SourceRecord]:
        tree = open_tree(path, spool=tmp_path)
        return tree.fingerprint(entry for entry in tree.entries if entry.name.endswith(".jpg"))

    packed = make_zip(tmp_path / "a" / "set.zip", FILES)
    from_zip = fingerprint(packed)
    assert from_zip == [SourceRecord(file="set.zip", bytes=packed.stat().st_size, sha256=sha256(packed))]
    assert fingerprint(tmp_path / "a") == from_zip
    loose = make_folder(tmp_path / "loose", FILES)
    first = fingerprint(loose)
    assert [row.bytes for row in first] == [50 + 256 * 9]
    (loose / "three").write_bytes(b"not used")
    assert fingerprint(loose) == first
    (loose / "a" / "one.jpg").write_bytes(b"2" * 50)
    assert fingerprint(loose) != first


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_zip_gives_right_bytes_or_says_what_is_wrong(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    inner = make_zip(folder / "inner.zip", FILES).read_bytes()
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    path = make_zip(folder / "outer.zip", FILES | {"inner.zip": inner}, method)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    right = set(FILES.values()) | {inner}
    problem = str(path)
    try:
        tree = open_tree(path, spool=folder)
        with tree.reader() as reader:
            for entry in tree.entries:
                # A damaged list may state another length and checksum only together: one in four billion.
                with contextlib.suppress(BadFile):
                    assert reader.read(entry) in right
    except KitError as error:
        problem = error.problem
    assert str(path) in problem
