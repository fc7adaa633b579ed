"""What does each row of the registry reach on this device, and what keeps it from more? Made for GPUs; a CPU will do.

    python bench/rows.py [--rows dcgan,biggan] [--batches 64,256,1024] [--steps 20] [--set width=64] [--workers 2]

For each row and batch, pictures a second of the kit's training from a prepared set, the precision as it would choose
it; beside it the tutorial's loop with the same networks from the same files, through torchvision's `ImageFolder` and a
`DataLoader`: fp32, channels first, losses read each step (for wgan-gp the plain loop of its ports; for other rows that
loop has neither their loss nor their penalty). Both from 64×64 photographs of noise, 1,024 in four classes.

`peak` is the memory that the kit's tensors take at most, `deterministic` the share of speed that `--deterministic`
leaves, `matrix` the share of the device's rate of matrix products that the step's operations reach, and `copy` the
share of its rate of copies that the bytes reach that the step's operations read and write at most.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from counted import Counter, Limits, limits, wait
from growth import photographs
from step import PEERS, SIZE, kit_steps, take, tutorial_dcgan
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from kit.competition import COMPETITIONS
from kit.data import prepared_set
from kit.data.batches import Batches
from kit.data.prepare import prepare
from kit.models import registry
from kit.models.recipe import Recipe
from kit.training import device, train_state

CLASSES, IN_A_CLASS = 4, 256
COLUMNS = ("row", "batch", "pictures/s", "tutorial", "ratio", "peak", "deterministic", "matrix", "copy")


class Loader:
    """Batches as the tutorial loads them."""

    def __init__(self, folder: Path, batch: int, workers: int, where: torch.device) -> None:
        steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
        pictures = datasets.ImageFolder(str(folder), transforms.Compose([*steps, transforms.Normalize(0.5, 0.5)]))
        self._loader = DataLoader(pictures, batch_size=batch, shuffle=True, num_workers=workers, drop_last=True)
        self._where, self._next = where, iter(self._loader)

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """The next batch, whatever the position."""
        try:
            x, y = next(self._next)
        except StopIteration:
            self._next = iter(self._loader)
            x, y = next(self._next)
        return x.to(self._where), y.to(self._where)


def rate(steps: Callable[[int], object], pictures: int, count: int, where: torch.device) -> float:
    """Pictures a second, after a step that warms up."""
    steps(1)
    wait(where)
    began = time.perf_counter()
    steps(count)
    wait(where)
    return count * pictures / (time.perf_counter() - began)


def kit_rate(recipe: Recipe, prepared: prepared_set.PreparedSet, count: int, *, deterministic: bool = False) -> float:
    """Of the kit's loop."""
    where = device.choose(deterministic=deterministic)
    with where.algorithms():
        steps = partial(kit_steps, recipe, *trainable(recipe, prepared, where), where)
        return rate(steps, recipe.pictures_per_iteration, count, where.kind)


def trainable(
    recipe: Recipe, prepared: prepared_set.PreparedSet, where: device.Device
) -> tuple[train_state.TrainState, Batches]:
    """An untrained state and where their pictures come from."""
    classes = len(prepared.classes) if recipe.conditional else 0
    state = train_state.build(recipe, size=SIZE, channels=3, classes=classes, seed=0, device=where)
    return state, Batches(prepared, seed=0, device=where.kind, flip=recipe.flip)


def tutorial_rate(recipe: Recipe, prepared: prepared_set.PreparedSet, folder: Path, count: int, workers: int) -> float:
    """Of the tutorial's loop, with the row's networks in fp32 and channels first."""
    where = device.choose()
    state, _ = trainable(recipe, prepared, where)
    G, D = (copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in (state.G, state.D))
    loop = PEERS.get(recipe.model, tutorial_dcgan)
    batches = recipe.d_steps if recipe.model in PEERS else 1
    steps = loop(recipe, G, D, Loader(folder, recipe.batch, workers, where.kind))
    return rate(lambda n: take(steps, n), batches * recipe.batch, count, where.kind)


def counted(recipe: Recipe, prepared: prepared_set.PreparedSet) -> Counter:
    """A step's operations and bytes."""
    where = device.choose()
    state, batches = trainable(recipe, prepared, where)
    kit_steps(recipe, state, batches, where, 1)
    with Counter() as counter:
        kit_steps(recipe, state, batches, where, 1)
    return counter


def line(
    recipe: Recipe, prepared: prepared_set.PreparedSet, folder: Path, best: Limits, o: argparse.Namespace
) -> list[str]:
    """One row of the table."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ours = kit_rate(recipe, prepared, o.steps)
    peak = f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB" if on_gpu else "–"
    theirs = tutorial_rate(recipe, prepared, folder, o.steps, o.workers)
    same_bits = kit_rate(recipe, prepared, o.steps, deterministic=True) / ours
    step, seconds = counted(recipe, prepared), recipe.pictures_per_iteration / ours
    shares = step.operations / seconds / best.operations, step.bytes / seconds / best.bytes
    return [
        f"{ours:,.0f}",
        f"{theirs:,.0f}",
        f"{ours / theirs:.2f}×",
        peak,
        f"{same_bits:.2f}×",
        *(f"{100 * share:.0f} %" for share in shares),
    ]


def lines(o: argparse.Namespace) -> Iterator[list[str]]:
    """All rows at all batches; a batch that the memory does not hold says so."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photographs"
        folder.mkdir()
        for index in range(CLASSES):
            photographs(folder / f"class-{index}", IN_A_CLASS, SIZE)
        dogs = COMPETITIONS["generative-dog-images"]
        prepared = prepare(folder, competition=dogs, out=Path(name) / "set", size=SIZE, keep_duplicates=True)
        where = device.choose()
        best = limits(where.kind, where.precision)
        for row in o.rows.split(",") if o.rows else registry.of_task("generation"):
            for batch in map(int, o.batches.split(",")):
                recipe = registry.get(row).override([*o.settings, f"batch={batch}"])
                try:
                    yield [row, str(batch), *line(recipe, prepared, folder, best, o)]
                except torch.OutOfMemoryError:
                    yield [row, str(batch), "out of memory", *[""] * (len(COLUMNS) - 3)]


def main() -> None:
    """Prints the table as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="", help="with commas; default: all")
    parser.add_argument("--batches", default="64,256,1024")
    parser.add_argument("--steps", type=int, default=20, help="of G, for each figure")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2, help="of the tutorial's DataLoader")
    where = device.choose()
    print(f"{where.name}, {str(where.precision).removeprefix('torch.')}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|---" + "|--:" * (len(COLUMNS) - 1) + "|")
    for cells in lines(parser.parse_args()):
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
