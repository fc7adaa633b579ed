"""Reading pictures back, and refusing what is none."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.core.errors import KitError
from kit.generation import pictures as room
from kit.generation.pictures import picture_digest, picture_names, pixels_digest, read_pictures

RANDOM = np.random.default_rng(0)
PIXELS = {name: RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8) for name in ("b.png", "a.png", "sub/c.png")}


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def place(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return tmp_path / "set.zip"
    for name, data in files.items():
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path / "set"


both = pytest.mark.parametrize("kind", ["zip", "folder"])


@both
def test_every_picture_sorted_by_name(tmp_path: Path, kind: str) -> None:
    files = {name: png(pixels) for name, pixels in PIXELS.items()}
    noise = {"notes.txt": b"hello", "__MACOSX/._a.png": b"\0\5\26\7", ".hidden.png": b"", "sub/.x/y.png": b""}
    path = place(tmp_path, kind, files | noise)
    read = list(read_pictures(path))
    assert [name for name, _ in read_pictures(path, limit=1)] == ["a.png"]
    assert [name for name, _ in read] == picture_names(path) == ["a.png", "b.png", "sub/c.png"]
    for name, pixels in read:
        assert np.array_equal(pixels, PIXELS[name])
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("stored", "mode", "channels"),
    [("RGBA", "RGB", 3), ("P", "RGB", 3), ("1", "L", 1), ("CMYK", "RGB", 3), ("RGB", "L", 1)],
)
def test_modes_are_converted_as_pillow_does(tmp_path: Path, stored: str, mode: str, channels: int) -> None:
    image = Image.fromarray(PIXELS["a.png"]).convert(stored)
    name = "a.jpg" if stored == "CMYK" else "a.png"
    (tmp_path / "set").mkdir()
    image.save(tmp_path / "set" / name)
    ((_, pixels),) = read_pictures(tmp_path / "set", mode=mode)  # type: ignore[arg-type]
    assert pixels.shape == (6, 5, channels)
    with Image.open(tmp_path / "set" / name) as opened:
        assert np.array_equal(pixels.squeeze(), np.asarray(opened.convert(mode)))


@both
def test_another_mode_is_refused_where_it_may_not_be_converted(tmp_path: Path, kind: str) -> None:
    path = place(tmp_path, kind, {"a.png": png(PIXELS["a.png"]), "grey.png": png(PIXELS["a.png"][:, :, 0])})
    pictures = read_pictures(path, convert=False)
    assert np.array_equal(next(pictures)[1], PIXELS["a.png"])
    with pytest.raises(KitError, match=r"grey\.png.*mode L, and RGB is wanted"):
        next(pictures)


@both
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no picture"),
        (b"not a picture", "no picture"),
        (png(PIXELS["a.png"])[:60], "no picture"),
        (png(np.full((4, 4), 40_000, np.uint16)), "more than 8 bits"),
        (png(np.zeros((1, room.MAX_PIXELS + 1), np.uint8)), "over the limit"),
    ],
    ids=["empty", "text", "cut", "16-bit", "huge"],
)
def test_a_bad_picture_is_named(tmp_path: Path, kind: str, data: bytes, problem: str) -> None:
    path = place(tmp_path, kind, {"a.png": png(PIXELS["a.png"]), "bad.png": data})
    pictures = read_pictures(path)
    assert next(pictures)[0] == "a.png"
    with pytest.raises(KitError, match=rf"bad\.png.*{problem}") as error:
        next(pictures)
    assert "object at" not in str(error.value)


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    path = place(tmp_path, "zip", {"a.png": png(PIXELS["a.png"])})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(KitError, match=r"a\.png cannot be read"):
        list(read_pictures(path))


@both
def test_a_file_too_large_is_not_read_to_the_end(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_BYTES", 1000)
    monkeypatch.setattr(room.read_entry, "__kwdefaults__", {"limit": 1000})
    path = place(tmp_path, kind, {"bomb.png": b"\0" * 100_000})
    with pytest.raises(KitError, match=r"bomb\.png.*over 1,000 bytes"):
        list(read_pictures(path))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.write_bytes(b""), "not a zip"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(100)), "not a zip"),
        (lambda path: path.mkdir(), "no pictures"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "no pictures"),
    ],
)
def test_bad_paths_are_told_at_once(tmp_path: Path, make: object, problem: str) -> None:
    make(tmp_path / "set")  # type: ignore[operator]
    with pytest.raises(KitError, match=problem):
        read_pictures(tmp_path / "set")


def test_digests_tell_shapes_and_order_apart() -> None:
    flat = np.arange(24, dtype=np.uint8)
    digests = [picture_digest(flat.reshape(shape)) for shape in ((2, 4, 3), (4, 2, 3), (24, 1, 1), (1, 24, 1))]
    assert len(set(digests)) == 4
    assert pixels_digest(digests) != pixels_digest(digests[::-1])
    strided = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::2]
    assert picture_digest(strided) == picture_digest(strided.copy())
