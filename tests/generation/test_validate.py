"""`kit check`: every finding, and nothing else."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.competition import COMPETITIONS, Competition
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.generation.pack import pack
from kit.generation.validate import Issue, check

DOGS = COMPETITIONS["generative-dog-images"]
every_competition = pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=COMPETITIONS)
Entries = dict[str, bytes]


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def encoded(format: str = "PNG", *, size: int = 64, mode: str = "RGB", seed: int = 99) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(1, size, seed)[0]).convert(mode).save(buffer, format)
    return buffer.getvalue()


def write(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: the constructor would tidy it
            archive.writestr(info, data)
    return path


def good(count: int = 3) -> list[tuple[str, bytes]]:
    return [(f"{i:05d}.png", encoded(seed=i)) for i in range(count)]


def test_the_number_of_pictures(tmp_path: Path) -> None:
    small = replace(DOGS, count_min=3, count_max=4)
    for count, right in ((2, False), (3, True), (4, True), (5, False)):
        pack([noise(count, DOGS.size)], tmp_path / "images.zip", competition=DOGS)
        report = check(tmp_path / "images.zip", competition=small)
        assert report.ok == right
        if not right:
            problem = f"{count} pictures, and {DOGS.slug} asks for 3 to 4"
            assert report.errors == [Issue("images.zip", problem)]
        assert check(tmp_path / "images.zip", competition=small, count=count).ok
        (error,) = check(tmp_path / "images.zip", competition=small, count=count + 1).errors
        assert error == Issue("images.zip", f"{count} pictures, and {count + 1} were asked for")


# entries to add to three good ones; which of them the scorer would look at; error or warning; words of it
FINDINGS: dict[str, tuple[list[tuple[str, bytes]], int, str, str]] = {
    "size": ([("x.png", encoded(size=32))], 1, "error", "is 32×32, not 64×64"),
    "format": ([("x.png", encoded("JPEG"))], 1, "error", "is a JPEG, and generative-dog-images takes PNG"),
    "format jpg": ([("x.jpg", encoded("JPEG"))], 1, "error", "is a JPEG, and generative-dog-images takes PNG"),
    "grey": ([("x.png", encoded(mode="L"))], 1, "error", "has mode L, not RGB"),
    "alpha": ([("x.png", encoded(mode="RGBA"))], 1, "error", "has mode RGBA, not RGB"),
    "no picture": ([("x.png", b"hello")], 1, "error", "no picture of a known format"),
    "cut": ([("x.png", encoded()[:-5000])], 1, "error", "no picture that can be read"),
    "damaged": ([("x.png", encoded()[:300] + b"?" + encoded()[301:])], 1, "error", "no picture that can be read"),
    "bomb": ([("x.png", encoded() + bytes(10**8))], 1, "error", "cannot be unpacked (over"),
    "nested": ([("sub/x.png", encoded())], 0, "error", "lies in a folder"),
    "parent": ([("../x.png", encoded())], 0, "error", "leads out of the archive"),
    "absolute": ([("/x.png", encoded())], 0, "error", "leads out of the archive"),
    "drive": ([("C:\\x.png", encoded())], 0, "error", "leads out of the archive"),
    "twice": ([("00000.png", encoded())], 0, "error", "there twice"),
    "text": ([("readme.txt", b"hello")], 0, "warning", "does not end in .png or .jpg"),
    "capitals": ([("X.PNG", encoded())], 0, "warning", "does not end in .png or .jpg"),
    "mac": ([("__MACOSX/._00000.png", b"\0\5\26\7")], 0, "warning", "what a Mac adds"),
    "folder": ([("sub/", b"")], 0, "warning", "a folder"),
    "duplicate": ([("x.png", encoded(seed=1))], 1, "warning", "the same pixels as 00001.png"),
}


@pytest.mark.parametrize("case", FINDINGS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_finding_names_its_entry(tmp_path: Path, case: str) -> None:
    entries, seen, kind, words = FINDINGS[case]
    report = check(write(tmp_path / "images.zip", good() + entries), competition=DOGS, count=3 + seen)
    findings, others = (report.errors, report.warnings) if kind == "error" else (report.warnings, report.errors)
    assert others == []
    assert [finding.entry for finding in findings] == [entries[0][0]]
    assert words in findings[0].problem
    assert report.ok == (kind == "warning")
    assert report.count == 3 + seen


@every_competition
def test_blank_pictures(tmp_path: Path, competition: Competition) -> None:
    flat = np.broadcast_to(np.array([[[10, 20, 30]]], np.uint8), (competition.size, competition.size, 3))
    packed = pack([np.stack([noise(1, competition.size)[0], flat])], tmp_path / "images.zip", competition=competition)
    report = check(packed.path, competition=competition, count=2)
    assert report.ok
    assert report.warnings == [Issue(f"00001{competition.suffix}", "blank, all of one colour")]


def test_a_picture_of_a_billion_pixels_is_not_decoded(tmp_path: Path) -> None:
    header = bytearray(encoded())
    header[16:24] = (12_000).to_bytes(4, "big") * 2  # width and height in a PNG's first chunk
    crc = zlib.crc32(header[12:29])
    header[29:33] = crc.to_bytes(4, "big")
    report = check(write(tmp_path / "images.zip", [("x.png", bytes(header))]), competition=DOGS, count=1)
    (error,) = report.errors
    assert str(error) == "x.png: is 12000×12000, not 64×64"


def _encrypt(data: bytearray) -> None:
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1


def _unknown_method(data: bytearray) -> None:
    data[8] = 77
    data[data.rindex(b"PK\1\2") + 10] = 77


def _wrong_checksum(data: bytearray) -> None:
    data[14] ^= 0xFF
    data[data.rindex(b"PK\1\2") + 16] ^= 0xFF


@pytest.mark.parametrize("harm", [_encrypt, _unknown_method, _wrong_checksum], ids=lambda harm: harm.__name__)
def test_entries_that_do_not_unpack(tmp_path: Path, harm: Callable[[bytearray], None]) -> None:
    path = write(tmp_path / "images.zip", good(1))
    data = bytearray(path.read_bytes())
    harm(data)
    path.write_bytes(data)
    (error,) = check(path, competition=DOGS, count=1).errors
    assert error.entry == "00000.png"
    assert "cannot be unpacked" in error.problem


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_zip(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "images.zip", good())
    path.write_bytes(path.read_bytes()[:kept])
    report = check(path, competition=DOGS, count=3)
    (error,) = report.errors
    assert error.entry == "images.zip"
    assert "not a zip, or a truncated one" in error.problem
    assert (report.count, report.pixels_sha256, report.sha256) == (0, None, sha256(path))


def test_a_flood_of_entries_is_not_looked_at(tmp_path: Path) -> None:
    small = replace(DOGS, count_min=1, count_max=1)
    report = check(write(tmp_path / "images.zip", [(f"{i}.png", b"") for i in range(11)]), competition=small)
    assert [str(error) for error in report.errors] == [
        "images.zip: 11 pictures, and generative-dog-images asks for exactly 1",
        "images.zip: too many to look at each",
    ]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_such_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "images.zip")
    with pytest.raises(KitError, match=r"images\.zip"):
        check(tmp_path / "images.zip", competition=DOGS)


def test_lines_are_few(tmp_path: Path) -> None:
    entries = [(f"{i:02d}.png", b"") for i in range(30)] + [("readme.txt", b"")]
    report = check(write(tmp_path / "images.zip", entries), competition=DOGS, count=30)
    lines = report.lines(limit=4)
    assert [line.split(":")[1].strip() for line in lines[:4]] == ["00.png", "01.png", "02.png", "03.png"]
    assert lines[4:] == ["error: … and 26 more like these", f"warning: {report.warnings[0]}"]
    json.dumps(report.lines())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_bytes_there_is_a_report(tmp_path: Path, data: st.DataObject) -> None:
    intact = write(tmp_path / "intact.zip", good(2)).read_bytes()
    harmed = bytearray(intact)
    for _ in range(data.draw(st.integers(0, 4))):
        harmed[data.draw(st.integers(0, len(harmed) - 1))] = data.draw(st.integers(0, 255))
    del harmed[data.draw(st.integers(len(harmed) // 2, len(harmed))) :]
    path = tmp_path / "images.zip"
    path.write_bytes(harmed)
    report = check(path, competition=DOGS, count=2)
    if bytes(harmed) == intact:
        assert report.ok
    intact_pixels = check(tmp_path / "intact.zip", competition=DOGS, count=2).pixels_sha256
    # Either the pictures are all as they were, or it is said that they are not.
    assert report.pixels_sha256 == intact_pixels or not report.ok
