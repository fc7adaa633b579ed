"""A run in two processes, the second of which has memory for so many pictures at once only.

    python -m short_of_memory PICTURES FROM --images 64 --out run [--started-at …] [--resume]

`FROM`: pictures seen before which it has enough.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

import kit.run
from kit.core.clock import Stopwatch, parse_duration
from kit.core.errors import KitError
from kit.models.registry import MODELS
from kit.report.panel import TrainingScreen
from kit.run import budget, processes
from kit.training import adversarial
from kit.training.random import sample_z

BATCH = 8


def run_short(pictures: int, since: int) -> None:
    """Makes this process, if it is the second one, fail at batches larger than that; each step is a tick and saved."""
    budget.tick_seconds = budget.checkpoint_seconds = lambda _: 0.001

    def counted(seed, position, own, *rest):
        if os.environ.get("RANK") == "1" and position >= since and len(own) > pictures:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return sample_z(seed, position, own, *rest)

    vars(adversarial)["sample_z"] = counted


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=int)
    parser.add_argument("since", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--budget", type=parse_duration)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--started-at", type=float)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    clock = Stopwatch(asked.started_at)
    run_short(asked.pictures, asked.since)
    job = kit.run.RunConfig(
        recipe=MODELS["dcgan"].recipe.override(["width=4", "latent=8", f"batch={BATCH}"]),
        data=Path("data/tiny"),
        out=asked.out,
        images=asked.images,
        budget_s=asked.budget,
        count=12,
        resume=asked.resume,
    )
    processes.train(
        job, gpus="2", clock=clock, arguments=sys.argv[1:], make_callback=TrainingScreen, module="short_of_memory"
    )


if __name__ == "__main__":
    try:
        main()
    except KitError as error:
        sys.exit(f"error: {error}")
