"""A prepared set on disk: its record, its samples, its arrays, checked as they are opened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.files import atomic, recover_folder, sha256
from kit.core.records import Record, from_json, to_json

RECORD = "dataset.json"
AGAIN = "run `kit data` again"

Split = Literal["all", "train", "holdout"]

_ALWAYS = ("images.npy", "labels.npy", "samples.jsonl")
_CANVAS = ("canvas.npy", "canvas_index.npy")
_INPUTS = ("inputs.npy", "inputs.jsonl")
WRITTEN = frozenset((*_ALWAYS, *_CANVAS, *_INPUTS, "whole.npy", "contact.png", RECORD))
"""Every name that `kit data` writes into a set's folder; nothing else in there is ever deleted."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that is left out of a set."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CropRecord:
    """The crop policy with everything that moves a pixel, see `kit.data.crops`."""

    policy: str
    margin_percent: float = 0.0
    margin_px: int = 0
    min_side: int = 0
    max_aspect: float | None = None
    filter: str = "lanczos"
    reducing_gap: float = 0.0
    decoded_at_least: float = 0.0
    max_canvas_aspect: float | None = None


@dataclass(frozen=True, kw_only=True)
class HoldoutRecord:
    """What decides which pictures are held out."""

    share: float = 0.0  # of the pictures, 0 to 1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """A zip that the set was made from, or all loose files together, called `./`."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BoxCounts:
    """Boxes of the annotations; listed = kept + dropped + filtered."""

    listed: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # fault → boxes
    filtered: dict[str, int] = field(default_factory=dict)  # filter → boxes


