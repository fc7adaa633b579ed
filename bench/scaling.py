"""What do several processes give, and when would talking to each other take over?

    python bench/scaling.py [--model dcgan] [--processes 2] [--images 6000] [--rounds 3]
    python bench/scaling.py --paper [--rows biggan,r3gan] [--teraflops 15] [--link 10] [--latency 30]

The first form trains with `kit train --gpus N`, each process on one core (or one GPU each, where there are GPUs), in
turns with one process that has no more than that, and reads the pictures a second from the runs' own records.

`--paper` counts what a step needs: operations (by torch's own counter, over a whole step of both players), bytes of
gradients, and messages, batch norm's among them. With an assumed rate of one device (`--teraflops`: that it reaches,
not that it could), an assumed link (`--link` GB/s and `--latency` µs a message) it works out the step of 1, 2, 8 and 64
devices, for a batch that is shared out (as the kit does it) and for one that grows with the devices.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from step import SIZE, Pictures, kit_steps
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kit.models import zoo
from kit.training import device, players

KIT = (sys.executable, "-c", "from kit.cli import main; main()")
DEVICES = (1, 2, 8, 64)


def pictures_a_second(folder: Path, model: str, processes: int, images: int) -> float:
    """Of a run with so many processes, from its ticks but the first, which warms up."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    options = ("--images", str(images), "--count", "16", "--gpus", str(processes), "--out", str(out))
    settings = ("--set", "width=32", "--set", "batch=64")
    allowed = sorted(os.sched_getaffinity(0))[:processes]
    subprocess.run(
        [*KIT, "train", "--model", model, *options, *settings],
        check=True,
        capture_output=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    lines = (out / "progress.jsonl").read_text().splitlines()
    return statistics.median(tick["pictures_per_s"] for tick in map(json.loads, lines[1:]) if "pictures_per_s" in tick)


def measured(*, model: str, processes: int, images: int, rounds: int) -> None:
    """Prints the pictures a second of one and of several processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*KIT, "data", "--from", "demo"], check=True, capture_output=True, cwd=folder)
        found = [[pictures_a_second(folder, model, n, images) for n in (processes, 1)] for _ in range(rounds)]
    several, one = (statistics.median(column) for column in zip(*found, strict=True))
    ratios = sorted(a / b for a, b in found)
    print(f"| {model}: pictures/s | {processes} processes | one process | ratio | rounds |\n|---|--:|--:|--:|---|")
    print(
        f"| | {several:.0f} | {one:.0f} | {statistics.median(ratios):.2f}× | "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios)} |"
    )


class Operations(TorchDispatchMode):
    """Adds up floating-point operations by torch's own formulas.

    torch's `FlopCounterMode` also keeps a tally for each module, for which it hooks into the backward pass in a way
    that penalties on gradients do not allow.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts it."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


class Step(NamedTuple):
    """What one step of both players needs."""

    operations: float  # floating-point, a step
    bytes: int  # gradients sent, a step
    messages: int  # all-reduces, a step
    batch: int


def counted(name: str) -> Step:
    """Counts a step of a row of the zoo at its defaults, at 64×64, with 120 classes where it is conditional."""
    recipe = zoo.get(name).recipe
    classes = 120 if recipe.conditional else 0
    where = device.Device(torch.device("cpu"), "CPU", torch.float32)
    state = players.build(recipe, size=SIZE, channels=3, classes=classes, seed=0, device=where)
    with Operations() as counter:
        kit_steps(recipe, state, Pictures(recipe.batch), where, 1)
    weights = [sum(weight.numel() for weight in net.parameters()) for net in (state.G, state.D)]
    norms = [sum(isinstance(module, _BatchNorm) for module in net.modules()) for net in (state.G, state.D)]
    # Each pass through a batch norm sends one message forth and one back. G passes once; D for real and generated
    # pictures in its own steps, and once in G's. Beside that: a gradient for each player, the logits.
    passes = recipe.critic_steps * norms[0] + norms[1] * (2 * recipe.critic_steps + 1)
    return Step(
        counter.total,
        4 * (recipe.critic_steps * weights[1] + weights[0]),
        2 * passes + 4 * recipe.critic_steps + 3,
        recipe.batch,
    )


def talk_s(step: Step, devices: int, *, link: float, latency: float) -> float:
    """Seconds of a step spent in ring all-reduces: 2 (N − 1) / N of the bytes pass each link, 2 (N − 1) hops."""
    if devices == 1:
        return 0.0
    return 2 * (devices - 1) / devices * step.bytes / link + step.messages * latency * math.ceil(math.log2(devices))


def paper(*, rows: list[str], teraflops: float, link: float, latency: float) -> None:
    """Prints what so many devices would give."""
    print(
        "| row | GFLOP a picture | MB a step | messages | " + " | ".join(f"{n} devices" for n in DEVICES) + " | even |"
    )
    print("|---" + "|--:" * (len(DEVICES) + 4) + "|")
    for name in rows:
        step = counted(name)
        alone = step.operations / (teraflops * 1e12)
        talk = partial(talk_s, step, link=link * 1e9, latency=latency * 1e-6)
        for kind, share in (("one batch shared out", True), ("a batch for each device", False)):
            cells = []
            for n in DEVICES:
                spent = alone / n if share else alone
                spoken = talk(n)
                pictures = step.batch * (1 if share else n) / (spent + spoken)
                cells.append(f"{pictures:,.0f}/s ({100 * spoken / (spent + spoken):.0f} % talk)")
            even = next((n for n in range(2, 4097) if talk(n) >= (alone / n if share else alone)), None)
            figures = f"{step.operations / step.batch / 1e9:.1f} | {step.bytes / 1e6:.1f} | {step.messages}"
            print(f"| {name}, {kind} | {figures} | " + " | ".join(cells) + f" | {even or 'never'} |", flush=True)


def main() -> None:
    """Measures, or reckons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--rows", default="biggan,r3gan")
    parser.add_argument("--teraflops", type=float, default=15.0)
    parser.add_argument("--link", type=float, default=10.0)
    parser.add_argument("--latency", type=float, default=30.0)
    o = parser.parse_args()
    if o.paper:
        paper(rows=o.rows.split(","), teraflops=o.teraflops, link=o.link, latency=o.latency)
    else:
        measured(model=o.model, processes=o.processes, images=o.images, rounds=o.rounds)


if __name__ == "__main__":
    main()
