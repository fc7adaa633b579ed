"""The files of a prepared set, written as its pictures come in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from kit.data.arrays import GrowingArray
from kit.data.crop_worker import Job, Outcome
from kit.data.crops import CROPS, Crop, Pixels
from kit.data.dataset import Sample
from kit.data.grid import mosaic
from kit.data.sources import Item

CONTACT = 64
"""Crops on the contact sheet."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of the set; its rows follow one another."""

    item: Item
    digest: bytes  # of its file
    crops: tuple[Crop, ...]
    repairs: tuple[str, ...]


class SetWriter:
    """Writes the arrays of a set row by row, and what belongs to them at the end.

    Args:
        folder: an empty folder.
        job: what is being cut.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder = folder
        self._arrays = contextlib.ExitStack()
        self._pictures: list[_Picture] = []
        row = (job.size, job.size, job.channels)
        policy = CROPS[job.policy]
        self._images = self._array("images.npy", row, np.uint8)
        self._whole = self._array("whole.npy", row, np.uint8) if policy.region else None
        self._canvas = self._array("canvas.npy", (job.channels,), np.uint8) if policy.canvas else None
        self._index = self._array("canvas_index.npy", (3,), np.int64) if policy.canvas else None

    def _array(self, name: str, row: tuple[int, ...], dtype: type[np.generic]) -> GrowingArray:
        return self._arrays.enter_context(GrowingArray(self._folder / name, row, dtype))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.__exit__(kind, error, trace)

    def add(self, item: Item, outcome: Outcome) -> None:
        """Adds all samples of a picture."""
        assert outcome.images is not None
        self._pictures.append(_Picture(item, outcome.digest, outcome.plan.crops, outcome.repairs))
        self._images.append(outcome.images)
        if self._whole is not None and outcome.whole is not None:
            self._whole.append(outcome.whole[None])
        if self._canvas is not None and self._index is not None and outcome.canvas is not None:
            height, width, channels = outcome.canvas.shape
            self._index.append(np.array([[self._canvas.length, height, width]], np.int64))
            self._canvas.append(outcome.canvas.reshape(-1, channels))

    def digests(self) -> set[bytes]:
        """Of the files of all pictures so far."""
        return {picture.digest for picture in self._pictures}

    def finish(self, held_out: set[bytes]) -> list[str]:
        """Writes labels.npy and samples.jsonl, once all pictures are added.

        Args:
            held_out: digests of the pictures that are never trained on.

        Returns:
            The classes that have a sample, sorted.
        """
        classes = sorted({picture.item.label for picture in self._pictures if picture.item.label is not None})
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers.get(picture.item.label or "", -1) for picture in self._pictures for _ in picture.crops]
        np.save(self._folder / "labels.npy", np.array(labels, np.int16))
        with (self._folder / "samples.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
            for picture in self._pictures:
                for sample in _samples(picture, held_out):
                    lines.write(json.dumps(sample, ensure_ascii=False) + "\n")
        return classes

    def count(self, held_out: set[bytes]) -> dict[str, int]:
        """Pictures and samples of the hold-out."""
        sides = [len(picture.crops) for picture in self._pictures if picture.digest in held_out]
        return {"pictures": len(sides), "samples": sum(sides)}


def _samples(picture: _Picture, held_out: set[bytes]) -> Iterable[Sample]:
    for crop in picture.crops:
        repairs = [*picture.repairs, *([crop.repair] if crop.repair else [])]
        yield {
            "file": picture.item.file,
            "box": list(crop.box) if crop.box else None,
            "repair": "; ".join(repairs) or None,
            "holdout": picture.digest in held_out,
        }


def contact_sheet(folder: Path, *, size: int, seed: int) -> Image.Image:
    """Random crops of a set as training sees them: where it has a canvas, half are random squares from there.

    Args:
        folder: the set.
        size: side of a sample, in pixels.
        seed: decides which.
    """
    images = np.load(folder / "images.npy", mmap_mode="r")
    rng = np.random.default_rng(seed)
    count = min(CONTACT, len(images))
    picked: list[Pixels] = list(images[np.sort(rng.choice(len(images), count, replace=False))])
    if (folder / "canvas.npy").exists():
        canvas, index = np.load(folder / "canvas.npy", mmap_mode="r"), np.load(folder / "canvas_index.npy")
        for place in range(1, count, 2):
            offset, height, width = index[rng.integers(len(index))]
            y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
            whole = canvas[offset : offset + height * width].reshape(height, width, -1)
            picked[place] = whole[y : y + size, x : x + size]
    return mosaic(np.stack(picked), columns=8)
