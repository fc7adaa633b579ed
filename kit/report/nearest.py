"""The generated pictures that come nearest to the training set, for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kit import competition
from kit.core.errors import KitError
from kit.core.progress import no_progress
from kit.data.grid import make_grid
from kit.report.run_data import RunData
from kit.scoring import features as feature_sets
from kit.scoring.neighbours import Neighbours, neighbours
from kit.scoring.reference import default_cache, load_reference
from kit.training.run_folder import IMAGES

COUNT = 512
"""Generated pictures that are looked through, the first by name."""

CHEAP = ("own", "random")
"""Feature sets that look at a whole training set in a minute; others would take half an hour on a CPU."""

GAP = 12
"""Pixels between a generated picture, its neighbours in features and those in pixels."""


@dataclass(frozen=True)
class Nearest:
    """What the page shows and says of it."""

    sheet: Image.Image  # in RGB; a row each: the generated picture, its neighbours in features, those in pixels
    rows: int
    each: int  # neighbours of each kind
    looked_at: int  # generated pictures
    features: str
    distance: float  # the smallest in features, 0 to 1
    difference: float  # the smallest in pixels, grey levels


def find(run: RunData, *, progress: Callable[[int, int], None] = no_progress) -> Nearest:
    """Looks for the generated pictures that are nearest to what they were trained on.

    The features are those the run was scored on where these are cheap, else those of an untrained network.

    Args:
        run: of a run with an `images.zip`.
        progress: called with (pictures done, pictures in all).

    Raises:
        KitError: no `images.zip`, the set is not here or is another one, or its pictures are of another size.
    """
    archive = run.path / IMAGES
    if not run.record.result or not archive.is_file():
        raise KitError(f"{run.path}: no {IMAGES} to look through")
    prepared = load_reference(Path(run.record.data.path), digest=run.record.data.digest)
    size = competition.get(run.record.competition).size
    if prepared.size != size:
        raise KitError(f"{archive}: {size} px, and the set has {prepared.size} px")
    scored = run.score.features.name if run.score else ""
    name = scored if scored in CHEAP else "random"
    found = neighbours(
        archive,
        prepared,
        features=feature_sets.build(name, prepared=prepared),
        count=COUNT,
        cache=default_cache(prepared),
        progress=progress,
    )
    return Nearest(
        sheet=_sheet(found),
        rows=len(found.which),
        each=found.by_features.shape[1],
        looked_at=min(COUNT, run.record.result.count),
        features=name,
        distance=float(found.feature_distances.min()),
        difference=float(found.pixel_distances.min()),
    )


def _sheet(found: Neighbours) -> Image.Image:
    parts = [_column(part) for part in (found.generated[:, None], found.by_features, found.by_pixels)]
    width = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    sheet = Image.new("RGB", (width, parts[0].height), "white")
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width + GAP
    return sheet


def _column(pictures: NDArray[np.uint8]) -> Image.Image:
    """Pictures (R, K, H, W, C) as K columns."""
    return make_grid(pictures.reshape(-1, *pictures.shape[2:]), columns=pictures.shape[1]).convert("RGB")
