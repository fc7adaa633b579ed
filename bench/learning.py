"""Does every row of the registry learn? Each gets the same time, on MNIST or on dogs, and the same judge.

    python bench/learning.py mnist [--minutes 10] [--rows dcgan,wgan-gp] [--out FOLDER]
    python bench/learning.py dogs  [--minutes 16] [--rows dcgan,sn-dcgan,sagan,biggan,r3gan]

The judges are in bench/judges.py: for dogs KID×1000 on an ImageNet network decides. `untrained` is that number before
the row's first step. On a CPU, time is CPU time of all threads, so a busy machine changes little, and widths are small,
see SMALL; nearly everything else is the row's default. On a GPU it is wall time, and everything is the row's default.
With --out, a grid, the losses and the numbers of each row are kept there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from judges import Digits, Dogs, Verdict, digits_set, dogs_set

from kit.data.batches import Batches
from kit.data.grid import make_grid
from kit.generation.generate import generate
from kit.models import registry
from kit.models.recipe import Recipe
from kit.training import device, loop, train_state
from kit.training.adversarial import Adversarial

SETS = {"mnist": (digits_set, Digits), "dogs": (dogs_set, Dogs)}
SMALL = {
    "gan": ["width=256"],
    "cgan": ["width=256"],
    # a 3×3 convolution at the full side: as many operations as dcgan of width 32
    "sn-dcgan": ["width=16"],
    # slow: smaller batches, and attention on a map where it is sixteen times cheaper, so that minutes hold more steps
    "sagan": ["width=16", "batch=32", "attention=16"],
    "biggan": ["width=16", "batch=32", "attention=16"],
    # its penalties take most of a step
    "r3gan": ["width=16", "batch=16", "lr_g=1e-3", "lr_d=1e-3"],
}
"""Settings for minutes on a CPU; rows that are not named have WIDTH."""
WIDTH = ["width=32"]
CLOCKS = {"cpu": time.process_time}
"""What time is by the kind of device; where none is named, wall time."""
REPLANNED = (0.1, 0.3, 0.6, 1.0)
"""Shares of the time at whose beginning the plan that schedules run over is made anew from the speed so far."""
PICTURES, GRID, COLUMNS, CURVE = 5000, 60, 10, 60


def learn(
    recipe: Recipe, batches: Batches, state: train_state.TrainState, *, seconds: float, where: device.Device
) -> list[loop.Tick]:
    """Trains for so much time, schedules running over it, and returns the ticks."""
    clock = CLOCKS.get(where.kind.type, time.perf_counter)
    began = clock()
    objective = Adversarial(recipe, batches, 0, where)
    first = state.pictures
    passed = 0.0

    def steps(plan: int, until: float) -> list[loop.Tick]:
        nonlocal passed

        def tick_due(_: int) -> bool:
            nonlocal passed
            due = clock() - began >= passed + seconds / CURVE
            passed += seconds / CURVE * due
            return due

        return list(
            loop.train(
                state,
                objective,
                tick_due=tick_due,
                done=lambda _: clock() - began >= until,
                total_images=plan,
            )
        )

    ticks = steps(10**9, seconds / 40)  # warms up
    for share in REPLANNED:
        gone = clock() - began
        plan = state.pictures + round((state.pictures - first) / gone * (seconds - gone))
        ticks += steps(plan, share * seconds)
    return ticks


def pictures_of(
    recipe: Recipe, state: train_state.TrainState, *, count: int, size: int, where: device.Device
) -> tuple[np.ndarray, np.ndarray | None]:
    """So many of a row's pictures as its recipe draws them, and their classes; no classes for unconditional rows."""
    made = generate(
        state.ema.module, recipe, count=count, size=size, seed=1, device=where.kind, precision=where.precision
    )
    classes = int(state.G.classes)
    return np.concatenate(list(made)), np.arange(count) % classes if classes else None


def main() -> None:
    """Trains every row and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--minutes", type=float, default=10.0, help="time of each row")
    parser.add_argument("--rows", default="")
    parser.add_argument("--set-key", action="append", default=[], metavar="KEY=VALUE", help="as kit train --set")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = options.rows.split(",") if options.rows else list(registry.of_task("generation"))
    make, Scorer = SETS[options.set]
    where = device.choose()
    with tempfile.TemporaryDirectory() as folder:
        prepared = make(Path(folder) / options.set)
        judge = Scorer(prepared)
        if options.set == "mnist":
            print(f"the judge classifies {100 * judge.accuracy:.2f} % of the test digits correctly\n")
        for number, name in enumerate(rows):
            small = SMALL.get(name, WIDTH) if where.kind.type == "cpu" else []
            recipe = registry.get(name).override([*small, *options.set_key])
            batches = Batches(prepared, seed=0, device=where.kind, flip=recipe.flip and prepared.mirror)
            size, channels, classes = prepared.size, prepared.channels, len(prepared.classes)
            state = train_state.build(recipe, size=size, channels=channels, classes=classes, seed=0, device=where)

            def judged(recipe: Recipe = recipe, state: train_state.TrainState = state) -> tuple[Verdict, np.ndarray]:
                made, asked = pictures_of(recipe, state, count=PICTURES, size=prepared.size, where=where)
                return judge.judge(made, asked), made[:GRID]

            before, _ = judged()
            ticks = learn(recipe, batches, state, seconds=60 * options.minutes, where=where)
            after, tiles = judged()
            if not number:
                print(f"| row | pictures | untrained | {' | '.join(after)} |\n|---{'|--:' * (len(after) + 2)}|")
            first = next(iter(before.values()))
            cells = (name, f"{state.pictures:,}", f"{first:.1f}", *map(cell, after.values()))
            print(f"| {' | '.join(cells)} |", flush=True)
            if options.out:
                keep(options.out, f"{options.set}-{name}", ticks, tiles, before, after)


def cell(value: float) -> str:
    """A number, or a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def keep(folder: Path, name: str, ticks: list[loop.Tick], tiles: np.ndarray, before: Verdict, after: Verdict) -> None:
    """A grid, and the losses with the judge's numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    make_grid(tiles, columns=COLUMNS).save(folder / f"{name}.png", optimize=True)
    record = {"before": before, "after": after, "ticks": [asdict(tick) for tick in ticks]}
    (folder / f"{name}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
