"""Which width is worth its time? Distance to real dogs against pictures seen and against CPU seconds.

    python bench/widths.py --data data/dogs [--model dcgan] [--widths 16,24,32,48,64] [--at 0.1,0.2,0.4,0.8,1.6,3]
                           [--out widths.jsonl] [--threads 1] [--set KEY=VALUE] [--each]
    python bench/widths.py --show widths.jsonl [--plot widths.png]

Each width trains by the kit's own loop and is judged, by its average, after so many million pictures: all widths after
the first number, then all after the second. Every result is a line of --out at once, with a grid of 64 beside it, and
the states lie there, too: the same command goes on where it was cut off. The judges are those of bench/judges.py.

The learning rates stay as they begin, so that one run of a width has all its points. With --each every point is a run
of its own, whose schedules run over its pictures, as `kit train --images` does.

--show prints the table and, for each width, from how many pictures on it is better at equal CPU time than the next
smaller one: what kit/models/ladders.py says. CPU seconds are those of training, of all threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judges import Dogs

from kit.data.grid import make_grid
from kit.data.prepared_set import load
from kit.generation.generate import generate
from kit.models import registry
from kit.models.recipe import Recipe
from kit.run.trainer import Trainer
from kit.training import device

MILLION = 1_000_000
GRID, COLUMNS = 64, 8
SAVED_S = 120.0
"""CPU seconds of training from one saved state to the next."""

JUDGES = ("KID×1000", "dogs FD")


class Study:
    """The runs of one model, one a width, in the folder of the file that has their results.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.prepared = load(options.data)
        self.device = device.choose()
        self.judge = Dogs(self.prepared)
        self.folder = options.out.with_suffix("")
        self.folder.mkdir(parents=True, exist_ok=True)

    def recipe(self, width: int) -> Recipe:
        """The row's recipe at a width."""
        return registry.get(self.options.model).override([*self.options.settings, f"width={width}"])

    def measure(self, width: int, pictures: int) -> dict[str, Any]:
        """Trains a width to so many pictures, from where it was left, and judges it."""
        options, recipe = self.options, self.recipe(width)
        each = options.each
        name = f"{options.model}-{width}-{options.seed}" + (f"-{pictures}" if each else "")
        state, spent = self.folder / f"{name}.pt", self.folder / f"{name}.json"
        trainer = Trainer(recipe, self.prepared, seed=options.seed, device=self.device)
        cpu_s = 0.0
        if state.exists() and spent.exists():
            trainer.load(state)
            if trainer.state.pictures >= pictures + recipe.pictures_per_iteration:
                sys.exit(f"{state} has seen {trainer.state.pictures:,} pictures already: take another --out")
            cpu_s = json.loads(spent.read_text())["cpu_s"]
        began = saved = time.process_time()

        def due(_: int) -> bool:
            return time.process_time() - saved >= SAVED_S

        def keep() -> None:
            trainer.save(state)
            spent.write_text(json.dumps({"cpu_s": cpu_s + time.process_time() - began}))

        for tick in trainer.steps(
            done=lambda seen: seen >= pictures, tick_due=due, total_images=pictures if each else None
        ):
            print(f"  {name}: {tick.pictures:,} pictures, D {tick.loss_d:.3f}, G {tick.loss_g:.3f}", flush=True)
            keep()
            saved = time.process_time()
        keep()
        cpu_s += time.process_time() - began
        made = np.concatenate(
            list(
                generate(
                    trainer.state.ema.module,
                    recipe,
                    count=options.count,
                    size=self.prepared.size,
                    seed=1,
                    device=self.device.kind,
                    precision=self.device.precision,
                )
            )
        )
        grid = self.folder / f"{options.model}-{width}-{options.seed}-{trainer.state.pictures:08}.png"
        make_grid(made[:GRID], columns=COLUMNS).save(grid)
        verdict = self.judge.judge(made)
        return {
            "model": options.model,
            "width": width,
            "at": pictures,
            "pictures": trainer.state.pictures,
            "cpu_s": round(cpu_s, 1),
            "threads": torch.get_num_threads(),
            "seed": options.seed,
            "settings": options.settings,
            "each": each,
            "count": options.count,
            **{key: round(value, 4) for key, value in verdict.items()},
        }


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def study(options: argparse.Namespace) -> None:
    """Measures what the file of results does not have yet."""
    there = Study(options)
    keys = ("model", "width", "at", "seed", "settings", "each", "count")
    for million in options.at:
        for width in options.widths:
            wanted = (options.model, width, round(million * MILLION), options.seed, options.settings, options.each)
            done = [[line[key] for key in keys] for line in results(options.out)]
            if [*wanted, options.count] in done:
                continue
            line = there.measure(width, round(million * MILLION))
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


