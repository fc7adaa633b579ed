"""How fast is training beside other programs, with the kit's number of threads and with others?

    python bench/busy.py [--seconds 2] [--rounds 5] [--busy 0,1,2] [--models dcgan:64,dcgan:32,biggan:16]

Alone, beside one niced program that keeps a core busy, and beside two: pictures a second of training with the number of
threads that the kit chooses, with each fixed number, and of the tutorial's loop (`bench/step.py`) with all threads,
which is what a user has without the kit.

A round is a run that begins now: the number is chosen as `kit train` chooses it, and then all of them are measured one
after the other, each round in another order. Speeds are of all rounds together, so that a machine that changes does so
for all. The share is the kit's speed over that of the best fixed number.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from step import SIZE, Pictures, kit_steps, tutorial_dcgan

from kit.core.machine import cores
from kit.core.threads import ROUNDS, fastest, num_threads, numbers
from kit.models import registry
from kit.models.recipe import Recipe
from kit.run.trainer import CALIBRATION_S
from kit.training import device, train_state

COLUMNS = ("model", "beside", "kit", "its threads", "best fixed", "all threads", "tutorial", "share")


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many niced processes that keep a core busy each."""
    script = "import os\nos.nice(10)\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Speed:
    """Measures one model.

    Args:
        recipe: of the model.
        seconds: that a measurement takes at least.
    """

    def __init__(self, recipe: Recipe, seconds: float) -> None:
        self.recipe, self.seconds = recipe, seconds
        self.where = device.choose()
        classes = 10 if recipe.conditional else 0
        self.state = train_state.build(recipe, size=SIZE, channels=3, classes=classes, seed=0, device=self.where)
        self.batches = Pictures(self.where.kind)

    def kit(self, threads: int, seconds: float | None = None) -> float:
        """Pictures a second of the kit's loop with so many threads."""
        with num_threads(threads):
            kit_steps(self.recipe, self.state, self.batches, self.where, 1)
            began, first = time.perf_counter(), self.state.pictures
            while time.perf_counter() - began < (seconds or self.seconds):
                kit_steps(self.recipe, self.state, self.batches, self.where, 1)
            return (self.state.pictures - first) / (time.perf_counter() - began)

    def tutorial(self) -> float:
        """Pictures a second of the tutorial's loop with all threads."""
        with num_threads(cores()):
            G, D = (network.requires_grad_(True) for network in (self.state.G, self.state.D))
            steps = tutorial_dcgan(self.recipe, G, D, self.batches)
            next(steps)
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < self.seconds:
                next(steps)
                done += 1
            return done * self.recipe.batch / (time.perf_counter() - began)


def row(model: str, width: int, beside: int, seconds: float, rounds: int) -> tuple[str, ...]:
    """A line of the table."""
    tutorial = model == "dcgan"
    names = ["kit", *numbers(cores()), *(["tutorial"] if tutorial else [])]
    speeds: dict[str | int, list[float]] = {name: [] for name in names}
    chosen = []
    with busy(beside):
        speed = Speed(registry.get(model).override([f"width={width}"]), seconds)
        for turn in range(rounds):
            chosen.append(fastest(lambda number: speed.kit(number, CALIBRATION_S / ROUNDS), cores())[0])
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                number = chosen[-1] if name == "kit" else name
                speeds[name].append(speed.kit(number) if isinstance(number, int) else speed.tutorial())
    mean = {name: statistics.fmean(measured) for name, measured in speeds.items()}
    best = max(mean[number] for number in numbers(cores()))
    return (
        f"{model}, width {width}",
        str(beside),
        f"{mean['kit']:.0f}",
        " ".join(map(str, chosen)),
        f"{best:.0f}",
        f"{mean[cores()]:.0f}",
        f"{mean['tutorial']:.0f}" if tutorial else "–",
        f"{mean['kit'] / best:.2f}",
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--busy", default="0,1,2", help="programs beside it")
    parser.add_argument("--models", default="dcgan:64,dcgan:32,biggan:16", help="MODEL:WIDTH,…")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for model in options.models.split(","):
        name, _, width = model.partition(":")
        for beside in options.busy.split(","):
            line = row(name, int(width), int(beside), options.seconds, options.rounds)
            print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
