"""How do time and memory grow with the number of pictures and their size?

    python bench/growth.py [--pictures 1000,5000,20000] [--sizes 32,64,128] [--plot docs/images/growth.png]
    python bench/growth.py --mapped 200000

Each stage runs in a process of its own: preparing a folder of JPEGs, a fixed number of training steps from the prepared
set, scoring (features, Fréchet, memorization) and packing; preparing and packing, which share their work out, with one
process and with two (packing: threads). Time is CPU time of the process and its children, memory what they hold
themselves at their peak (anonymous pages: what is mapped from the disk can be given back at any time). The exponent is
the slope of the logarithms: 1 is linear. Scoring holds the memorization distance, which compares every picture with
every other: 2 is what it can be, and its memory grows with the features alone, as it goes in chunks.

`--mapped` trains from a set of so many pictures of 64×64 (12 KiB each) and prints what the process held itself at its
peak. In a memory cgroup it shows that a small machine will do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kit.competition import COMPETITIONS
from kit.data import prepared_set
from kit.data.batches import Batches
from kit.data.prepare import prepare
from kit.generation.pack import pack
from kit.models import registry
from kit.scoring.frechet import frechet_distance
from kit.scoring.memorization import memorization_distance
from kit.training import device, loop, train_state
from kit.training.adversarial import Adversarial

DOGS = COMPETITIONS["generative-dog-images"]
STEPS, BATCH, FEATURES = 20, 32, 512

COLOURS = ("#0065b3", "#b04200", "#12966b", "#b85f98")  # those of kit report

LOOK_S = 0.05
"""Seconds between two looks at the memory."""


def photographs(folder: Path, count: int, size: int) -> None:
    """So many JPEGs of smooth noise, with a short side of twice the size that they are prepared at."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((2 * size, 2 * size), Image.Resampling.BICUBIC).save(folder / f"{index:06d}.jpg", quality=90)


def preparing(folder: Path, count: int, size: int, *, workers: int = 1) -> None:
    """From JPEGs to a prepared set."""
    out = folder / f"set-{workers}"  # one that stood already would not be made again
    prepare(folder / "photographs", competition=DOGS, out=out, size=size, workers=workers)


def training(folder: Path, count: int, size: int) -> None:
    """A fixed number of steps from that set."""
    train(prepared_set.load(folder / "set-1"))


def train(prepared: prepared_set.PreparedSet) -> None:
    """A fixed number of steps."""
    recipe = registry.get("dcgan").override(["width=8", f"batch={BATCH}"])
    where = device.choose()
    batches = Batches(prepared, seed=0, device=where.kind, flip=True)
    state = train_state.build(recipe, size=prepared.size, channels=3, classes=0, seed=0, device=where)
    until = STEPS * BATCH
    list(loop.train(state, Adversarial(recipe, batches, 0, where), tick_due=lambda _: False, done=lambda n: n >= until))


def scoring(folder: Path, count: int, size: int) -> None:
    """Numbers from features: the network's own time is the same for every picture."""
    rng = np.random.default_rng(0)
    ours, real = (rng.standard_normal((count, FEATURES), dtype=np.float32) for _ in range(2))
    statistics = [(x.mean(0, dtype=np.float64), np.cov(x.T)) for x in (ours, real)]
    frechet_distance(*statistics[0], *statistics[1])
    memorization_distance(ours, real)


def packing(folder: Path, count: int, size: int, *, workers: int = 1) -> None:
    """From arrays to a zip."""
    images = np.load(folder / "set-1" / "images.npy", mmap_mode="r")
    pictures = (np.ascontiguousarray(images[start : start + 64]) for start in range(0, len(images), 64))
    pack(pictures, folder / "images.zip", competition=replace(DOGS, size=size), count=len(images), workers=workers)


STAGES: dict[str, Callable[[Path, int, int], None]] = {
    "preparing": preparing,
    "preparing, 2 processes": partial(preparing, workers=2),
    "training": training,
    "scoring": scoring,
    "packing": packing,
    "packing, 2 threads": partial(packing, workers=2),
}


