"""The files of a prepared set, written as its pictures come in, and the count of what became of each of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.crop_worker import CropJob, Outcome
from kit.data.crops import CROPS
from kit.data.prepared_set import BoxCounts, Counts, HoldoutCounts, HoldoutRecord, InputCounts, Rejected, Sample
from kit.data.sources import Collection, Item

CLAMPED = "box clamped to the picture"
WHOLE = "no good box, whole picture taken"


@dataclass
class PrepareStats:
    """Counts pictures as their outcomes come in, in order.

    Found pictures = kept + rejected + duplicates + filtered + copies, and listed boxes = kept + dropped + filtered.
    """

    collection: Collection
    keep_duplicates: bool
    kept: int = 0
    kept_duplicates: int = 0  # of those kept: the very bytes of an earlier one
    samples: int = 0
    boxes_listed: int = 0
    boxes_kept: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: list[Rejected] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    boxes_dropped: Counter[str] = field(default_factory=Counter)
    boxes_filtered: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    _seen: dict[bytes, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rejected += self.collection.rejected

    def keeps(self, item: Item, outcome: Outcome) -> bool:
        """Counts a picture, and says whether its samples go into the set."""
        if outcome.rejected is not None:
            self.rejected.append(Rejected(item.file, outcome.rejected))
            return False
        first = self._seen.setdefault(outcome.digest, item.file)
        if first != item.file and not self.keep_duplicates:
            self.duplicates.append(Rejected(item.file, f"the same bytes as {first}"))
            return False
        plan = outcome.plan
        boxes_kept = sum(crop.box is not None for crop in plan.crops)
        self.boxes_listed += plan.listed
        self.boxes_kept += boxes_kept
        self.boxes_dropped += plan.dropped
        self.boxes_filtered += plan.filtered
        if plan.left_out is not None:
            self.filtered[plan.left_out] += 1
            return False
        self.kept += 1
        self.kept_duplicates += first != item.file
        self.samples += len(plan.crops)
        self.repaired.update(outcome.repairs)
        self.repaired.update(
            {CLAMPED: plan.clamped, WHOLE: int(any(crop.box is None and crop.repair for crop in plan.crops))}
        )
        return True

    def check(self, max_rejected: float) -> None:
        """Once all pictures came in: a KitError where too many were rejected, or none is left."""
        source, rejected, found = self.collection.tree.path, self.rejected, self.collection.found
        first = f", {rejected[0].file}: {rejected[0].reason}" if rejected else ""
        share = len(rejected) / found
        if share > max_rejected:
            raise KitError(
                f"{source}: {len(rejected):,} of {found:,} pictures ({share:.1%}) cannot be used, "
                f"and --max-rejected is {max_rejected:.1%}; the first{first}",
                "correct the source, or allow more",
            )
        if not self.kept:
            filters = "".join(f"; {reason}" for reason in list(self.filtered)[:1])
            raise KitError(f"{source}: no picture left{filters}{first}", "loosen the filters, or give another source")

    def counts(self, *, holdout: HoldoutCounts, inputs: InputCounts | None) -> Counts:
        """Everything that was counted, for the set's record."""
        return Counts(
            found=self.collection.found,
            kept=self.kept,
            rejected=len(self.rejected),
            duplicates=len(self.duplicates),
            filtered=dict(sorted(self.filtered.items())),
            copies=self.collection.copies,
            annotations_without_picture=len(self.collection.orphans),
            other_files=len(self.collection.others),
            boxes=BoxCounts(
                listed=self.boxes_listed,
                kept=self.boxes_kept,
                dropped=dict(sorted(self.boxes_dropped.items())),
                filtered=dict(sorted(self.boxes_filtered.items())),
            ),
            samples=self.samples,
            whole_pictures=self.samples - self.boxes_kept,
            repaired={kind: number for kind, number in sorted(self.repaired.items()) if number},
            holdout=holdout,
            inputs=inputs,
        )

    def input_counts(self) -> InputCounts:
        """The same for pictures that are to be translated."""
        rejected = len(self.rejected)
        return InputCounts(
            found=self.kept + rejected, kept=self.kept, rejected=rejected, duplicates=self.kept_duplicates
        )

    def left_out(self) -> list[Rejected]:
        """Each file that is not in the set for what it is, with the reason."""
        files = [*self.rejected, *self.duplicates, *self.collection.orphans, *self.collection.others]
        return sorted(files, key=lambda one: one.file)


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


class SetWriter(contextlib.ExitStack):
    """Writes the arrays of a set row by row, so that they never stand in memory, and its lists at the end.

    Args:
        folder: an empty folder.
        job: what is being cropped.
        inputs: whether pictures to be translated follow.
    """

    def __init__(self, folder: Path, job: CropJob, *, inputs: bool) -> None:
        super().__init__()
        self._folder = folder
        self._samples: list[tuple[bytes, str | None, Sample]] = []  # digest of the file, class, and what is written
        self._input_lines: list[dict[str, Any]] = []
        row = (job.size, job.size, job.channels)
        policy = CROPS[job.policy]
        self._images = self._array("images.npy", row, np.uint8)
        self._whole = self._array("whole.npy", row, np.uint8) if policy.region else None
        self._canvas = self._array("canvas.npy", (job.channels,), np.uint8) if policy.canvas else None
        self._index = self._array("canvas_index.npy", (3,), np.int64) if policy.canvas else None
        self._inputs = self._array("inputs.npy", row, np.uint8) if inputs else None

    def _array(self, name: str, row: tuple[int, ...], dtype: type[np.generic]) -> GrowingArray:
        return self.enter_context(GrowingArray(self._folder / name, row, dtype))

    def add(self, item: Item, outcome: Outcome) -> None:
        """Adds all samples of a picture."""
        assert outcome.images is not None
        self._images.append(outcome.images)
        for crop in outcome.plan.crops:
            repairs = [*outcome.repairs, *([crop.repair] if crop.repair else [])]
            sample = Sample(
                file=item.file,
                box=list(crop.box) if crop.box else None,
                repair="; ".join(repairs) or None,
                holdout=False,
            )
            self._samples.append((outcome.digest, item.label, sample))
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

    def finish(self, holdout: HoldoutRecord) -> tuple[list[str], HoldoutCounts]:
        """Writes labels.npy and the lists, once all pictures are added.

        Returns:
            The classes that have a sample, sorted, and what is held out: the same files in whatever order and company
            of copies they come, as their bytes and the seed decide.
        """
        classes = sorted({label for _, label, _ in self._samples if label is not None})
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers.get(label or "", -1) for _, label, _ in self._samples]
        np.save(self._folder / "labels.npy", np.array(labels, np.int16))

        salt = derive("holdout", holdout.seed).to_bytes(8, "little")
        digests = {digest for digest, _, _ in self._samples}
        ranked = sorted(digests, key=lambda digest: hashlib.sha256(salt + digest).digest())
        chosen = set(ranked[: round(holdout.share * len(ranked))])
        samples = [replace(sample, holdout=digest in chosen) for digest, _, sample in self._samples]
        self._write_lines("samples.jsonl", map(asdict, samples))
        if self._inputs is not None:
            self._write_lines("inputs.jsonl", self._input_lines)
        held = [sample.file for sample in samples if sample.holdout]
        return classes, HoldoutCounts(pictures=len(set(held)), samples=len(held))

    def _write_lines(self, name: str, lines: Iterable[dict[str, Any]]) -> None:
        with (self._folder / name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
