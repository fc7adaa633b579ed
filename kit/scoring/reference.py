"""The real pictures of a score: their features and statistics, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kit import competition
from kit.core.errors import KitError
from kit.core.files import atomic_folder, read_json, sha256, write_json
from kit.core.progress import Progress, no_progress
from kit.core.records import to_json
from kit.data.prepared_set import PreparedSet, Split, load
from kit.generation.pictures import picture_digest, pixels_digest, read_pictures, resize
from kit.scoring.extract import Features, FeatureSet, Pixels
from kit.scoring.frechet import Gaussian, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.score_record import Kind

Arrays = Mapping[str, NDArray[Any]]

CACHE_VERSION = 2
"""Goes up when the meaning of a cached entry changes; older entries are then not found."""

HALF = 0.5
"""A generator counts as memorizing below this fraction of the memorization distance of held-out crops."""


@dataclass(frozen=True)
class Cache:
    """A folder of entries, each some named arrays (NPY) and a JSON with their identity and digests.

    A damaged entry counts as absent and is written again. Where the folder cannot be written (a full disk, a read-only
    data set) entries are kept in memory, as long as this object lives.

    Args:
        folder: need not exist yet; None keeps entries in memory alone.
    """

    folder: Path | None
    _memory: dict[str, Arrays] = field(default_factory=dict, repr=False)

    def get(self, identity: Mapping[str, Any]) -> Arrays | None:
        """The arrays of an entry, memory-mapped; None where there is none, or a damaged one."""
        held = self._memory.get(_key(identity))
        if self.folder is None or held is not None:
            return held
        path = self.folder / _key(identity)
        try:
            record = read_json(path / "entry.json")
            if record["identity"] != _full(identity):
                return None
            files: dict[str, str] = record["sha256"]
            if any(sha256(path / f"{name}.npy") != digest for name, digest in files.items()):
                return None
            return {name: np.lib.format.open_memmap(path / f"{name}.npy", mode="r") for name in files}
        except (KitError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def fetch(self, identity: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
        """The arrays of an entry; built and kept where there is none.

        Args:
            identity: JSON values; everything that decides the arrays.
            build: computes them.
        """
        kept = self.get(identity)
        if kept is not None:
            return kept
        arrays = build()
        self.put(identity, arrays)
        return self.get(identity) or arrays

    def put(self, identity: Mapping[str, Any], arrays: Arrays) -> None:
        """Keeps the arrays of an entry, and replaces an older one."""
        if self.folder is None:
            self._memory[_key(identity)] = arrays
            return
        try:
            owned = ("entry.json", *(f"{name}.npy" for name in arrays))
            with atomic_folder(self.folder / _key(identity), owned=owned) as part:
                for name, array in arrays.items():
                    np.save(part / f"{name}.npy", array, allow_pickle=False)
                digests = {name: sha256(part / f"{name}.npy") for name in arrays}
                write_json(part / "entry.json", {"identity": _full(identity), "sha256": digests})
        except (KitError, OSError):
            self._memory[_key(identity)] = arrays


def default_cache(prepared: PreparedSet) -> Path:
    """Where features and statistics of a set are kept: inside the set, so that they are deleted with it."""
    return prepared.path / ".cache"


def _full(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": CACHE_VERSION, **identity}


def _key(identity: Mapping[str, Any]) -> str:
    """A folder's name: what the entry is, and the digest of its identity."""
    digest = hashlib.sha256(json.dumps(_full(identity), sort_keys=True).encode()).hexdigest()
    return f"{identity.get('what', 'entry')}-{digest[:20]}"


class ReferenceSet(Protocol):
    """What a score needs of real pictures: a `PreparedSet`, or a `FolderReference`."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def competition(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def images(self) -> Pixels: ...
    @property
    def whole(self) -> Pixels: ...
    @property
    def inputs(self) -> Pixels | None: ...
    def rows(self, split: Split) -> NDArray[np.int64]: ...
    def whole_rows(self, split: Split) -> NDArray[np.int64]: ...


@dataclass(frozen=True, eq=False)
class FolderReference:
    """A folder or a zip of the user's as the reference: whole pictures without crops and without a hold-out."""

    path: Path
    competition: str  # slug
    images: Pixels  # (N, S, S, C)
    inputs: Pixels | None  # the pictures that a translation starts from

    @classmethod
    def read(cls, path: Path, *, like: ReferenceSet) -> FolderReference:
        """Reads the pictures and squashes them to the size of a set, by Pillow's LANCZOS.

        Args:
            path: a folder or a zip of PNG or JPEG pictures of any size.
            like: the set whose size, channels, competition and inputs they get.

        Raises:
            KitError: no picture there, or one that cannot be read.
        """
        pictures = read_pictures(path, mode="L" if like.channels == 1 else "RGB")
        squashed = [resize(pixels[None], like.size)[0] for _, pixels in pictures]
        return cls(path, like.competition, np.stack(squashed), like.inputs)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.absolute().name

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over the pixels."""
        return pixels_digest(map(picture_digest, self.images))

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.images.shape[3])

    @property
    def whole(self) -> Pixels:
        """The same pictures: there are no crops."""
        return self.images

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Indices of the pictures; none is held out."""
        return np.arange(0 if split == "holdout" else len(self.images))

    whole_rows = rows


@dataclass(frozen=True)
class Epsilon:
    """The memorization threshold and its origin; the value is None where there is none."""

    value: float | None
    origin: str


