"""The files of a prepared set, written as its pictures come in: they never stand in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kit.data.collection import Item
from kit.data.crop_worker import CropJob, Outcome
from kit.data.crops import CROPS, Crop
from kit.data.prepared_set import HoldoutCounts, Sample


class GrowingArray:
    """An NPY file whose length is known only at its end.

    Args:
        path: the file.
        row: shape of a row.
        dtype: of the numbers.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.length = 0
        self._row = row
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows, (n, *row)."""
        if rows.shape[1:] != self._row or rows.dtype != self._dtype:
            raise ValueError(f"rows {rows.dtype} {rows.shape} for an array of {self._dtype} {self._row}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.length += len(rows)

    def _write_header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow to any length.
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.length, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()


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
        job: what is being cropped.
        inputs: whether pictures to be translated follow.
    """

    def __init__(self, folder: Path, job: CropJob, *, inputs: bool) -> None:
        self._folder = folder
        self._arrays = contextlib.ExitStack()
        self._pictures: list[_Picture] = []
        self._input_lines: list[dict[str, Any]] = []
        row = (job.size, job.size, job.channels)
        policy = CROPS[job.policy]
        self._images = self._array("images.npy", row, np.uint8)
        self._whole = self._array("whole.npy", row, np.uint8) if policy.region else None
        self._canvas = self._array("canvas.npy", (job.channels,), np.uint8) if policy.canvas else None
        self._index = self._array("canvas_index.npy", (3,), np.int64) if policy.canvas else None
        self._inputs = self._array("inputs.npy", row, np.uint8) if inputs else None

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

    def add_input(self, item: Item, outcome: Outcome) -> None:
        """Adds a picture that is to be translated."""
        assert outcome.images is not None
        assert self._inputs is not None
        self._inputs.append(outcome.images)
        self._input_lines.append({"file": item.file, "repair": "; ".join(outcome.repairs) or None})

    def digests(self) -> set[bytes]:
        """Digests of the files of all pictures so far, without those to be translated."""
        return {picture.digest for picture in self._pictures}

    def finish(self, held_out: set[bytes]) -> list[str]:
        """Writes labels.npy and the lists, once all pictures are added.

        Args:
            held_out: digests of the pictures that are never trained on.

        Returns:
            The classes that have a sample, sorted.
        """
        classes = sorted({picture.item.label for picture in self._pictures if picture.item.label is not None})
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers.get(picture.item.label or "", -1) for picture in self._pictures for _ in picture.crops]
        np.save(self._folder / "labels.npy", np.array(labels, np.int16))
        self._write_lines("samples.jsonl", map(asdict, self._samples(held_out)))
        if self._inputs is not None:
            self._write_lines("inputs.jsonl", iter(self._input_lines))
        return classes

    def _write_lines(self, name: str, lines: Iterator[dict[str, Any]]) -> None:
        with (self._folder / name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _samples(self, held_out: set[bytes]) -> Iterator[Sample]:
        for picture in self._pictures:
            for crop in picture.crops:
                repairs = [*picture.repairs, *([crop.repair] if crop.repair else [])]
                yield Sample(
                    file=picture.item.file,
                    box=list(crop.box) if crop.box else None,
                    repair="; ".join(repairs) or None,
                    holdout=picture.digest in held_out,
                )

    def holdout_counts(self, held_out: set[bytes]) -> HoldoutCounts:
        """Pictures and samples of the hold-out."""
        sides = [len(picture.crops) for picture in self._pictures if picture.digest in held_out]
        return HoldoutCounts(pictures=len(sides), samples=sum(sides))
