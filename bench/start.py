"""How long until something happens: `kit --help`, and `kit train` from the command to the first step?

    python bench/start.py [--repeats 5]

The help is measured beside a bare `import torch`, which is what it would cost to import everything at the top. The
first step is read from the record of a short run on an embedded set of 16×16 pictures: when training could begin, on a
clock that starts with the process, trials of generating and packing included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
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


def first_step(repeats: int) -> float:
    """Seconds from the command to the first step, the median of some runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(*KIT, "data", "--from", "demo", folder=folder)
        found = []
        for index in range(repeats):
            out = folder / str(index)
            options = ("--budget", "60s", "--count", "16", "--set", "width=8", "--out", str(out))
            run(*KIT, "train", "--model", "dcgan", *options, folder=folder)
            found.append(json.loads((out / "run.json").read_text())["plans"][0]["started_s"])
        return statistics.median(found)


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    show(lines(repeats=repeats))
    print(f"\nfrom `kit train` to its first step: {first_step(min(repeats, 3)):.1f} s")


if __name__ == "__main__":
    main()
