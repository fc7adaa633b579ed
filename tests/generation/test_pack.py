"""`images.zip`: the same pixels come back, and equal pictures give equal bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from kit.competition import COMPETITIONS, Competition
from kit.core.errors import KitError
from kit.generation.pack import Packed, encode, most_bytes, pack

DOGS, MONETS = (COMPETITIONS[name] for name in ("generative-dog-images", "gan-getting-started"))
every_competition = pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=COMPETITIONS)


def pictures(count: int, competition: Competition, *, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth colours with some noise: a cheap picture that is no worst case for JPEG."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 256, (count, 3, 3, 3), dtype=np.uint8)
    side = (competition.size, competition.size)
    smooth = np.stack([np.asarray(Image.fromarray(c).resize(side, Image.Resampling.BICUBIC)) for c in corners])
    noise = random.integers(-4, 5, smooth.shape)
    return np.clip(smooth.astype(int) + noise, 0, 255).astype(np.uint8)[..., :channels]


def unpacked(path: Path) -> list[tuple[str, Image.Image]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return [(name, Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]


def pixel_digest_by_hand(decoded: list[np.ndarray]) -> str:
    """The documented digest, computed from scratch."""
    parts = [hashlib.sha256(b"%d %d %d" % picture.shape + picture.tobytes()).digest() for picture in decoded]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.integers(1, 20).flatmap(
            lambda b: arrays.arrays(np.uint8, (b, DOGS.size, DOGS.size, 3), elements=st.integers(0, 255))
        ),
        min_size=1,
        max_size=3,
    ),
    workers=st.integers(1, 3),
)
def test_any_pixels_come_back(tmp_path: Path, batches: list[np.ndarray], workers: int) -> None:
    packed = pack(batches, tmp_path / "images.zip", competition=DOGS, workers=workers)
    every = np.concatenate(batches)
    decoded = [np.asarray(image) for _, image in unpacked(packed.path)]
    assert np.array_equal(np.stack(decoded), every)
    assert packed.count == len(every)
    assert packed.pixels_sha256 == pixel_digest_by_hand(decoded)
    again = pack([every], tmp_path / "again.zip", competition=DOGS)
    assert again.path.read_bytes() == packed.path.read_bytes()


@every_competition
def test_what_lies_in_the_zip(tmp_path: Path, competition: Competition) -> None:
    source = pictures(5, competition)
    packed = pack([source[:2], source[2:]], tmp_path / "images.zip", competition=competition)
    files = unpacked(packed.path)
    assert [name for name, _ in files] == [f"0000{i}{competition.suffix}" for i in range(5)]
    assert {image.format for _, image in files} == {competition.format}
    assert {image.mode for _, image in files} == {competition.mode}
    assert {image.size for _, image in files} == {(competition.size, competition.size)}
    decoded = np.stack([np.asarray(image) for _, image in files])
    lossless = competition.format == "PNG"
    assert np.abs(decoded.astype(int) - source).max() <= (0 if lossless else 16)
    assert np.abs(decoded.astype(int) - source).mean() <= (0 if lossless else 3)
    assert packed == Packed(
        path=tmp_path / "images.zip",
        count=5,
        bytes=packed.path.stat().st_size,
        sha256=hashlib.sha256(packed.path.read_bytes()).hexdigest(),
        pixels_sha256=pixel_digest_by_hand(list(decoded)),
    )


@every_competition
def test_batches_and_threads_do_not_show_in_the_bytes(tmp_path: Path, competition: Competition) -> None:
    source = pictures(40, competition)
    one = pack([source], tmp_path / "one.zip", competition=competition, workers=1)
    many = pack((picture[None] for picture in source), tmp_path / "many.zip", competition=competition, workers=3)
    assert one.path.read_bytes() == many.path.read_bytes()
    other = pack([source[::-1]], tmp_path / "other.zip", competition=competition)
    assert other.sha256 != one.sha256
    assert other.pixels_sha256 != one.pixels_sha256


@every_competition
def test_entries_state_nothing_of_time_or_machine(tmp_path: Path, competition: Competition) -> None:
    packed = pack([pictures(2, competition)], tmp_path / "images.zip", competition=competition)
    with zipfile.ZipFile(packed.path) as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert (info.create_system, info.external_attr >> 16) == (3, 0o100644)
            assert (info.compress_type, info.flag_bits, info.extra, info.comment) == (zipfile.ZIP_STORED, 0, b"", b"")


@every_competition
def test_noise_takes_the_most_room(tmp_path: Path, competition: Competition) -> None:
    shape = (12, competition.size, competition.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    packed = pack([noise], tmp_path / "images.zip", competition=competition)
    assert 0.7 * most_bytes(competition, 12) < packed.bytes <= most_bytes(competition, 12)


def test_jpeg_keeps_the_colours_resolution() -> None:
    data, _ = encode(pictures(1, MONETS)[0], MONETS)
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, JpegImageFile)
        assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}  # 4:4:4, each component at full resolution


def test_grey_is_replicated(tmp_path: Path) -> None:
    grey = pictures(3, DOGS, channels=1)
    packed = pack([grey], tmp_path / "images.zip", competition=DOGS)
    rgb = pack([np.repeat(grey, 3, axis=3)], tmp_path / "rgb.zip", competition=DOGS)
    assert packed.sha256 == rgb.sha256


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 64, 32, 3), np.uint8),
        np.zeros((2, 64, 64, 4), np.uint8),
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
    ],
    ids=lambda batch: f"{batch.shape}-{batch.dtype}",
)
def test_wrong_pictures_leave_nothing(tmp_path: Path, batch: np.ndarray) -> None:
    out = tmp_path / "images.zip"
    good = np.zeros((40, 64, 64, 3), np.uint8)
    with pytest.raises(KitError, match=r"generative-dog-images takes \(64, 64, 3\)"):
        pack([good, batch], out, competition=DOGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 4])
def test_another_number_than_promised_leaves_the_old_file(tmp_path: Path, count: int) -> None:
    out = tmp_path / "images.zip"
    out.write_bytes(b"the interim zip of ten minutes ago")
    with pytest.raises(KitError, match=r"images\.zip"):
        pack([pictures(3, DOGS)] * bool(count), out, competition=DOGS, count=count)
    assert out.read_bytes() == b"the interim zip of ten minutes ago"
    assert list(tmp_path.iterdir()) == [out]


def test_a_generator_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield pictures(100, DOGS)
        raise KitError("the generator gives NaN")

    with pytest.raises(KitError, match="gives NaN"):
        pack(failing(), tmp_path / "images.zip", competition=DOGS)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(KitError, match="the disk is full"):
        pack([pictures(1, DOGS)], tmp_path / "images.zip", competition=DOGS)
    assert list(tmp_path.iterdir()) == []


def test_translations_are_named_as_their_inputs(tmp_path: Path) -> None:
    packed = pack([pictures(2, MONETS)], tmp_path / "images.zip", competition=MONETS, names=["00068b", "000910"])
    assert [name for name, _ in unpacked(packed.path)] == ["00068b.jpg", "000910.jpg"]
    with pytest.raises(KitError, match="more than the 1 pictures"):
        pack([pictures(2, MONETS)], tmp_path / "images.zip", competition=MONETS, names=["00068b"])
    with pytest.raises(KitError, match="two pictures would have one name"):
        pack([pictures(2, MONETS)], tmp_path / "images.zip", competition=MONETS, names=["a", "a"])
