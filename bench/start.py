"""How long until something happens: `kit --help`, and `kit train` from the command to the first step?

    python bench/start.py [--repeats 5] [--data data/NAME]

The help is measured beside a bare `import torch`, which is what it would cost to import everything at the top. The
first step is that of dcgan at its defaults with a budget of ten minutes: its time covers the imports, the check of the
set's digests, and the trials by which the budget is divided. It begins when the grid of the untrained network is on the
disk; the run is killed then. Without `--data` the set is the embedded one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from versus import Line, compare, show

KIT = (sys.executable, "-c", "from kit.cli import main; main()")


def run(*command: str, folder: Path | None = None) -> None:
    """Runs a command and waits for its end."""
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


def lines(*, repeats: int) -> Iterator[Line]:
    """The help."""
    help_, torch = partial(run, *KIT, "--help"), partial(run, sys.executable, "-c", "import torch")
    yield compare("`kit --help`, against `import torch`", help_, torch, repeats=repeats, pictures=1)


def first_step(data: Path | None, repeats: int) -> float:
    """Seconds from the command to the first step, the median of some runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if data is None:
            run(*KIT, "data", "--from", "demo", "--out", "set", folder=folder)
        return statistics.median(until_it_trains(data or folder / "set", folder / str(i)) for i in range(repeats))


def until_it_trains(data: Path, out: Path) -> float:
    """Seconds until a run begins its first step; it is killed there."""
    options = ("--model", "dcgan", "--budget", "10m", "--data", str(data), "--out", str(out))
    began = time.perf_counter()
    with subprocess.Popen([*KIT, "train", *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not any(out.glob("samples/*.png")):
            if process.poll() is not None:
                raise SystemExit(process.stderr.read().decode() if process.stderr else "the run ended by itself")
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        process.kill()  # told to stop it would first make its zip
    return seconds


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    show(lines(repeats=options.repeats))
    print(f"\nfrom `kit train` to its first step: {first_step(options.data, options.repeats):.1f} s")


if __name__ == "__main__":
    main()
