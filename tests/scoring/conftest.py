"""Small prepared sets and archives for the scoring room's tests."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scoring_helpers import Pixels

from kit.data.prepared_set import CropRecord, DatasetRecord, PreparedSet


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., PreparedSet]:
    """A prepared set of given crops and whole pictures (None: the crops are whole), in memory but for samples.jsonl."""

    def make(
        images: Pixels, whole: Pixels | None = None, *, holdout: Sequence[int] = (), name: str = "discs"
    ) -> PreparedSet:
        folder = tmp_path / name
        folder.mkdir()
        lines = [
            {"file": f"{row:04}.jpg", "box": None, "repair": None, "holdout": row in holdout}
            for row in range(len(images))
        ]
        (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        record = DatasetRecord(
            name=name,
            competition="generative-dog-images",
            size=images.shape[1],
            channels=images.shape[3],
            crop=CropRecord(policy="whole"),
            digest=hashlib.sha256(images.tobytes()).hexdigest(),
        )
        labels = np.full(len(images), -1, np.int16)
        return PreparedSet(folder, record, images, labels, images if whole is None else whole)

    return make


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """An archive of PNG files, by arrays or by Pillow pictures."""

    def make(pictures: Pixels | Sequence[Image.Image], *, name: str = "images.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for index, picture in enumerate(pictures):
                if not isinstance(picture, Image.Image):
                    picture = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
                buffer = io.BytesIO()
                picture.save(buffer, "PNG")
                archive.writestr(f"{index:05}.png", buffer.getvalue())
        return tmp_path / name

    return make