def mapped(folder: Path, count: int, size: int) -> None:
    """The same training from noise that was never prepared: a set too large to keep in memory."""
    folder = folder / "set"
    folder.mkdir()
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, size, size, 3))
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        images[start : start + 1000] = rng.integers(0, 256, images[start : start + 1000].shape, dtype=np.uint8)
    images.flush()
    del images
    with (folder / "samples.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"file": str(row), "holdout": row % 20 == 0}) + "\n" for row in range(count))
    images = np.load(folder / "images.npy", mmap_mode="r")
    record = prepared_set.DatasetRecord(
        name="noise", competition="none", size=size, channels=3, crop=prepared_set.CropRecord(policy="whole")
    )
    labels = np.full(count, -1, np.int16)
    train(prepared_set.PreparedSet(folder, record, images, labels, whole=images[:0]))


def measured(stage: str, folder: Path, count: int, size: int, answer: Path) -> None:
    """Runs a stage in this process and writes its CPU seconds and its peak of anonymous memory, in MB."""
    torch.set_num_threads(1)
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    before = anonymous()
    watcher.start()
    began = cpu_seconds()
    {**STAGES, "mapped": mapped}[stage](folder, count, size)
    spent = cpu_seconds() - began
    over.set()
    watcher.join()
    answer.write_text(json.dumps([spent, max(peak[0], anonymous()) - before]))


def anonymous() -> float:
    """Memory of this process and its children that no file stands behind, in MB; what they share counts once."""
    own = _kilobytes(Path("/proc/self/status"), "RssAnon:")
    children = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    return (own + sum(_of_a_child(Path("/proc") / child / "smaps_rollup") for child in children)) / 1024


def _of_a_child(path: Path) -> int:
    """What it does not share with this process, from which it was forked."""
    try:
        return _kilobytes(path, "Private_Dirty:")
    except OSError:  # it has just ended
        return 0


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise SystemExit("this bench reads /proc, which only Linux has")


def cpu_seconds() -> float:
    """Of this process and the children that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def in_a_process(stage: str, folder: Path, count: int, size: int) -> tuple[float, float]:
    """`measured` in a fresh process."""
    answer = folder / "answer.json"
    process = multiprocessing.get_context("spawn").Process(target=measured, args=(stage, folder, count, size, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{stage} of {count} pictures failed")
    seconds, memory = json.loads(answer.read_text())
    return seconds, memory


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def sweep(title: str, points: list[tuple[int, int]], axis: int) -> dict[str, list[tuple[float, float]]]:
    """Measures all stages at all points (pictures, size) and prints a table; `axis` is what grows."""
    found: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    for count, size in points:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            photographs(folder / "photographs", count, size)
            for stage in STAGES:
                seconds, memory = in_a_process(stage, folder, count, size)
                found[stage].append((seconds, memory))
                print(f"{count:,} pictures, {size} px, {stage}: {seconds:.2f} s, {memory:.0f} MB", file=sys.stderr)
    grown = [point[axis] for point in points]
    print(f"\n| {title} | " + " | ".join(f"{value:,}" for value in grown) + " | exponent of time | of memory |")
    print("|---" + "|--:" * (len(points) + 2) + "|")
    for stage, values in found.items():
        cells = " | ".join(f"{seconds:.2f} s, {memory:.0f} MB" for seconds, memory in values)
        exponents = " | ".join(f"{exponent(grown, [value[side] for value in values]):.2f}" for side in (0, 1))
        print(f"| {stage} | {cells} | {exponents} |", flush=True)
    return found


def plot(path: Path, counts: list[int], found: dict[str, list[tuple[float, float]]]) -> None:
    """Time against pictures, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.2), dpi=110, layout="constrained")
    colours = dict(zip(("preparing", "training", "scoring", "packing"), COLOURS, strict=True))
    for stage, values in found.items():
        alone = stage in colours
        axes.loglog(
            counts,
            [seconds for seconds, _ in values],
            "o-" if alone else "--",
            color=colours[stage.partition(",")[0]],
            label=stage,
        )
    axes.set_xlabel("pictures")
    axes.set_ylabel("CPU time, seconds")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    figure.legend(loc="outside right center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", default="1000,5000,20000")
    parser.add_argument("--sizes", default="32,64,128")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--mapped", type=int)
    options = parser.parse_args()
    if options.mapped:
        with tempfile.TemporaryDirectory() as name:
            seconds, memory = in_a_process("mapped", Path(name), options.mapped, 64)
            bytes_ = (Path(name) / "set" / "images.npy").stat().st_size
        held = f"{bytes_ / 1e9:.1f} GB mapped, {memory:.0f} MB held"
        print(f"{options.mapped:,} pictures: {held}, {seconds:.0f} s of CPU")
        return
    counts, sizes = ([int(part) for part in text.split(",")] for text in (options.pictures, options.sizes))
    found = sweep("pictures, 64 px", [(count, 64) for count in counts], axis=0)
    if options.plot:
        plot(options.plot, counts, found)
    sweep(f"side in px, {counts[0]:,} pictures", [(counts[0], size) for size in sizes], axis=1)


if __name__ == "__main__":
    main()
