"""How fast is packing 10,000 pictures, against `save_image` in a loop and `shutil.make_archive`?

    python bench/pack.py [--count 10000] [--size 64] [--repeats 3]

Both ways start from the same float pictures in [-1, 1], as a generator gives them, and end with a zip of PNGs with
the same pixels, which is checked. They take turns, after a warm-up.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.utils import save_image
from versus import Line, compare, show

from kit.competition import COMPETITIONS
from kit.generation.generate import to_uint8
from kit.generation.pack import pack
from kit.generation.pictures import Pixels, read_pictures
from kit.generation.validate import check

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


def lines(*, count: int, size: int, repeats: int) -> Iterator[Line]:
    """The one line: from floats to a zip."""
    torch.set_num_threads(1)  # float to uint8 is a small part of both; encoding is what is measured
    with tempfile.TemporaryDirectory() as scratch:
        zips = {ours: Path(scratch) / "ours.zip", theirs: Path(scratch) / "theirs.zip"}
        x = pictures(count, size)
        for way, out in zips.items():
            way(x[: 4 * BATCH], out)  # the warm-up
        yield compare(
            f"packing {count:,} pictures",
            partial(ours, x, zips[ours]),
            partial(theirs, x, zips[theirs]),
            repeats=repeats,
            pictures=count,
            warm_up=False,
        )
        require_same(zips[ours], zips[theirs], count=count, size=size)


def require_same(ours: Path, theirs: Path, *, count: int, size: int) -> None:
    """Makes sure that both zips hold the same pictures, and ours a valid one."""
    report = check(ours, competition=replace(COMPETITIONS["generative-dog-images"], size=size), count=count)
    if report.errors:
        raise SystemExit(f"{ours}: {report.errors[0]}")
    for (_, a), (name, b) in zip(read_pictures(ours), read_pictures(theirs), strict=True):
        if np.abs(a.astype(int) - b).max() > 1:  # save_image rounds its own way
            raise SystemExit(f"{name} differs")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    show(lines(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
