"""How much memory does a score take?

    python bench/memory.py [--count 10000] [--real 20000] [--batches 3]

`--count` pictures in a zip against a prepared set of `--real`, on the 2048 features of Inception v3, with everything
that `kit score` prints. It is scored twice, each time in a process of its own: the first computes the reference's
features and keeps them, the second finds them on the disk, as every later score does.

All is the kit's own code and order: pictures are read, resized and put together to batches, features arrive batch by
batch. Only Inception, which takes a CPU half an hour for 10,000 pictures, gets no more than the first `--batches`
batches; that is as much memory as it ever takes. The features are drawn at random.

Memory is of the whole process, the interpreter and torch included: the kernel's own high-water mark of what is
resident, and of it what is anonymous, looked at every few milliseconds. The rest are files, of programs and of the
reference, which the system can take back at any time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from kit.competition import COMPETITIONS
from kit.data.prepared_set import CropRecord, DatasetRecord, PreparedSet
from kit.generation.pack import encode
from kit.scoring.compute_score import score_pictures
from kit.scoring.features import build

SIDE = 64
DIM = 2048
HELD_OUT = 20  # one in so many


class Drawn(nn.Module):
    """Runs a network on the first batches, and gives features that were drawn at random.

    They are correlated and positive, as pooled activations are.
    """

    def __init__(self, network: nn.Module, batches: int) -> None:
        super().__init__()
        self.network, self.batches, self.seen = network, batches, 0
        self.rng = np.random.default_rng(0)
        self.mix = self.rng.standard_normal((DIM // 4, DIM), dtype=np.float32) / np.sqrt(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) → (B, DIM)."""
        self.seen += 1
        if self.seen <= self.batches:
            self.network(x)
        hidden, own = (self.rng.standard_normal((len(x), dim), dtype=np.float32) for dim in self.mix.shape)
        return torch.from_numpy(np.abs(hidden @ self.mix + 0.3 * own))


def write_set(folder: Path, count: int) -> None:
    """What a score reads of a prepared set: black pictures, as their features are drawn anyway."""
    folder.mkdir()
    np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, SIDE, SIDE, 3)).flush()
    with (folder / "samples.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"file": f"{n}.jpg", "holdout": n % HELD_OUT == 0}) + "\n" for n in range(count))


def read_set(folder: Path) -> PreparedSet:
    """The same, mapped from disk."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    record = DatasetRecord(
        name="black",
        competition="generative-dog-images",
        size=SIDE,
        channels=3,
        crop=CropRecord(policy="whole"),
        digest=f"black {len(images)}",
    )
    return PreparedSet(folder, record, images, np.full(len(images), -1, np.int16), images)


def write_zip(path: Path, count: int) -> None:
    """So many pictures of noise."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            archive.writestr(f"{number:05}.png", encode(picture, COMPETITIONS["generative-dog-images"])[0])


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this bench reads /proc/self/status, which only Linux has")


def measured(folder: Path, batches: int, answer: Path) -> None:
    """Scores in this process; writes its peaks in MB: resident, anonymous, and anonymous before it began."""
    features = build("timm:inception_v3", weights=folder / "inception.pt", device=torch.device("cpu"))
    features = dataclasses.replace(features, network=Drawn(features.network, batches))
    before, highest, over = status("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            highest[0] = max(highest[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    score_pictures(
        folder / "images.zip", read_set(folder / "set"), features=features, detailed=True, cache=folder / "cache"
    )
    over.set()
    watcher.join()
    answer.write_text(json.dumps([status("VmHWM"), highest[0], before]))


def main() -> None:
    """Prints both peaks of both scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder / "set", options.real)
        write_zip(folder / "images.zip", options.count)
        torch.save(timm.create_model("inception_v3").state_dict(), folder / "inception.pt")
        for title in ("the first score", "every later one"):
            answer = folder / "answer.json"
            process = multiprocessing.get_context("spawn").Process(
                target=measured, args=(folder, options.batches, answer)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{title} failed")
            resident, held, before = json.loads(answer.read_text())
            print(
                f"{title}: {resident:,.0f} MB resident at its peak, of it {held:,.0f} MB anonymous "
                f"({before:,.0f} MB before it began)",
                flush=True,
            )


if __name__ == "__main__":
    main()