@dataclass(frozen=True)
class References:
    """The reference of scores on one feature set."""

    prepared: ReferenceSet
    features: FeatureSet
    cache: Cache

    def rows(self, kind: Kind, split: Split) -> NDArray[np.int64]:
        """Rows of the pictures of a kind on one side of the hold-out."""
        return self.prepared.whole_rows(split) if kind == "whole" else self.prepared.rows(split)

    def extracted(self, kind: Kind, *, progress: Progress = no_progress) -> Features:
        """The features of all pictures of a kind, float32 (N, dim), memory-mapped where they are kept."""
        pictures = self._pictures(kind)

        def build() -> dict[str, Features]:
            return {"features": self.features.extract(pictures, total=len(pictures), progress=progress)}

        return self.cache.fetch(self._identity("features", kind), build)["features"]

    def inputs(self, *, progress: Progress = no_progress) -> Features | None:
        """The features of the inputs of a translation, float32 (K, dim); None where the set has none."""
        pictures = self.prepared.inputs
        if pictures is None:
            return None

        def build() -> dict[str, Features]:
            return {"features": self.features.extract(pictures, total=len(pictures), progress=progress)}

        return self.cache.fetch(self._identity("features", "inputs"), build)["features"]

    def gaussian(self, kind: Kind, split: Split, *, progress: Progress = no_progress) -> Gaussian:
        """Mean and covariance of one side's features."""

        def build() -> dict[str, NDArray[np.float64]]:
            fitted = gaussian(self.split_features(kind, split, progress=progress))
            return {"mean": fitted.mean, "covariance": fitted.covariance}

        kept = self.cache.fetch({**self._identity("gaussian", kind), "split": split}, build)
        return Gaussian(kept["mean"], kept["covariance"], len(self.rows(kind, split)))

    def split_features(self, kind: Kind, split: Split, *, progress: Progress = no_progress) -> Features:
        """The features of one side, float32 (n, dim)."""
        features, rows = self.extracted(kind, progress=progress), self.rows(kind, split)
        return features if len(rows) == len(features) else features[rows]

    def epsilon(self, *, progress: Progress = no_progress) -> Epsilon:
        """The threshold ε on these features.

        It is the official one where the feature set has one. Else it is half the memorization distance of held-out
        crops to training crops.
        """
        if self.features.epsilon is not None:
            published = competition.get(self.prepared.competition).epsilon_published
            origin = "the official scorer's" if published else "an assumption: this competition does not publish it"
            return Epsilon(self.features.epsilon, origin)
        held, train = self.prepared.rows("holdout"), self.prepared.rows("train")
        if not len(held) or not len(train):
            return Epsilon(None, "none, as the set has no hold-out (`kit data --holdout`) to calibrate it with")

        def build() -> dict[str, NDArray[np.float64]]:
            features = self.extracted("crops", progress=progress)
            try:
                return {"distance": np.array(memorization_distance(features[held], features[train]))}
            except ValueError as error:
                raise KitError(f"{self.features.name}: no threshold ({error})") from error

        distance = float(self.cache.fetch(self._identity("holdout-distance", "crops"), build)["distance"])
        return Epsilon(
            HALF * distance,
            f"half the distance {distance:.4g} of {len(held):,} held-out crops to {len(train):,} training crops",
        )

    def pending(self, kind: Kind) -> list[Kind]:
        """The kinds whose features a score against `kind` needs and the cache does not have."""
        wanted: dict[str, Kind] = {self._array(kind): kind}
        calibrates = self.features.epsilon is None and len(self.prepared.rows("holdout"))
        if calibrates and self.cache.get(self._identity("holdout-distance", "crops")) is None:
            wanted.setdefault(self._array("crops"), "crops")
        return [kind for kind in wanted.values() if self.cache.get(self._identity("features", kind)) is None]

    def pending_count(self, kind: Kind, *, inputs: bool = False) -> int:
        """Pictures whose features a score against `kind` still has to compute, without the generated ones.

        Args:
            kind: see `Kind`.
            inputs: with the untouched inputs of a translation.
        """
        count = sum(len(self._pictures(pending)) for pending in self.pending(kind))
        pictures = self.prepared.inputs if inputs else None
        known = pictures is None or self.cache.get(self._identity("features", "inputs")) is not None
        return count if known or pictures is None else count + len(pictures)

    def _pictures(self, kind: Kind) -> Pixels:
        return self.prepared.whole if self._array(kind) == "whole" else self.prepared.images

    def _array(self, kind: Kind | Literal["inputs"]) -> str:
        """The array with the pictures of a kind; a set without crops has one array for both kinds."""
        if kind == "inputs":
            return kind
        return "images" if kind == "crops" or self.prepared.whole is self.prepared.images else "whole"

    def _identity(self, what: str, kind: Kind | Literal["inputs"]) -> dict[str, Any]:
        return {
            "what": what,
            "set": self.prepared.digest,
            "pictures": self._array(kind),
            "features": {key: value for key, value in to_json(self.features.record).items() if key != "tag"},
        }


def load_reference(path: Path, *, digest: str) -> PreparedSet:
    """The prepared set that a run was trained on.

    Args:
        path: where the run's record says it is.
        digest: of the set, from the run's record.

    Raises:
        KitError: it is not there, damaged, or another set with this name.
    """
    prepared = load(path)
    if prepared.digest != digest:
        raise KitError(
            f"{path}: another set than the one that this run was trained on (digest {prepared.digest[:12]}, "
            f"not {digest[:12]})",
            "prepare the run's set again under another name and give it with --data",
        )
    return prepared
