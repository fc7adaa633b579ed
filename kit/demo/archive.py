"""The drawn dogs as a competition would serve them: two zips, with the invalid samples of the real ones."""

from __future__ import annotations

import io
import multiprocessing
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from kit.core.errors import KitError
from kit.core.files import atomic, read_json, sha256, write_json
from kit.core.machine import cores
from kit.core.progress import Progress, no_progress
from kit.demo.breeds import BREEDS, Breed
from kit.demo.scene import Box, photograph

PICTURES = 1300
DRAWING = 1
"""Counts up when the same seed draws other pictures than before."""

RECORD, ZIPS = "drawn.json", ("all-dogs.zip", "Annotation.zip")
TIMESTAMP = (2018, 1, 1, 0, 0, 0)
CHUNK = 16
"""Pictures that a process draws at a time."""

LEAST = 40
"""Fewer pictures than this have no room for the invalid samples."""


@dataclass(frozen=True)
class Drawn:
    """One picture and its annotation, as files."""

    breed: Breed
    number: int
    picture: bytes | None  # None: the annotation is all there is
    width: int
    height: int
    boxes: tuple[Box, ...]

    @property
    def stem(self) -> str:
        """What both files are called."""
        return f"{self.breed.wnid}_{self.number}"

    def annotation(self) -> bytes:
        """Pascal VOC."""
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(self.breed.name)}</name>\n\t\t<pose>Unspecified</pose>\n"
            "\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
            f"\t\t\t<xmin>{xmin}</xmin>\n\t\t\t<ymin>{ymin}</ymin>\n\t\t\t<xmax>{xmax}</xmax>\n\t\t\t<ymax>{ymax}</ymax>\n"
            "\t\t</bndbox>\n\t</object>\n"
            for xmin, ymin, xmax, ymax in self.boxes
        )
        return (
            f"<annotation>\n\t<folder>{self.breed.wnid[1:]}</folder>\n\t<filename>{self.stem}</filename>\n"
            "\t<source>\n\t\t<database>the kit's embedded set</database>\n\t</source>\n\t<size>\n"
            f"\t\t<width>{self.width}</width>\n\t\t<height>{self.height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
            f"\t<segment>0</segment>\n{objects}</annotation>\n"
        ).encode()


def draw(
    folder: Path,
    *,
    seed: int = 0,
    pictures: int = PICTURES,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Draws dogs into `all-dogs.zip` and `Annotation.zip`; the same seed gives the same bytes.

    Among them are an annotation without a picture, boxes beyond and wholly outside a picture, several dogs in one, an
    RGBA PNG called .jpg, a JPEG that ends early, and exact duplicates.

    Args:
        folder: where the zips go; what was drawn there from the same seed is kept.
        seed: decides everything.
        pictures: how many, at least 40.
        workers: processes; None: one a core. They do not change a byte.
        progress: called with pictures drawn and in all.

    Returns:
        The folder.

    Raises:
        KitError: too few pictures, or the disk is full.
    """
    if pictures < LEAST:
        raise KitError(f"a drawn set of {pictures} pictures", f"take {LEAST} or more")
    asked = {"drawing": DRAWING, "seed": seed, "pictures": pictures}
    if _stands(folder, asked):
        return folder
    with (
        atomic(folder / ZIPS[0]) as images,
        atomic(folder / ZIPS[1]) as notes,
        zipfile.ZipFile(images, "w") as image_zip,
        zipfile.ZipFile(notes, "w") as note_zip,
    ):
        for done, drawn in enumerate(_with_invalid(_all(seed, pictures, workers or cores()), pictures)):
            if drawn.picture is not None:
                _add(image_zip, f"all-dogs/{drawn.stem}.jpg", drawn.picture, zipfile.ZIP_STORED)
            name = f"Annotation/{drawn.breed.folder}/{drawn.stem}"
            _add(note_zip, name, drawn.annotation(), zipfile.ZIP_DEFLATED)
            progress(done + 1, pictures)
    write_json(folder / RECORD, {**asked, "sha256": {name: sha256(folder / name) for name in ZIPS}})
    return folder


def _stands(folder: Path, asked: dict[str, int]) -> bool:
    try:
        record = read_json(folder / RECORD)
        return all(record.get(key) == value for key, value in asked.items()) and all(
            sha256(folder / name) == digest for name, digest in record["sha256"].items()
        )
    except (KitError, OSError, AttributeError, KeyError):
        return False


def _all(seed: int, count: int, workers: int) -> Iterator[Drawn]:
    """All pictures in order, all of them valid."""
    one = partial(_one, seed)
    if workers == 1:
        yield from map(one, range(count))
        return
    # Spawned, not forked: the same everywhere, and safe whatever threads this process already has.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, range(count), chunksize=CHUNK)


def _one(seed: int, index: int) -> Drawn:
    rng = np.random.default_rng([seed, index])
    shares = np.array([breed.share for breed in BREEDS])
    breed = BREEDS[rng.choice(len(BREEDS), p=shares / shares.sum())]
    photo = photograph(breed, rng)
    file = io.BytesIO()
    photo.image.save(file, "JPEG", quality=int(rng.integers(80, 95)))
    # Numbers like the real ones: unique, and with gaps.
    number = index * 7 + int(rng.integers(0, 7)) + 10
    return Drawn(breed, number, file.getvalue(), photo.image.width, photo.image.height, tuple(photo.boxes))


def _with_invalid(clean: Iterator[Drawn], count: int) -> Iterator[Drawn]:
    """The same pictures, some made invalid, always at the same places."""
    earlier: dict[str, Drawn] = {}  # the first clean picture of each breed
    for index, drawn in enumerate(clean):
        assert drawn.picture is not None
        if index == 3:
            yield replace(drawn, picture=None)
        elif index == 7:
            yield replace(drawn, picture=drawn.picture[: len(drawn.picture) * 2 // 3])
        elif index == 11:
            yield replace(drawn, picture=_as_rgba_png(drawn.picture))
        elif index in (13, count // 2):
            (xmin, ymin, _, _), *others = drawn.boxes
            beyond = (max(xmin - 30, -5), ymin, drawn.width + 14, drawn.height + 9)
            yield replace(drawn, boxes=(beyond, *others))
        elif index == 17:
            outside = (drawn.width + 20, drawn.height + 20, drawn.width + 90, drawn.height + 80)
            yield replace(drawn, boxes=(outside,))
        elif index in (count - 5, count - 2) and (first := earlier.get(drawn.breed.name)):
            yield replace(first, number=drawn.number)
        else:
            earlier.setdefault(drawn.breed.name, drawn)
            yield drawn


def _as_rgba_png(picture: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGBA").save(file, "PNG")
    return file.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    info = zipfile.ZipInfo(name, TIMESTAMP)
    info.compress_type, info.create_system, info.external_attr = method, 3, 0o644 << 16
    archive.writestr(info, content)
