"""On real dogs, with a network trained on dogs: the ranking is right and the distances are those on record."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scoring_helpers import Pixels

from kit.scoring.extract import Features
from kit.scoring.features import FeatureSet, build
from kit.scoring.frechet import frechet_distance, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.mifid import mifid

COUNT = 600  # above the network's 512 dimensions
TRAIN = 900


@pytest.fixture(scope="module")
def crops(shared: Path) -> Pixels:
    """Square crops around the first box of dogs drawn at random, (N, 64, 64, 3)."""
    with (
        zipfile.ZipFile(shared / "dogs" / "all-dogs.zip") as pictures,
        zipfile.ZipFile(shared / "dogs" / "Annotation.zip") as annotations,
    ):
        boxes = {Path(name).name: name for name in annotations.namelist()}
        names = sorted(name for name in pictures.namelist() if Path(name).stem in boxes and name.endswith(".jpg"))
        chosen = np.random.default_rng(0).choice(names, TRAIN + COUNT, replace=False)
        return np.stack([_crop(pictures.read(name), annotations.read(boxes[Path(name).stem])) for name in chosen])


def _crop(jpeg: bytes, xml: bytes) -> Pixels:
    left, top, right, bottom = (
        int(re.findall(rf"<{tag}>(\d+)<", xml.decode())[0]) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    with Image.open(io.BytesIO(jpeg)) as picture:
        side = min(max(right - left, bottom - top), *picture.size)
        x = min(max((left + right - side) / 2, 0), picture.width - side)
        y = min(max((top + bottom - side) / 2, 0), picture.height - side)
        box = (x, y, x + side, y + side)
        return np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS, box=box))


def reduced(pictures: Pixels, side: int) -> Pixels:
    def there_and_back(picture: Pixels) -> Pixels:
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
        return np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))

    return np.stack([there_and_back(picture) for picture in pictures])


def noised(pictures: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(1).normal(0, sigma, pictures.shape)
    return np.clip(pictures + noise, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Scorer:
    """A feature set with the training crops seen through it."""

    features: FeatureSet
    train: Features

    def fid(self, pictures: Pixels) -> float:
        given, real = gaussian(self.features.extract(pictures)), gaussian(self.train)
        return frechet_distance(given.mean, given.covariance, real.mean, real.covariance)

    def distance(self, pictures: Pixels) -> float:
        return memorization_distance(self.features.extract(pictures), self.train)


SETS = ("timm:resnet18", "random")


@pytest.fixture(scope="module", params=SETS)
def scorer(request: pytest.FixtureRequest, shared: Path, crops: Pixels) -> Scorer:
    features = build(request.param, weights=None if request.param == "random" else shared / "dogs-resnet18.pt")
    return Scorer(features, features.extract(crops[COUNT:]))


LADDERS = {
    "reduced": [lambda held, side=side: reduced(held, side) for side in (32, 16, 8)],
    "noised": [lambda held, sigma=sigma: noised(held, sigma) for sigma in (20, 60, 1000)],
}


@pytest.mark.slow
@pytest.mark.parametrize("ladder", LADDERS)
def test_the_worse_the_picture_the_larger_the_fid(scorer: Scorer, crops: Pixels, ladder: str) -> None:
    held = crops[:COUNT]
    fids = [scorer.fid(held), *(scorer.fid(degrade(held)) for degrade in LADDERS[ladder])]
    assert fids == sorted(fids)
    assert fids[-1] > 2 * fids[0]


@pytest.mark.slow
def test_training_pictures_slightly_noised_are_caught(scorer: Scorer, crops: Pixels) -> None:
    honest = scorer.distance(crops[:COUNT])
    thief = noised(crops[COUNT:][:200], 4)
    assert scorer.distance(thief) < honest / 4
    epsilon = honest / 2
    fid = scorer.fid(thief)
    assert mifid(fid, scorer.distance(thief), epsilon) > 20 * fid
    assert mifid(fid, honest, epsilon) == pytest.approx(fid)


@pytest.mark.parametrize("scorer", SETS[:1], indirect=True)
def test_distances_on_record(scorer: Scorer, crops: Pixels) -> None:
    """Those in the README beside the network, against 2,000 and more dogs; few pictures add some to small ones."""
    held = crops[:COUNT]
    assert scorer.fid(held) < 5  # 0.9 on record
    assert scorer.fid(reduced(held, 16)) == pytest.approx(64.1, rel=0.15)
