"""Small sets in the competition's layout, and the ways they are packed in the wild."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BREEDS = ("n01-Alpha", "n02-Beta-hound", "n03-Gamma")


def photo(
    width: int = 60, height: int = 40, *, seed: int = 0, kind: str = "JPEG", mode: str = "RGB", **options: Any
) -> bytes:
    """A picture file of soft blobs, like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """How alike two pictures are, in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def voc(*boxes: tuple[object, object, object, object], size: tuple[int, int] = (60, 40)) -> bytes:
    """An annotation."""
    objects = "".join(
        f"<object><name>dog</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for a, b, c, d in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>".encode()


@dataclass
class DogFiles:
    """Pictures by name ("n01_1.jpg"), annotations by breed and name ("n01-Alpha/n01_1")."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    annotations: dict[str, bytes] = field(default_factory=dict)

    def add(
        self, name: str, picture: bytes, *boxes: tuple[object, object, object, object], breed: str = BREEDS[0]
    ) -> None:
        self.pictures[f"{name}.jpg"] = picture
        self.annotations[f"{breed}/{name}"] = voc(*boxes)


def clean_dogs(count: int = 12) -> DogFiles:
    """Good pictures of several shapes, one to two boxes each, all breeds in turn."""
    dogs = DogFiles()
    for i in range(count):
        width, height = 40 + 7 * (i % 4), 36 + 5 * (i % 5)
        boxes = [(3, 4, width - 5, height - 6), (1, 1, 20, 30)][: 1 + i % 2]
        breed = BREEDS[i % len(BREEDS)]
        dogs.add(f"{breed.split('-')[0]}_{i}", photo(width, height, seed=i), *boxes, breed=breed)
    return dogs


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def _zips(
    dogs: DogFiles,
    root: Path,
    *,
    pictures: str = "all-dogs/",
    annotations: str = "Annotation/",
    case: Callable[[str], str] = str,
) -> Path:
    make_zip(root / case("all-dogs.zip"), {pictures + name: data for name, data in dogs.pictures.items()})
    make_zip(root / case("Annotation.zip"), {annotations + name: data for name, data in dogs.annotations.items()})
    return root


def _folders(dogs: DogFiles, root: Path, pictures: str, annotations: str) -> Path:
    make_folder(root / pictures, dogs.pictures)
    make_folder(root / annotations, dogs.annotations)
    return root


def _bundle(dogs: DogFiles, root: Path, method: int) -> Path:
    _zips(dogs, root / "parts")
    files = {name: (root / "parts" / name).read_bytes() for name in ("all-dogs.zip", "Annotation.zip")}
    return make_zip(root / "bundle.zip", files, method)


def _one_zip(dogs: DogFiles, root: Path) -> Path:
    files = below("all-dogs/all-dogs", dogs.pictures) | below("Annotation/Annotation", dogs.annotations)
    return make_zip(root / "bundle.zip", files)


def _half_extracted(dogs: DogFiles, root: Path) -> Path:
    _zips(dogs, root)
    make_folder(root / "all-dogs", dogs.pictures)
    return root


LAYOUTS: dict[str, Callable[[DogFiles, Path], Path]] = {
    "two zips": _zips,
    "two zips without folders": lambda dogs, root: _zips(dogs, root, pictures="", annotations=""),
    "two zips of other case": lambda dogs, root: _zips(dogs, root, case=str.upper),
    "folders": lambda dogs, root: _folders(dogs, root, "all-dogs", "Annotation"),
    "folders in folders": lambda dogs, root: _folders(dogs, root, "all-dogs/all-dogs", "Annotation/Annotation"),
    "mounts of older kernels": lambda dogs, root: _folders(dogs, root, "all-dogs/all-dogs", "annotation/Annotation"),
    "the original's names": lambda dogs, root: _folders(dogs, root, "Images", "Annotation"),
    "one zip of files": _one_zip,
    "one zip of stored zips": lambda dogs, root: _bundle(dogs, root, zipfile.ZIP_STORED),
    "one zip of packed zips": lambda dogs, root: _bundle(dogs, root, zipfile.ZIP_DEFLATED),
    "zips, and one of them extracted too": _half_extracted,
}
