"""The real pictures a score is taken against: their features and statistics, computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.data.dataset import PreparedSet, Split
from kit.scoring.cache import Cache
from kit.scoring.extract import Features, FeatureSet, Progress, no_progress
from kit.scoring.frechet import Gaussian, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.record import Kind
from kit.scoring.resize import Pixels

HALF = 0.5
"""The share of the held-out crops' own distance at which a generator counts as memorizing."""


@dataclass(frozen=True)
class Epsilon:
    """The memorization threshold, None where there is none to be had, and how it came about."""

    value: float | None
    origin: str


@dataclass(frozen=True)
class References:
    """A prepared set seen through a feature set."""

    prepared: PreparedSet
    features: FeatureSet
    cache: Cache

    def rows(self, kind: Kind, split: Split) -> NDArray[np.int64]:
        """Which pictures of a kind stand on one side of the hold-out."""
        return self.prepared.whole_rows(split) if kind == "whole" else self.prepared.rows(split)

    def extracted(self, kind: Kind, *, progress: Progress = no_progress) -> Features:
        """The features of all pictures of a kind, float32 (N, dim), mapped from disk where they are kept."""
        pictures = self._pictures(kind)

        def build() -> dict[str, Features]:
            return {"features": self.features.extract(pictures, total=len(pictures), progress=progress)}

        return self.cache.fetch(self._identity("features", kind), build)["features"]

    def gaussian(self, kind: Kind, split: Split, *, progress: Progress = no_progress) -> Gaussian:
        """Mean and covariance of one side's features."""

        def build() -> dict[str, NDArray[np.float64]]:
            fitted = gaussian(self.chosen(kind, split, progress=progress))
            return {"mean": fitted.mean, "covariance": fitted.covariance}

        kept = self.cache.fetch({**self._identity("gaussian", kind), "split": split}, build)
        return Gaussian(kept["mean"], kept["covariance"], len(self.rows(kind, split)))

    def chosen(self, kind: Kind, split: Split, *, progress: Progress = no_progress) -> Features:
        """The features of one side, float32 (n, dim)."""
        features, rows = self.extracted(kind, progress=progress), self.rows(kind, split)
        return features if len(rows) == len(features) else features[rows]

    def epsilon(self, *, progress: Progress = no_progress) -> Epsilon:
        """The threshold on these features.

        The official one where the feature set has one. Else half the memorization distance of held-out crops to
        training crops: pictures nobody has learned from keep that distance twice.
        """
        if self.features.epsilon is not None:
            return Epsilon(self.features.epsilon, "the official scorer's")
        held, train = self.prepared.rows("holdout"), self.prepared.rows("train")
        if not len(held) or not len(train):
            return Epsilon(None, "none, as the set has no hold-out to find it with (`kit data --holdout`)")

        def build() -> dict[str, NDArray[np.float64]]:
            features = self.extracted("crops", progress=progress)
            try:
                return {"distance": np.array(memorization_distance(features[held], features[train]))}
            except ValueError as error:
                raise KitError(f"{self.features.name}: no threshold can be found ({error})") from error

        distance = float(self.cache.fetch(self._identity("holdout-distance", "crops"), build)["distance"])
        return Epsilon(
            HALF * distance,
            f"half the distance {distance:.4g} of {len(held):,} held-out crops to {len(train):,} training crops",
        )

    def pending(self, kind: Kind) -> list[Kind]:
        """The kinds whose features are still to be computed for a score against `kind`, each once."""
        wanted: dict[str, Kind] = {self._array(kind): kind}
        calibrates = self.features.epsilon is None and len(self.prepared.rows("holdout"))
        if calibrates and self.cache.get(self._identity("holdout-distance", "crops")) is None:
            wanted.setdefault(self._array("crops"), "crops")
        return [kind for kind in wanted.values() if self.cache.get(self._identity("features", kind)) is None]

    def count(self, kind: Kind) -> int:
        """Pictures of a kind, on both sides of the hold-out."""
        return len(self._pictures(kind))

    def _pictures(self, kind: Kind) -> Pixels:
        return self.prepared.whole if self._array(kind) == "whole" else self.prepared.images

    def _array(self, kind: Kind) -> str:
        """The array that holds a kind: a set of whole pictures has one for both."""
        return "images" if kind == "crops" or self.prepared.whole is self.prepared.images else "whole"

    def _identity(self, what: str, kind: Kind) -> dict[str, Any]:
        return {
            "what": what,
            "set": self.prepared.digest,
            "pictures": self._array(kind),
            "features": self.features.identity(),
        }
