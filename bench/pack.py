"""How fast is packing 10,000 pictures, against `save_image` in a loop and `shutil.make_archive`?

    python bench/pack.py [--count 10000] [--size 64] [--repeats 3]

Both ways start from the same float pictures in [-1, 1], as a generator gives them, and end with a zip of PNGs with
the same pixels. They take turns, after a warm-up; medians of wall and CPU time (of all threads) are shown.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.utils import save_image

from kit.competition import COMPETITIONS
from kit.generation.check import check
from kit.generation.pack import pack
from kit.generation.pictures import Pixels, read_pictures
from kit.generation.sampling import to_uint8

BATCH = 64


def pictures(count: int, size: int) -> torch.Tensor:
    """(count, 3, size, size) in [-1, 1]: blobs with fine structure, which pack about as tightly as dogs (0.7 : 1)."""
    random = torch.Generator().manual_seed(0)
    x = sum(
        F.interpolate(torch.randn(count, 3, side, side, generator=random), size=size, mode="bicubic") * side**-0.8
        for side in (4, 8, 16, 32, size)
    )
    return torch.tanh(torch.as_tensor(x))


def ours(x: torch.Tensor, out: Path) -> None:
    """The kit."""

    def batches() -> Iterator[Pixels]:
        for start in range(0, len(x), BATCH):
            yield to_uint8(x[start : start + BATCH]).numpy()

    size = x.shape[-1]
    pack(batches(), out, competition=replace(COMPETITIONS["generative-dog-images"], size=size), count=len(x))


def theirs(x: torch.Tensor, out: Path) -> None:
    """The way of public kernels."""
    folder = Path(tempfile.mkdtemp(dir=out.parent))
    for start in range(0, len(x), BATCH):
        for index, picture in enumerate((x[start : start + BATCH] + 1) / 2, start):
            save_image(picture, folder / f"{index:05d}.png")
    shutil.make_archive(str(out.with_suffix("")), "zip", folder)
    shutil.rmtree(folder)


def timed(way: Callable[[torch.Tensor, Path], None], x: torch.Tensor, out: Path) -> tuple[float, float]:
    """Seconds of (wall, CPU)."""
    wall, cpu = time.perf_counter(), time.process_time()
    way(x, out)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(1)  # float to uint8 is a small part of both; encoding is what is measured
    with tempfile.TemporaryDirectory() as scratch:
        outs = {ours: Path(scratch) / "ours.zip", theirs: Path(scratch) / "theirs.zip"}
        x = pictures(options.count, options.size)
        for way, out in outs.items():
            way(x[: 4 * BATCH], out)
        times = {way: [] for way in outs}  # type: dict[Callable[[torch.Tensor, Path], None], list[tuple[float, float]]]
        for _ in range(options.repeats):
            for way, out in outs.items():
                times[way].append(timed(way, x, out))

        print(f"{options.count:,} pictures of {options.size}×{options.size}, median of {options.repeats}")
        print(f"{'':<26}{'wall s':>8}{'CPU s':>8}{'MB':>8}")
        for name, way in (("kit.generation.pack", ours), ("save_image, make_archive", theirs)):
            wall, cpu = (statistics.median(column) for column in zip(*times[way], strict=True))
            print(f"{name:<26}{wall:>8.2f}{cpu:>8.2f}{outs[way].stat().st_size / 1e6:>8.1f}")
        for index, kind in enumerate(("wall", "CPU")):
            ratios = [b[index] / a[index] for a, b in zip(times[ours], times[theirs], strict=True)]
            print(f"{kind} ratio {statistics.median(ratios):.2f} (pairs {min(ratios):.2f} to {max(ratios):.2f})")

        wall, cpu = time.perf_counter(), time.process_time()
        small = replace(COMPETITIONS["generative-dog-images"], size=options.size)
        report = check(outs[ours], competition=small, count=options.count)
        print(f"kit.generation.check: {time.perf_counter() - wall:.2f} s, CPU {time.process_time() - cpu:.2f} s")
        assert report.ok, report.lines()
        same = all(
            np.abs(a.astype(int) - b).max() <= 1  # save_image rounds its own way
            for (_, a), (_, b) in zip(read_pictures(outs[ours]), read_pictures(outs[theirs]), strict=True)
        )
        raw = options.count * 3 * options.size**2
        with zipfile.ZipFile(outs[ours]) as archive:
            stored = sum(info.file_size for info in archive.infolist()) / raw
        print(f"same pictures in both: {same}; PNG takes {stored:.2f} of the raw pixels")


if __name__ == "__main__":
    main()
