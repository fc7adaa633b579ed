"""How good are pictures of dogs, by the networks that every claim about this kit's pictures rests on?

    python bench/judges.py RUN|images.zip|DIR … --data data/dogs-box [--count 5000]

Two networks compare each target's pictures with the training crops of a prepared set, dogs in square box crops:

- EfficientNet-Lite0, trained on ImageNet: KID×1000, precision and recall. This KID decides, as the network is not
  misled by textures;
- a ResNet-18, trained on 64 px dogs: Fréchet distance.

Both lie in `$KIT_SHARED/data` (default: ../shared). The set's features are extracted once (12 CPU minutes) and kept in
its folder; 5,000 pictures take 4 CPU minutes. The Fréchet distance depends on the number of pictures.

`bench/learning.py` takes its judges from here as well.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.competition import COMPETITIONS
from kit.data.batches import Batches
from kit.data.prepare import prepare
from kit.data.prepared_set import PreparedSet, load
from kit.scoring import features
from kit.scoring.compute_score import read_matching
from kit.scoring.extract import FeatureSet
from kit.scoring.frechet import frechet_distance, gaussian
from kit.scoring.kid import kid
from kit.scoring.prdc import prdc
from kit.scoring.reference import Cache, References, default_cache
from kit.training.run_folder import target

SHARED = Path(os.environ.get("KIT_SHARED", "../shared")) / "data"
Pixels = NDArray[np.uint8]

Verdict = dict[str, float]
"""A judge's numbers of generated pictures by name, the one that decides first; smaller is better for that one."""

PRDC_COUNT = 5000
"""Pictures of each side for precision and recall."""


def imagenet_network() -> FeatureSet:
    """EfficientNet-Lite0, trained on ImageNet."""
    return features.build("timm:tf_efficientnet_lite0", weights=SHARED / "imagenet-efficientnet-lite0.pt")


def dogs_network() -> FeatureSet:
    """ResNet-18, trained on 64 px dogs."""
    return features.build("timm:resnet18", weights=SHARED / "dogs-resnet18.pt")


class DigitClassifier(nn.Module):
    """Three convolutions and two dense layers; the first dense layer's 128 outputs are the features."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [
            part
            for a, b in ((1, 32), (32, 64), (64, 128))
            for part in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
        ]
        self.body = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(128 * 16, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, 1, 32, 32) in [−1, 1] to logits (B, 10)."""
        logits: Tensor = self.head(self.body(x))
        return logits


class Digits:
    """Judges 32×32 digits by a classifier that it trains on the prepared set, and by MNIST's own test pictures."""

    def __init__(self, prepared: PreparedSet, *, pictures: int = 120_000) -> None:
        torch.manual_seed(0)
        self.network = DigitClassifier()
        batches = Batches(prepared, seed=0, device=torch.device("cpu"), flip=False)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=pictures // 128 + 1)
        for position in range(0, pictures, 128):
            x, y = batches.draw(position, 128)
            optimizer.zero_grad()
            cross_entropy(self.network(x), y).backward()
            optimizer.step()
            schedule.step()
        self.network.eval()
        pictures, digits = _test_digits()
        found, self.real = self._look(pictures)
        self.accuracy = float((found == digits).mean())

    @torch.inference_mode()
    def _look(self, pictures: Pixels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Classes (N,) and features (N, 128) of pictures (N, 32, 32, 1)."""
        classes, seen = [], []
        for start in range(0, len(pictures), 500):
            x = torch.from_numpy(pictures[start : start + 500]).permute(0, 3, 1, 2).float() / 127.5 - 1
            seen.append(self.network.body(x))
            classes.append(self.network.head(seen[-1]).argmax(1))
        return torch.cat(classes).numpy(), torch.cat(seen).double().numpy()

    def judge(self, pictures: Pixels, classes: NDArray[np.int64] | None) -> Verdict:
        """Judges pictures (N, 32, 32, 1), and their classes (N,) where the model is conditional.

        Returns:
            Fréchet distance to MNIST's test pictures; classes with at least a fifth of their share of the pictures;
            and the fraction of pictures of the class that was asked for (NaN for an unconditional model).
        """
        found, seen = self._look(pictures)
        return {
            "FD": _distance(seen, self.real),
            "classes": float((np.bincount(found, minlength=10) >= len(found) / 50).sum()),
            "accuracy": float((found == classes).mean()) if classes is not None else float("nan"),
        }


class Dogs:
    """Judges dogs by both networks, against the training crops of a prepared set."""

    accuracy = float("nan")

    def __init__(self, prepared: PreparedSet) -> None:
        cache = Cache(default_cache(prepared))
        self.imagenet, self.dogs = (
            References(prepared, network, cache) for network in (imagenet_network(), dogs_network())
        )

    def judge(self, pictures: Pixels, classes: NDArray[np.int64] | None = None) -> Verdict:
        """Judges pictures (N, 64, 64, 3).

        Returns:
            KID×1000, precision and recall on the ImageNet network, and the Fréchet distance on the dogs' network.
        """
        seen, real = self.imagenet.features.extract(pictures), self.imagenet.split_features("crops", "train")
        every = max(1, len(real) // PRDC_COUNT)  # spread over all breeds
        shape = prdc(seen[:PRDC_COUNT], real[::every][:PRDC_COUNT])
        ours = gaussian(self.dogs.features.extract(pictures))
        theirs = self.dogs.gaussian("crops", "train")
        return {
            "KID×1000": 1000 * kid(seen, real).mean,
            "dogs FD": frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance),
            "precision": shape.precision,
            "recall": shape.recall,
        }


def _distance(ours: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    return frechet_distance(ours.mean(0), np.cov(ours.T), real.mean(0), np.cov(real.T))


def _test_digits() -> tuple[Pixels, NDArray[np.int64]]:
    """MNIST's 10,000 test pictures at 32×32, resized like the training ones, and their digits."""
    from kit.generation.pictures import resize

    folder = SHARED / "mnist"
    x = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    y = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return resize(x.reshape(-1, 28, 28, 1), 32), y.astype(np.int64)


def digits_set(folder: Path) -> PreparedSet:
    """MNIST, prepared at 32×32."""
    return prepare(SHARED / "mnist", competition=COMPETITIONS["generative-dog-images"], out=folder, size=32)


def dogs_set(folder: Path) -> PreparedSet:
    """The dogs of `dogs/`, square crops of their boxes."""
    from kit.data.crops import CropSettings

    rules = COMPETITIONS["generative-dog-images"]
    return prepare(SHARED / "dogs", competition=rules, out=folder, crop=CropSettings(policy="square"))


def main() -> None:
    """Prints a line of a table for each target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", type=Path, nargs="+", metavar="RUN|images.zip|DIR")
    parser.add_argument("--data", type=Path, required=True, help="a prepared set of dogs in box crops")
    parser.add_argument("--count", type=int, default=5000, help="pictures of each target, the first by name")
    options = parser.parse_args()
    prepared = load(options.data)
    judge = Dogs(prepared)
    for number, path in enumerate(options.targets):
        began = time.process_time()
        _, pictures = read_matching(target(path).pictures, prepared, limit=options.count)
        stacked = np.stack(list(pictures))
        verdict = judge.judge(stacked)
        if not number:
            print(f"| pictures of | count | {' | '.join(verdict)} | CPU s |")
            print("|---" + "|--:" * (len(verdict) + 2) + "|")
        values = " | ".join(f"{value:.3f}" if value < 1 else f"{value:.1f}" for value in verdict.values())
        print(f"| {path} | {len(stacked):,} | {values} | {time.process_time() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
