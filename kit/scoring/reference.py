"""The real pictures of a score: their features and statistics, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kit import competition
from kit.core.errors import KitError
from kit.core.files import atomic_folder, read_json, sha256, write_json
from kit.core.progress import Progress, no_progress
from kit.core.records import to_json
from kit.data.prepared_set import CropRecord, DatasetRecord, PreparedSet, Sample, Split, load
from kit.generation.pictures import picture_digest, pixels_digest, read_pictures, resize
from kit.scoring.extract import Features, FeatureSet, Pixels
from kit.scoring.frechet import Gaussian, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.score_record import Kind

Arrays = Mapping[str, NDArray[Any]]

Array = Literal["images", "whole", "inputs"]
"""An array of a prepared set."""

CACHE_VERSION = 2
"""Goes up when the meaning of a cached entry changes; older entries are then not found."""

HALF = 0.5
"""A generator counts as memorizing below this fraction of the memorization distance of held-out crops."""


@dataclass(frozen=True)
class Cache:
    """A folder of entries, each some named arrays (NPY) and a JSON with their identity and digests.

    A damaged entry counts as absent and is written again. Where the folder cannot be written (a full disk, a read-only
    data set) entries are kept in memory, as long as this object lives.
    """

    folder: Path | None  # need not exist yet; None keeps entries in memory alone
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
        """The arrays of an entry, built and kept where there is none.

        Its identity is everything that decides the arrays, as JSON values.
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


class FolderReference(PreparedSet):
    """A folder or a zip of the user's as the reference: whole pictures without crops and without a hold-out."""

    @classmethod
    def read(cls, path: Path, *, like: PreparedSet) -> FolderReference:
        """Reads the pictures and squashes them to the size of a set, by Pillow's LANCZOS.

        Args:
            path: a folder or a zip of PNG or JPEG pictures of any size.
            like: the set whose size, channels, competition and inputs they get.

        Raises:
            KitError: no picture there, or one that cannot be read.
        """
        pictures = read_pictures(path, mode="L" if like.channels == 1 else "RGB")
        images = np.stack([resize(pixels[None], like.size)[0] for _, pixels in pictures])
        record = DatasetRecord(
            name=path.absolute().name,
            competition=like.competition,
            size=like.size,
            channels=like.channels,
            crop=CropRecord(policy="whole"),
            digest=pixels_digest(map(picture_digest, images)),
        )
        return cls(path, record, images, np.full(len(images), -1, np.int16), whole=images, inputs=like.inputs)

    @cached_property
    def samples(self) -> list[Sample]:
        """A whole picture in each row; none is held out."""
        return [Sample(file=str(row), holdout=False) for row in range(len(self.images))]


@dataclass(frozen=True)
class Epsilon:
    """The memorization threshold and its origin; the value is None where there is none."""

    value: float | None
    origin: str


@dataclass(frozen=True)
class References:
    """The reference of scores on one feature set: its features and statistics."""

    prepared: PreparedSet
    features: FeatureSet
    cache: Cache

    def rows(self, kind: Kind, split: Split) -> NDArray[np.int64]:
        """Rows of the pictures of a kind on one side of the hold-out."""
        return self.prepared.whole_rows(split) if kind == "whole" else self.prepared.rows(split)

    def extracted(self, array: Array, *, progress: Progress = no_progress) -> Features:
        """The features of all pictures of one of the set's arrays, float32 (N, dim), memory-mapped where kept."""
        pictures = self._pictures(array)

        def build() -> Arrays:
            return {"features": self.features.extract(pictures, total=len(pictures), progress=progress)}

        return self.cache.fetch(self._identity("features", array), build)["features"]

    def split_features(self, kind: Kind, split: Split, *, progress: Progress = no_progress) -> Features:
        """The features of one side, float32 (n, dim)."""
        features, rows = self.extracted(self._array(kind), progress=progress), self.rows(kind, split)
        return features if len(rows) == len(features) else features[rows]

    def gaussian(self, kind: Kind, split: Split) -> Gaussian:
        """Mean and covariance of one side's features."""

        def build() -> Arrays:
            fitted = gaussian(self.split_features(kind, split))
            return {"mean": fitted.mean, "covariance": fitted.covariance}

        kept = self.cache.fetch({**self._identity("gaussian", self._array(kind)), "split": split}, build)
        return Gaussian(kept["mean"], kept["covariance"], len(self.rows(kind, split)))

    def epsilon(self) -> Epsilon:
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

        def build() -> Arrays:
            features = self.extracted("images")
            try:
                return {"distance": np.array(memorization_distance(features[held], features[train]))}
            except ValueError as error:
                raise KitError(f"{self.features.name}: no threshold ({error})") from error

        distance = float(self.cache.fetch(self._identity("holdout-distance", "images"), build)["distance"])
        return Epsilon(
            HALF * distance,
            f"half the distance {distance:.4g} of {len(held):,} held-out crops to {len(train):,} training crops",
        )

    def pending(self, kind: Kind, *, inputs: bool = False) -> list[Array]:
        """The set's arrays whose features a score against `kind` needs and the cache does not have.

        Args:
            kind: see `Kind`.
            inputs: with the untouched inputs of a translation.
        """
        wanted = [self._array(kind)]
        calibrates = self.features.epsilon is None and len(self.prepared.rows("holdout"))
        if calibrates and self.cache.get(self._identity("holdout-distance", "images")) is None:
            wanted.append("images")
        if inputs and self.prepared.inputs is not None:
            wanted.append("inputs")
        return [one for one in dict.fromkeys(wanted) if self.cache.get(self._identity("features", one)) is None]

    def pending_count(self, kind: Kind, *, inputs: bool = False) -> int:
        """Pictures whose features a score against `kind` still has to compute, without the generated ones."""
        return sum(len(self._pictures(array)) for array in self.pending(kind, inputs=inputs))

    def _pictures(self, array: Array) -> Pixels:
        pictures: Pixels = getattr(self.prepared, array)
        return pictures

    def _array(self, kind: Kind) -> Array:
        """The array with the pictures of a kind; a set without crops has one for both kinds."""
        return "images" if kind == "crops" or self.prepared.whole is self.prepared.images else "whole"

    def _identity(self, what: str, array: Array) -> dict[str, Any]:
        return {
            "what": what,
            "set": self.prepared.digest,
            "pictures": array,
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
