"""What do several processes give, and when would talking to each other take over?

    python bench/scaling.py [--model dcgan] [--processes 2] [--images 6000] [--rounds 3]
    python bench/scaling.py --paper [--rows biggan,r3gan] [--teraflops 15] [--link 10] [--latency 30]

The first form runs the training loop in processes that torchrun starts, each on one core (or one GPU each, where there
are GPUs), in turns with one process that has no more than that. The rate by CPU time is what they would reach if nobody
waited: on a machine that does other things, too, the truth lies between the two.

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
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from counted import Counter, wait
from step import SIZE, Pictures, kit_steps
from torch.nn.modules.batchnorm import _BatchNorm

from kit.models import registry
from kit.training import device, distributed, train_state
from kit.training.distributed import convert_sync_batch_norm

DEVICES = (1, 2, 8, 64)


class Rates(NamedTuple):
    """Pictures a second of training."""

    wall: float
    cpu: float  # by the CPU time of the busiest process


def train_along(model: str, images: int, out: Path) -> None:
    """What each process does: a step to warm up, then so many pictures; it writes its seconds of (wall, CPU)."""
    processes = distributed.init()
    if not torch.cuda.is_available():
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[processes.rank % len(allowed)]})
        torch.set_num_threads(1)
    recipe, where = registry.get(model).override(["width=32", "batch=64"]), device.choose()
    state = train_state.build(recipe, size=SIZE, channels=3, classes=0, seed=0, device=where)
    if processes.size > 1:
        convert_sync_batch_norm(state.G), convert_sync_batch_norm(state.D)
    batches = Pictures(where.kind)
    kit_steps(recipe, state, batches, where, 1, distributed=processes)
    wait(where.kind)
    wall, cpu = time.perf_counter(), time.process_time()
    kit_steps(recipe, state, batches, where, math.ceil(images / recipe.pictures_per_iteration), distributed=processes)
    wait(where.kind)
    seconds = [time.perf_counter() - wall, time.process_time() - cpu]
    (out / f"{processes.rank}.json").write_text(json.dumps([seconds, state.pictures - recipe.pictures_per_iteration]))
    distributed.destroy()


def rates(model: str, processes: int, images: int) -> Rates:
    """Of a run in so many processes."""
    with tempfile.TemporaryDirectory() as out:
        options, variables = distributed.torchrun_options(processes, Path(out))
        command = [sys.executable, "-m", "torch.distributed.run", *options, __file__]
        command += ["--model", model, "--images", str(images), "--along", out]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found = [json.loads(path.read_text()) for path in Path(out).glob("*.json")]
    return Rates(*(found[0][1] / max(seconds[side] for seconds, _ in found) for side in (0, 1)))


def measured(*, model: str, processes: int, images: int, rounds: int) -> None:
    """Prints what so many processes give, against one."""
    rates(model, 1, 64)  # warms up the disk's cache
    found = [(rates(model, processes, images), rates(model, 1, images)) for _ in range(rounds)]
    print(f"| {model}: pictures/s | {processes} processes | one process | ratio | rounds |\n|---|--:|--:|--:|---|")
    for side, name in enumerate(Rates._fields):
        several, one = (statistics.median(turn[who][side] for turn in found) for who in (0, 1))
        ratios = [turn[0][side] / turn[1][side] for turn in found]
        print(
            f"| by {name} time | {several:.0f} | {one:.0f} | {statistics.median(ratios):.2f}× | "
            f"{', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))} |"
        )


class Step(NamedTuple):
    """What a D step and a G step need."""

    operations: float  # floating-point, a step
    bytes: int  # gradients sent, a step
    messages: int  # all-reduces, a step
    batch: int


def counted(name: str) -> Step:
    """Counts a step of a row of the registry at its defaults, at 64×64, with 120 classes where it is conditional."""
    recipe = registry.get(name).recipe
    classes = 120 if recipe.conditional else 0
    where = device.Device(torch.device("cpu"), "CPU", torch.float32)
    state = train_state.build(recipe, size=SIZE, channels=3, classes=classes, seed=0, device=where)
    with Counter() as counter:
        kit_steps(recipe, state, Pictures(where.kind, recipe.batch), where, 1)
    weights = [sum(weight.numel() for weight in net.parameters()) for net in (state.G, state.D)]
    norms = [sum(isinstance(module, _BatchNorm) for module in net.modules()) for net in (state.G, state.D)]
    # Each pass through a batch norm sends one message forth and one back. G passes once; D for real and generated
    # pictures in its own steps, and once in G's. Beside that: a gradient for each player, the logits.
    passes = recipe.d_steps * norms[0] + norms[1] * (2 * recipe.d_steps + 1)
    return Step(
        counter.operations,
        4 * (recipe.d_steps * weights[1] + weights[0]),
        2 * passes + 4 * recipe.d_steps + 3,
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
    parser.add_argument("--along", type=Path, help="for the processes that this script starts")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--rows", default="biggan,r3gan")
    parser.add_argument("--teraflops", type=float, default=15.0)
    parser.add_argument("--link", type=float, default=10.0)
    parser.add_argument("--latency", type=float, default=30.0)
    o = parser.parse_args()
    if o.along:
        train_along(o.model, o.images, o.along)
    elif o.paper:
        paper(rows=o.rows.split(","), teraflops=o.teraflops, link=o.link, latency=o.latency)
    else:
        measured(model=o.model, processes=o.processes, images=o.images, rounds=o.rounds)


if __name__ == "__main__":
    main()
