"""What `bench/learning.py` judges pictures by: a digit classifier of its own, or the dogs' feature network."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.competition import COMPETITIONS
from kit.data.batches import Batches
from kit.data.prepare import prepare
from kit.data.prepared_set import PreparedSet
from kit.scoring import features
from kit.scoring.frechet import frechet_distance

SHARED = Path(os.environ.get("KIT_SHARED", "../shared")) / "data"
Pixels = NDArray[np.uint8]


class Verdict(NamedTuple):
    """What a judge says of generated pictures."""

    distance: float  # Fréchet, to real pictures that were not trained on
    to_trained: float  # the same, to pictures that were; NaN where the judge does not look
    classes: int  # classes with at least a fifth of their share of the pictures; 0 where the judge names none
    accuracy: float  # share of pictures of the class that was asked for; NaN where none was or the judge names none


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
        x, y = _test_digits()
        found, self.real = self._look(x)
        self.accuracy = float((found == y).mean())

    @torch.inference_mode()
    def _look(self, pictures: Pixels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Classes (N,) and features (N, 128) of pictures (N, 32, 32, 1)."""
        classes, seen = [], []
        for start in range(0, len(pictures), 500):
            x = torch.from_numpy(pictures[start : start + 500]).permute(0, 3, 1, 2).float() / 127.5 - 1
            seen.append(self.network.body(x))
            classes.append(self.network.head(seen[-1]).argmax(1))
        return torch.cat(classes).numpy(), torch.cat(seen).double().numpy()

    def judge(self, pictures: Pixels, asked: NDArray[np.int64] | None) -> Verdict:
        """What is to be said of pictures (N, 32, 32, 1), of the classes `asked` for (N,) where there were any."""
        classes, seen = self._look(pictures)
        covered = int((np.bincount(classes, minlength=10) >= len(classes) / 50).sum())
        accuracy = float((classes == asked).mean()) if asked is not None else float("nan")
        return Verdict(_distance(seen, self.real), float("nan"), covered, accuracy)


class Dogs:
    """Judges 64×64 dogs by the network in `dogs-resnet18.pt`, the prepared set's hold-out, and its training crops."""

    accuracy = float("nan")

    def __init__(self, prepared: PreparedSet, *, trained: int = 5000) -> None:
        self.network = features.build("timm:resnet18", weights=SHARED / "dogs-resnet18.pt")
        rows = prepared.rows("train")
        spread = rows[:: max(1, len(rows) // trained)]  # over all breeds
        self.real, self.trained = (
            self._look(np.asarray(prepared.images[chosen])) for chosen in (prepared.rows("holdout"), spread)
        )

    def _look(self, pictures: Pixels) -> NDArray[np.float64]:
        return self.network.extract(pictures).astype(np.float64)

    def judge(self, pictures: Pixels, asked: NDArray[np.int64] | None) -> Verdict:
        """What is to be said of pictures (N, 64, 64, 3)."""
        seen = self._look(pictures)
        return Verdict(_distance(seen, self.real), _distance(seen, self.trained), 0, float("nan"))


def _distance(ours: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    return frechet_distance(ours.mean(0), np.cov(ours.T), real.mean(0), np.cov(real.T))


def _test_digits() -> tuple[Pixels, NDArray[np.int64]]:
    """MNIST's 10,000 test pictures at 32×32, resized like the training ones, and their digits."""
    from kit.generation.generate import resize

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
