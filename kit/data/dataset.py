"""A prepared set on disk, checked as it is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.files import atomic, read_json, sha256

FORMAT_VERSION = 1
AGAIN = "run `kit data` again"

Split = Literal["all", "train", "holdout"]

# The keys of dataset.json that are relied on, and what each must be.
_KEYS: dict[str, type] = {
    "name": str,
    "competition": str,
    "crop": dict,
    "size": int,
    "channels": int,
    "classes": list,
    "files": dict,
    "digest": str,
}
_ALWAYS = ("images.npy", "labels.npy", "samples.jsonl")
_CANVAS = ("canvas.npy", "canvas_index.npy")


class Sample(TypedDict):
    """Where a row comes from: one line of samples.jsonl."""

    file: str  # the source picture's name in its archive
    box: list[float] | None  # xmin, ymin, xmax, ymax in the source's pixels; None: the whole picture
    repair: str | None  # what had to be mended to get it
    holdout: bool  # never trained on


def set_digest(info: dict[str, Any]) -> str:
    """The identity of a set: equal digests mean equal pictures, labels, sources and crops.

    Args:
        info: the content of dataset.json, with or without its own `digest`.

    Returns:
        SHA-256, in hexadecimal, of the canonical JSON of what decides the content. Name and folder don't.
    """
    identity = {key: info[key] for key in ("version", "size", "channels", "classes", "crop", "files")}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A set of pictures as `kit data` left it, mapped from disk and never written to."""

    path: Path
    info: dict[str, Any]  # dataset.json
    images: NDArray[np.uint8]  # (N, H, W, C), C is 1 or 3
    labels: NDArray[np.int16]  # (N,), an index into `classes`; −1 where there is no class
    whole: NDArray[np.uint8]  # (M, H, W, C), each source picture squashed to the size
    canvas: NDArray[np.uint8] | None  # (P, C), the source pictures' pixels one after another; only for `mixed`
    canvas_index: NDArray[np.int64] | None  # (M, 3): first pixel in `canvas`, height, width

    @property
    def size(self) -> int:
        """Side of a picture, in pixels."""
        return int(self.info["size"])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.info["channels"])

    @property
    def mirror(self) -> bool:
        """Whether a picture may be mirrored in training: a dog may, a digit may not."""
        return bool(self.info.get("mirror", True))

    @property
    def classes(self) -> list[str]:
        """The names that labels stand for; empty for a set without classes."""
        return list(self.info["classes"])

    @property
    def digest(self) -> str:
        """The identity of the content, see `set_digest`."""
        return str(self.info["digest"])

    @property
    def sources_digest(self) -> str:
        """SHA-256, in hexadecimal, over the digests of the files that it was made from, as they were packed."""
        digests = sorted(str(source["sha256"]) for source in self.info.get("sources", []))
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def competition(self) -> str:
        """Slug of the competition it was prepared for."""
        return str(self.info["competition"])

    @property
    def name(self) -> str:
        """What the set was called when it was made."""
        return str(self.info["name"])

    def samples(self) -> list[Sample]:
        """The source of each row of `images`, in order."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        with (self.path / "samples.jsonl").open(encoding="utf-8") as lines:
            return [cast(Sample, json.loads(line)) for line in lines]

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """The source picture of each row, int64 (N,): an index into `whole` and `canvas_index`."""
        order: dict[str, int] = {}
        return np.array([order.setdefault(sample["file"], len(order)) for sample in self.samples()], np.int64)

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
        return np.array([sample["holdout"] for sample in self.samples()], np.bool_)


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
    if not path.is_dir():
        raise KitError(f"{path}: no such prepared set", "run `kit data` first, or name another set with --data")
    info = _read_info(path / "dataset.json")
    files: dict[str, str] = info["files"]
    needed = [*_ALWAYS, *(_CANVAS if info["crop"].get("policy") == "mixed" else ())]
    for name in dict.fromkeys([*needed, *files]):
        if not (path / name).is_file():
            raise KitError(f"{path / name}: no such file", AGAIN)
        if name not in files:
            raise KitError(f"{path / 'dataset.json'}: damaged (it does not list {name})", AGAIN)
        if verify and sha256(path / name) != files[name]:
            raise KitError(f"{path / name}: damaged (its digest is not the recorded one)", AGAIN)

    side, channels = info["size"], info["channels"]
    images = _array(path / "images.npy", np.dtype(np.uint8), (None, side, side, channels))
    labels = _array(path / "labels.npy", np.dtype(np.int16), (len(images),))
    if labels.min() < -1 or labels.max() >= len(info["classes"]):
        raise KitError(f"{path / 'labels.npy'}: damaged (a label has no class)", AGAIN)

    whole, canvas, index = images, None, None
    if "whole.npy" in files:
        whole = _array(path / "whole.npy", np.dtype(np.uint8), (None, side, side, channels))
    if _CANVAS[0] in files:
        canvas = _array(path / "canvas.npy", np.dtype(np.uint8), (None, channels))
        index = np.array(_array(path / "canvas_index.npy", np.dtype(np.int64), (len(whole), 3)))
        _check_canvas(path / "canvas_index.npy", index, side=side, pixels=len(canvas))

    prepared = PreparedSet(path, info, images, labels, whole, canvas, index)
    _check_samples(prepared)
    return prepared


def _read_info(path: Path) -> dict[str, Any]:
    info = read_json(path, remedy=AGAIN)
    if not isinstance(info, dict) or "version" not in info:
        raise KitError(f"{path}: damaged (no description of a set)", AGAIN)
    if info["version"] != FORMAT_VERSION:
        raise KitError(f"{path}: of version {info['version']}, and this kit reads {FORMAT_VERSION}", AGAIN)
    for key, kind in _KEYS.items():
        if not isinstance(info.get(key), kind):
            raise KitError(f"{path}: damaged ({key!r} is missing or no {kind.__name__})", AGAIN)
    if any(Path(name).name != name for name in info["files"]):
        raise KitError(f"{path}: damaged (a file lies outside the folder)", AGAIN)
    if info["digest"] != set_digest(info):
        raise KitError(f"{path}: damaged (the set's digest does not fit)", AGAIN)
    return info


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
    path = prepared.path / "samples.jsonl"
    try:
        rows, pictures = len(prepared.samples()), len(set(prepared.pictures.tolist()))
        prepared.rows("all")
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path}: damaged ({error})", AGAIN) from error
    if rows != len(prepared.images):
        raise KitError(f"{path}: damaged ({rows} lines for {len(prepared.images)} pictures)", AGAIN)
    if pictures != len(prepared.whole):
        raise KitError(f"{path}: damaged ({pictures} source pictures, and {len(prepared.whole)} in whole.npy)", AGAIN)


def remember(path: Path, *, root: Path | None = None) -> None:
    """Notes that a set was written last, so that later commands find it by themselves.

    Args:
        path: the set's folder.
        root: the folder that keeps the note; by default the one that the set lies in.
    """
    root = path.parent if root is None else root
    here = path.absolute().parent == root.absolute()
    with atomic(root / ".latest") as file:
        file.write((path.name if here else str(path.absolute())).encode())


def latest(root: Path = Path("data")) -> Path:
    """The set that was written last, as `remember` noted it.

    Raises:
        KitError: none was, or it is gone.
    """
    try:
        path = root / (root / ".latest").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise KitError(f"no prepared set in {root}", "run `kit data` first") from None
    if not path.is_dir():
        raise KitError(f"{path}: the set that was prepared last is gone", "run `kit data` first")
    return path
