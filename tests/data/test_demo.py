"""The drawn dogs: the competition's layout and its invalid samples, from a seed."""

from __future__ import annotations

import io
import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from kit import demo
from kit.competition import COMPETITIONS
from kit.core.errors import KitError
from kit.data.prepare import prepare
from kit.demo import archive
from kit.demo.breeds import BREEDS
from kit.demo.scene import photograph

COUNT = 48


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return demo.draw(tmp_path_factory.mktemp("demo"), seed=5, pictures=COUNT, workers=2)


@pytest.fixture(scope="module")
def files(drawn):
    """Pictures and annotations by stem."""
    with zipfile.ZipFile(drawn / "all-dogs.zip") as images, zipfile.ZipFile(drawn / "Annotation.zip") as notes:
        return (
            {PurePosixPath(name).stem: images.read(name) for name in images.namelist()},
            {PurePosixPath(name).name: ElementTree.fromstring(notes.read(name)) for name in notes.namelist()},
        )


def boxes(note):
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [tuple(int(box.findtext(corner)) for corner in corners) for box in note.iter("bndbox")]


def test_the_layout_is_the_competitions(drawn):
    folders = {breed.folder for breed in BREEDS}
    assert len(folders) >= 6
    assert any("-" in breed.name for breed in BREEDS)  # as in the real set
    with zipfile.ZipFile(drawn / "all-dogs.zip") as images:
        for name in images.namelist():
            assert name.startswith("all-dogs/n")
            assert name.endswith(".jpg")
    with zipfile.ZipFile(drawn / "Annotation.zip") as notes:
        assert len(notes.namelist()) == COUNT
        for name in notes.namelist():
            top, folder, stem = name.split("/")
            assert (top, folder in folders, "." in stem) == ("Annotation", True, False)
            assert stem.split("_")[0] == folder.split("-")[0]


def test_all_kinds_of_invalid_samples_are_there(files):
    pictures, notes = files
    assert len(notes.keys() - pictures.keys()) == 1
    kinds, broken = set(), 0
    sizes = {}
    for stem, content in pictures.items():
        image = Image.open(io.BytesIO(content))
        kinds.add((image.format, image.mode))
        sizes[stem] = image.size
        try:
            image.load()
        except OSError:
            broken += 1
    assert ("PNG", "RGBA") in kinds
    assert broken == 1
    assert len(pictures) - len(set(pictures.values())) == 2
    beyond = outside = 0
    for stem, (width, height) in sizes.items():
        for xmin, ymin, xmax, ymax in boxes(notes[stem]):
            outside += xmin >= width or ymin >= height
            beyond += (xmax > width or ymax > height) and not (xmin >= width or ymin >= height)
    assert outside == 1
    assert beyond >= 2
    assert any(len(boxes(note)) > 1 for note in notes.values())


def test_preparing_it_finds_the_invalid_samples(drawn, tmp_path):
    made = prepare(
        drawn, competition=COMPETITIONS["generative-dog-images"], out=tmp_path / "set", max_rejected=0.1, workers=1
    )
    counts = made.record.counts
    assert (counts.found, counts.rejected, counts.duplicates) == (COUNT - 1, 1, 2)
    assert counts.annotations_without_picture == 1
    assert sum(counts.boxes.dropped.values()) == 1
    assert counts.whole_pictures == 1
    assert len(made.classes) >= 6


def test_what_stands_is_not_drawn_again_and_what_is_damaged_is_to_the_byte_whatever_the_workers(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "copy")
    whole = {name: (drawn / name).read_bytes() for name in archive.ZIPS}
    time = (folder / "all-dogs.zip").stat().st_mtime_ns
    demo.draw(folder, seed=5, pictures=COUNT, workers=1)
    assert (folder / "all-dogs.zip").stat().st_mtime_ns == time
    (folder / "all-dogs.zip").write_bytes(whole["all-dogs.zip"][:-100])
    demo.draw(folder, seed=5, pictures=COUNT, workers=1)
    assert {name: (folder / name).read_bytes() for name in archive.ZIPS} == whole


def test_too_small_a_set_is_refused(tmp_path):
    with pytest.raises(KitError, match="take 40 or more"):
        demo.draw(tmp_path / "none", pictures=39)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("breed", BREEDS, ids=lambda breed: breed.name)
def test_boxes_hold_their_dogs(breed):
    for index in range(2):
        photo = photograph(breed, np.random.default_rng([9, index]))
        covered = np.zeros_like(photo.silhouette)
        for xmin, ymin, xmax, ymax in photo.boxes:
            assert 0 <= xmin <= xmax < photo.image.width
            assert 0 <= ymin <= ymax < photo.image.height
            covered[ymin : ymax + 1, xmin : xmax + 1] = True
        assert photo.silhouette.any()
        assert covered[photo.silhouette].all()
