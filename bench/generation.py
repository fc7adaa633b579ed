"""How fast do 10,000 pictures come from a trained generator to a zip, against the loop that public kernels end with?

    python bench/generation.py [--count 10000] [--repeats 3] [--width 64]

Both begin with the same DCGAN generator. The kit generates in the precision that it chooses on this machine and
encodes on all cores; the other way generates in float32, saves each picture with
`save_image`, and packs the folder with `shutil.make_archive`. They take turns, after a warm-up. A second line has the
kit open the zip again and look at every picture in it, as a run does at its end; the other way trusts its own.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.utils import save_image
from versus import Line, compare, show

from kit.competition import COMPETITIONS
from kit.generation.generate import generate
from kit.generation.pack import pack
from kit.generation.validate import check
from kit.models import registry
from kit.models.recipe import Recipe
from kit.training import device, train_state

DOGS = COMPETITIONS["generative-dog-images"]
BATCH = 64


def ours(generator: nn.Module, recipe: Recipe, count: int, out: Path, *, checked: bool) -> None:
    """The kit."""
    where = device.choose()
    batches = generate(
        generator, recipe, count=count, size=DOGS.size, seed=0, device=where.kind, precision=where.precision
    )
    pack(batches, out, competition=DOGS, count=count)
    if checked:
        report = check(out, competition=DOGS, count=count)
        if report.errors:
            raise SystemExit(f"{out}: {report.errors[0]}")


@torch.no_grad()
def theirs(generator: nn.Module, recipe: Recipe, count: int, out: Path) -> None:
    """The way of public kernels."""
    where = device.choose().kind
    folder = Path(tempfile.mkdtemp(dir=out.parent))
    for start in range(0, count, BATCH):
        z = torch.randn(min(BATCH, count - start), recipe.latent, device=where)
        for index, picture in enumerate(generator(z, torch.zeros(len(z), dtype=torch.int64, device=where)), start):
            save_image((picture + 1) / 2, folder / f"{index:05d}.png")
    shutil.make_archive(str(out.with_suffix("")), "zip", folder)
    shutil.rmtree(folder)


def lines(*, count: int, repeats: int, width: int) -> Iterator[Line]:
    """From a generator to a zip, and to one that was looked at."""
    recipe = registry.get("dcgan").override([f"width={width}"])
    state = train_state.build(recipe, size=DOGS.size, channels=3, classes=0, seed=0, device=device.choose())
    generator = state.ema.module.eval()  # as training leaves it
    plain = copy.deepcopy(generator).to(memory_format=torch.contiguous_format)
    with tempfile.TemporaryDirectory() as scratch:
        kit = partial(ours, generator, recipe, out=Path(scratch) / "ours.zip")
        other = partial(theirs, plain, recipe, out=Path(scratch) / "theirs.zip")
        kit(count=2 * BATCH, checked=True), other(count=2 * BATCH)  # the warm-up
        for checked, what in ((False, "generating and packing"), (True, "generating, packing and checking")):
            yield compare(
                f"{what} {count:,} pictures",
                partial(kit, count=count, checked=checked),
                partial(other, count=count),
                repeats=repeats,
                pictures=count,
                warm_up=False,
            )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    show(lines(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