@dataclass(frozen=True, kw_only=True)
class HoldoutCounts:
    """What is held out."""

    pictures: int = 0
    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class InputCounts:
    """Pictures that are to be translated; found = kept + rejected."""

    found: int = 0
    kept: int = 0
    rejected: int = 0
    duplicates: int = 0  # of those kept: the very bytes of an earlier one


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of every picture; found = kept + rejected + duplicates + filtered + copies."""

    found: int = 0
    kept: int = 0
    rejected: int = 0  # pictures that could not be used
    duplicates: int = 0
    filtered: dict[str, int] = field(default_factory=dict)  # left out by the settings: filter → pictures
    copies: int = 0  # files of the same name and bytes in a second place
    annotations_without_picture: int = 0
    other_files: int = 0  # no pictures
    boxes: BoxCounts = BoxCounts()
    samples: int = 0
    whole_pictures: int = 0  # samples that are a whole picture
    repaired: dict[str, int] = field(default_factory=dict)  # boxes or pictures, by kind
    holdout: HoldoutCounts = HoldoutCounts()
    inputs: InputCounts | None = None  # None: the set has none


@dataclass(frozen=True, kw_only=True)
class DatasetRecord(Record):
    """`dataset.json`, the description of a prepared set."""

    FORMAT: ClassVar[str] = "kit-dataset"
    VERSION: ClassVar[int] = 2

    name: str
    competition: str  # slug
    source: str = ""  # where the pictures were
    size: int  # side of a picture, pixels
    channels: int  # 1 for grey, 3 for RGB
    mirror: bool = True  # whether a picture may be mirrored in training: a dog may, a digit may not
    crop: CropRecord
    holdout: HoldoutRecord = HoldoutRecord()
    keep_duplicates: bool = False
    classes: list[str] = field(default_factory=list)  # what labels stand for
    sources: list[SourceRecord] = field(default_factory=list)
    counts: Counts = Counts()
    rejected: list[Rejected] = field(default_factory=list)  # each file that is not in the set, with the reason
    files: dict[str, str] = field(default_factory=dict)  # name → SHA-256
    digest: str = ""

    def content_digest(self) -> str:
        """SHA-256, in hexadecimal, of what decides the content: name and place don't.

        Equal digests mean equal pictures, labels, samples and crops.
        """
        plain = to_json(dataclasses.replace(self, crop=from_json(CropRecord, to_json(self.crop), source="")))  # 2 → 2.0
        identity = {key: plain[key] for key in ("size", "channels", "classes", "crop", "files")}
        text = json.dumps({"version": self.VERSION, **identity}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where a row comes from: one line of samples.jsonl."""

    file: str  # the source picture's name in its archive
    box: list[float] | None = None  # xmin, ymin, xmax, ymax in the source's pixels; None: the whole picture
    repair: str | None = None  # what had to be repaired to get it
    holdout: bool  # never trained on


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A set of pictures as `kit data` left it, mapped from disk and never written to."""

    path: Path
    record: DatasetRecord
    images: NDArray[np.uint8]  # (N, H, W, C), C is 1 or 3
    labels: NDArray[np.int16]  # (N,), an index into `classes`; −1 where there is no class
    whole: NDArray[np.uint8]  # (M, H, W, C), each source picture resized to a square
    canvas: NDArray[np.uint8] | None = None  # (P, C), the source pictures' pixels one after another; for `mixed`
    canvas_index: NDArray[np.int64] | None = None  # (M, 3): first pixel in `canvas`, height, width
    inputs: NDArray[np.uint8] | None = None  # (K, H, W, C), the pictures to be translated; only for a translation

    @property
    def size(self) -> int:
        """Side of a picture, in pixels."""
        return self.record.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return self.record.channels

    @property
    def mirror(self) -> bool:
        """Whether a picture may be mirrored in training: a dog may, a digit may not."""
        return self.record.mirror

    @property
    def classes(self) -> list[str]:
        """The names that labels stand for; empty for a set without classes."""
        return list(self.record.classes)

    @property
    def digest(self) -> str:
        """The identity of the content, see `DatasetRecord.content_digest`."""
        return self.record.digest

    @property
    def sources_digest(self) -> str:
        """SHA-256, in hexadecimal, over the digests of the files that it was made from, as they were packed."""
        return hashlib.sha256("\n".join(sorted(source.sha256 for source in self.record.sources)).encode()).hexdigest()

    @property
    def competition(self) -> str:
        """Slug of the competition it was prepared for."""
        return self.record.competition

    @property
    def name(self) -> str:
        """What the set was called when it was made."""
        return self.record.name

    @cached_property
    def samples(self) -> list[Sample]:
        """The source of each row of `images`, in order."""
        with (self.path / "samples.jsonl").open(encoding="utf-8") as lines:
            samples = [Sample(**json.loads(line)) for line in lines]
        for sample in samples:
            if type(sample.file) is not str or type(sample.holdout) is not bool:
                raise ValueError(f"no sample: {sample}")
        return samples

    @cached_property
    def input_files(self) -> list[str]:
        """The file name of each row of `inputs`, in order; empty where there are none."""
        if self.inputs is None:
            return []
        with (self.path / "inputs.jsonl").open(encoding="utf-8") as lines:
            return [str(json.loads(line)["file"]) for line in lines]

    @property
    def input_names(self) -> list[str]:
        """What the translations are called in a zip: the inputs' names without folder and suffix; empty where two are
        called alike."""
        names = [PurePosixPath(file).stem for file in self.input_files]
        return names if len(set(names)) == len(names) else []

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """The source picture of each row, int64 (N,): an index into `whole` and `canvas_index`."""
        order: dict[str, int] = {}
        return np.array([order.setdefault(sample.file, len(order)) for sample in self.samples], np.int64)

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Indices into `images` of one side of the hold-out, ascending."""
        return np.flatnonzero(_side(self._holdout, split)).astype(np.int64)

    def class_counts(self, split: Split) -> list[int]:
        """How many rows of one side of the hold-out each class has; rows without a class count for none."""
        labels = self.labels[self.rows(split)]
        return [int(n) for n in np.bincount(labels[labels >= 0], minlength=len(self.classes))]

    def whole_rows(self, split: Split) -> NDArray[np.int64]:
        """Indices into `whole` of one side of the hold-out, ascending."""
        _, first = np.unique(self.pictures, return_index=True)
        return np.flatnonzero(_side(self._holdout[first], split)).astype(np.int64)

    @cached_property
    def _holdout(self) -> NDArray[np.bool_]:
        return np.array([sample.holdout for sample in self.samples], np.bool_)


def class_key(name: str) -> str:
    """The one form in which names of classes are compared: case, and what stands between words, do not matter.

    "golden retriever", "Golden_Retriever" and "golden-retriever" are the same.
    """
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _side(holdout: NDArray[np.bool_], split: Split) -> NDArray[np.bool_]:
    return {"all": np.ones_like(holdout), "train": ~holdout, "holdout": holdout}[split]