# ---- what came out


def curves(lines: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """The results of each width, in the order of pictures; of several seeds the mean."""
    found: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for line in lines:
        found.setdefault(line["width"], {}).setdefault(line["at"], []).append(line)
    numbers = ("pictures", "cpu_s", *JUDGES)
    return {
        width: [
            {key: float(np.mean([line[key] for line in same])) for key in numbers} | {"at": at}
            for at, same in sorted(points.items())
        ]
        for width, points in sorted(found.items())
    }


def table(by_width: dict[int, list[dict[str, Any]]]) -> Iterator[str]:
    """A Markdown table: a line for each number of pictures, a column for each width."""
    yield f"| pictures | {' | '.join(f'width {width}' for width in by_width)} |"
    yield "|--:" * (len(by_width) + 1) + "|"
    for at in sorted({point["at"] for points in by_width.values() for point in points}):
        cells = []
        for points in by_width.values():
            here = [point for point in points if point["at"] == at]
            cells += [f"{p[JUDGES[0]]:.0f} / {p[JUDGES[1]]:.1f} ({p['cpu_s']:,.0f} s)" for p in here] or ["–"]
        yield f"| {at:,} | {' | '.join(cells)} |"


def worth(narrow: list[dict[str, Any]], wide: list[dict[str, Any]], judge: str) -> int | None:
    """From how many pictures on the wide one is better at equal CPU time; None: not yet.

    Between two points distances are interpolated over the logarithm of time. Points that lie outside the narrow one's
    times are left out.
    """
    times = np.log([point["cpu_s"] for point in narrow])
    before: tuple[float, float] | None = None
    for point in wide:
        now = np.log(point["cpu_s"])
        if not times[0] <= now <= times[-1]:
            continue
        ahead = float(np.interp(now, times, [p[judge] for p in narrow])) - point[judge]
        if ahead > 0 and before is None:
            return int(point["at"])
        if ahead > 0 and before is not None:
            at, behind = before
            share = behind / (behind + ahead)
            return round(np.exp(at + share * (np.log(point["at"]) - at)))
        before = float(np.log(point["at"])), -ahead
    return None


def show(options: argparse.Namespace) -> None:
    """Prints the table and what follows for the ladder, and draws the plot."""
    by_width = curves([line for line in results(options.show) if line["model"] == options.model])
    print(f"Each cell: {' / '.join(JUDGES)} (CPU seconds of training)\n")
    print("\n".join(table(by_width)), end="\n\n")
    for (narrow, before), (wide, points) in pairwise(by_width.items()):
        for judge in JUDGES:
            needed = worth(before, points, judge)
            said = f"from {needed:,} pictures on" if needed else "not within these numbers"
            print(f"width {wide} is better than {narrow} at equal CPU time by {judge}: {said}")
    if options.plot:
        plot(by_width, options.plot)


def plot(by_width: dict[int, list[dict[str, Any]]], path: Path) -> None:
    """Both judges against pictures and against CPU seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), dpi=100, layout="constrained", sharey="row")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, max(len(by_width), 1)))
    for row, judge in zip(axes, JUDGES, strict=True):
        for place, (key, label) in zip(row, (("pictures", "pictures seen"), ("cpu_s", "CPU seconds")), strict=True):
            for colour, (width, points) in zip(colours, by_width.items(), strict=True):
                place.plot([p[key] for p in points], [p[judge] for p in points], "o-", color=colour, label=str(width))
            place.set_xscale("log")
            place.set_xlabel(label)
            place.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(judge)
    axes[0][1].legend(title="width", frameon=False)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Measures, or shows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a prepared set of dogs in box crops")
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--widths", type=lambda text: [int(word) for word in text.split(",")], default="16,24,32,48,64")
    parser.add_argument(
        "--at",
        type=lambda text: [float(word) for word in text.split(",")],
        default="0.1,0.2,0.4,0.8,1.6,3",
        help="million pictures",
    )
    parser.add_argument("--out", type=Path, default=Path("widths.jsonl"))
    parser.add_argument("--count", type=int, default=5000, help="pictures that are judged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: all")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--each", action="store_true", help="a run of its own for each number of pictures")
    parser.add_argument("--show", type=Path, metavar="FILE", help="what was measured, without measuring")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    if options.show:
        show(options)
        return
    if options.data is None:
        parser.error("--data: which prepared set?")
    if options.threads:
        torch.set_num_threads(options.threads)
    study(options)


if __name__ == "__main__":
    main()
