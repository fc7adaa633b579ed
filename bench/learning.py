"""Does every row of the zoo learn? Each one gets the same time, on MNIST or on dogs, and is judged by one network.

    python bench/learning.py mnist [--minutes 10] [--rows dcgan,wgan-gp] [--out FOLDER]
    python bench/learning.py dogs  [--minutes 16] [--rows dcgan,sn-dcgan,sagan,biggan,r3gan]

The distance is Fréchet's on the judge's features, to pictures that were not trained on (of dogs also to those that
were); `untrained` is the same row's before its first step. On a CPU time is CPU time of all threads, so that a busy
machine is no excuse, and widths are small, see SMALL; nearly everything else is the row's default. On a GPU it is wall
time, and all is the row's default. With --out, a grid and the losses of each row are kept there.
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
                batches,
                recipe,
                seed=0,
                device=where,
                tick_due=tick_due,
                done=lambda _: clock() - began >= until,
                plan=plan,
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
    rows = options.rows.split(",") if options.rows else list(registry.MODELS)
    make, Judge = SETS[options.set]
    where = device.choose()
    with tempfile.TemporaryDirectory() as folder:
        prepared = make(Path(folder) / options.set)
        judge = Judge(prepared)
        if options.set == "mnist":
            print(f"the judge names {100 * judge.accuracy:.2f} % of the test digits right\n")
        print("| row | pictures | untrained | distance | ratio | to trained ones | classes | accuracy |")
        print("|---" + "|--:" * 7 + "|")
        for name in rows:
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
            cells = (
                name,
                f"{state.pictures:,}",
                f"{before.distance:.1f}",
                f"{after.distance:.1f}",
                f"{before.distance / after.distance:.1f}",
                or_dash(after.to_trained, ".1f"),
                str(after.classes or "–"),
                or_dash(after.accuracy, ".0%"),
            )
            print(f"| {' | '.join(cells)} |", flush=True)
            if options.out:
                keep(options.out, f"{options.set}-{name}", ticks, tiles, before, after)


def or_dash(value: float, form: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if np.isnan(value) else format(value, form)


def keep(folder: Path, name: str, ticks: list[loop.Tick], tiles: np.ndarray, before: Verdict, after: Verdict) -> None:
    """A grid, and the losses with the verdicts."""
    folder.mkdir(parents=True, exist_ok=True)
    make_grid(tiles, columns=COLUMNS).save(folder / f"{name}.png", optimize=True)
    record = {"before": before._asdict(), "after": after._asdict(), "ticks": [asdict(tick) for tick in ticks]}
    (folder / f"{name}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
