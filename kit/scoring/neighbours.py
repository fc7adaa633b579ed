"""Generated pictures beside their nearest neighbours in the training set: does a generator memorize?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kit.core.progress import Progress, no_progress
from kit.data.grid import make_grid
from kit.data.prepared_set import PreparedSet, Split
from kit.scoring.compute_score import read_matching
from kit.scoring.extract import Features, FeatureSet, Pixels
from kit.scoring.memorization import nearest_distances
from kit.scoring.reference import Cache, References
from kit.scoring.score_record import Kind

ROWS = 8
NEIGHBOURS = 4

CHUNK = 2048
"""Real pictures that are compared at a time."""


@dataclass(frozen=True)
class Neighbours:
    """The generated pictures that are nearest to real ones, each with its nearest neighbours; both nearest first."""

    generated: Pixels  # (R, H, W, C)
    which: NDArray[np.int64]  # (R,): their indices in the order of names
    by_features: Pixels  # (R, K, H, W, C)
    feature_distances: NDArray[np.float64]  # (R, K): 1 − |cos|, as in the memorization distance
    by_pixels: Pixels  # (R, K, H, W, C)
    pixel_distances: NDArray[np.float64]  # (R, K): root mean square difference, grey levels

    def picture(self) -> Image.Image:
        """A row each: the generated picture, its neighbours in features, then those in pixels; 2 pixels between."""
        rows = np.concatenate([self.generated[:, None], self.by_features, self.by_pixels], axis=1)
        return make_grid(rows.reshape(-1, *rows.shape[2:]), columns=rows.shape[1])


def neighbours(
    pictures: Path,
    prepared: PreparedSet,
    *,
    features: FeatureSet,
    reference: Kind = "crops",
    split: Split = "train",
    count: int | None = None,
    rows: int = ROWS,
    each: int = NEIGHBOURS,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Neighbours:
    """Finds the generated pictures that are nearest to the training set, and their nearest neighbours in it.

    Args:
        pictures: a zip or a folder of them, see `read_matching`.
        prepared: the set.
        features: see `kit.scoring.features.build`.
        reference: which pictures of the set.
        split: which side of its hold-out; "train" is what a generator can have memorized.
        count: at most so many of the generated pictures, the first by name.
        rows: how many generated pictures to return.
        each: how many neighbours of each.
        cache: folder for features of the set, usually `default_cache(prepared)`; None keeps nothing.
        progress: called with (pictures done, pictures in all) while features are extracted.

    Raises:
        KitError: a picture cannot be read.
    """
    _, matching = read_matching(pictures, prepared, limit=count)
    generated = np.stack(list(matching))
    references = References(prepared, features, Cache(cache))
    real, places = references.split_features(reference, split, progress=progress), references.rows(reference, split)
    source = prepared.whole if reference == "whole" else prepared.images
    found = features.extract(generated, total=len(generated), progress=progress)
    which = np.argsort(nearest_distances(found, real), kind="stable")[:rows].astype(np.int64)
    by_features, feature_distances = _nearest(feature_distances_between(found[which], real), each)
    by_pixels, pixel_distances = _nearest(pixel_distances_between(generated[which], source, places), each)
    return Neighbours(
        generated=generated[which],
        which=which,
        by_features=np.asarray(source[places[by_features]]),
        feature_distances=feature_distances,
        by_pixels=np.asarray(source[places[by_pixels]]),
        pixel_distances=pixel_distances,
    )


def feature_distances_between(generated: Features, real: Features) -> NDArray[np.float64]:
    """The cosine distances 1 − |cos| of features (R, D) and (M, D), (R, M)."""
    return 1 - np.abs(_unit(generated) @ _unit(real).T)


def pixel_distances_between(generated: Pixels, real: Pixels, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The root mean square differences of pictures, in grey levels, (R, len(places)).

    Args:
        generated: (R, H, W, C).
        real: (M, H, W, C), which may be memory-mapped: it is read in pieces.
        places: indices of those to compare with.
    """
    flat = generated.reshape(len(generated), -1).astype(np.float32)
    squares = np.empty((len(flat), len(places)), np.float64)
    for start in range(0, len(places), CHUNK):
        piece = real[places[start : start + CHUNK]].reshape(-1, flat.shape[1]).astype(np.float32)
        for row, picture in enumerate(flat):
            squares[row, start : start + len(piece)] = np.square(piece - picture).mean(axis=1)
    return np.sqrt(squares, out=squares)


def _nearest(distances: NDArray[np.float64], each: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The columns of the smallest distances of each row, and these distances, (R, each), nearest first."""
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :each].astype(np.int64)
    return nearest, np.take_along_axis(distances, nearest, axis=1)


def _unit(rows: Features) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return unit