def load(path: Path, *, verify: bool = True) -> PreparedSet:
    """Opens a prepared set by memory map.

    Args:
        path: its folder.
        verify: also compare every file with the digest that was recorded (about a second per 2 GB).

    Raises:
        KitError: it is missing, damaged or of another version; the message names the file.
    """
    recover_folder(path)
    if not path.is_dir():
        raise KitError(f"{path}: no such prepared set", "run `kit data` first, or name another set with --data")
    record = _read_record(path / RECORD)
    files = record.files
    needed = [*_ALWAYS, *(_CANVAS if record.crop.policy == "mixed" else ())]
    needed += _INPUTS if record.counts.inputs else ()
    for name in dict.fromkeys([*needed, *files]):
        if not (path / name).is_file():
            raise KitError(f"{path / name}: no such file", AGAIN)
        if name not in files:
            raise KitError(f"{path / RECORD}: damaged (it does not list {name})", AGAIN)
        if verify and sha256(path / name) != files[name]:
            raise KitError(f"{path / name}: damaged (its digest is not the recorded one)", AGAIN)

    row = (record.size, record.size, record.channels)
    images = _array(path / "images.npy", np.dtype(np.uint8), (None, *row))
    labels = _array(path / "labels.npy", np.dtype(np.int16), (len(images),))
    if labels.min() < -1 or labels.max() >= len(record.classes):
        raise KitError(f"{path / 'labels.npy'}: damaged (a label has no class)", AGAIN)

    whole, canvas, index, inputs = images, None, None, None
    if "whole.npy" in files:
        whole = _array(path / "whole.npy", np.dtype(np.uint8), (None, *row))
    if "canvas.npy" in files:
        canvas = _array(path / "canvas.npy", np.dtype(np.uint8), (None, record.channels))
        index = np.array(_array(path / "canvas_index.npy", np.dtype(np.int64), (len(whole), 3)))
        _check_canvas(path / "canvas_index.npy", index, side=record.size, pixels=len(canvas))
    if "inputs.npy" in files:
        inputs = _array(path / "inputs.npy", np.dtype(np.uint8), (None, *row))

    prepared = PreparedSet(path, record, images, labels, whole, canvas, index, inputs)
    _check_samples(prepared)
    return prepared


def _read_record(path: Path) -> DatasetRecord:
    record = DatasetRecord.load(path, remedy=AGAIN)
    if any(Path(name).name != name for name in record.files):
        raise KitError(f"{path}: damaged (a file lies outside the folder)", AGAIN)
    if record.digest != record.content_digest():
        raise KitError(f"{path}: damaged (the set's digest does not fit)", AGAIN)
    return record


def _array(path: Path, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Maps an NPY file; `None` in the shape stands for any length but 0."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path}: damaged ({error})", AGAIN) from error
    fits = len(array.shape) == len(shape) and all(
        n == want if want is not None else n > 0 for n, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise KitError(f"{path}: damaged ({array.dtype} of shape {array.shape} does not fit the set)", AGAIN)
    return array


def _check_canvas(path: Path, index: NDArray[np.int64], *, side: int, pixels: int) -> None:
    offset, height, width = index.T
    short = np.minimum(height, width)
    if offset.min() < 0 or short.min() < side or (offset + height * width).max() > pixels:
        raise KitError(f"{path}: damaged (a picture lies outside the canvas)", AGAIN)


def _check_samples(prepared: PreparedSet) -> None:
    at = prepared.path / "samples.jsonl"
    try:
        rows, pictures = len(prepared.samples), len(set(prepared.pictures.tolist()))
        at = prepared.path / "inputs.jsonl"
        inputs = len(prepared.input_files)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KitError(f"{at}: damaged ({error})", AGAIN) from error
    for name, lines, arrays in (
        ("samples.jsonl", rows, len(prepared.images)),
        ("whole.npy", pictures, len(prepared.whole)),
        ("inputs.jsonl", inputs, 0 if prepared.inputs is None else len(prepared.inputs)),
    ):
        if lines != arrays:
            raise KitError(
                f"{prepared.path / name}: damaged ({lines} pictures by the lines, {arrays} in the array)", AGAIN
            )


def remember(path: Path, *, root: Path | None = None) -> None:
    """Notes that a set was written last, so that later commands find it by themselves.

    Args:
        path: the set's folder.
        root: the folder that keeps the note; by default the one that the set lies in.
    """
    root = path.parent if root is None else root
    here = path.absolute().parent == root.absolute()
    with atomic(root / ".latest") as file:
        file.write(os.fsencode(path.name if here else path.absolute()))


def latest(root: Path = Path("data")) -> Path:
    """The set that was written last, as `remember` noted it; a KitError where none was, or it is gone."""
    try:
        path = root / os.fsdecode((root / ".latest").read_bytes().rstrip(b"\n"))
    except FileNotFoundError:
        raise KitError(f"no prepared set in {root}", "run `kit data` first") from None
    recover_folder(path)
    if not path.is_dir():
        raise KitError(f"{path}: the set that was prepared last is gone", "run `kit data` first")
    return path
