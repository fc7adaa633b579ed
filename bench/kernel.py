"""What does a kernel cost: to build, to carry, and to start?

    python bench/kernel.py [--repeats 3]

Building is `kit kernel build` as a user types it, and the part of it that is not Python's own start and imports. The
start-up overhead is what a kernel spends before its own work begins, unpacking the kit and importing it, each time in a
fresh process and, as on Kaggle, without compiled modules; what importing torch, timm and albumentations takes of it is
shown apart, as any kernel pays that. Wall and CPU time, medians: on a busy machine the CPU time is the one to read.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_spec import KernelSpec

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = "import torch, timm, albumentations.augmentations.crops.functional"

START = """
import runpy, sys
names = runpy.run_path(sys.argv[1], run_name="kernel")
sys.path.insert(0, names["unpack"]())
import kit.kernel_main
import kit.data.prepare, kit.run.processes, kit.scoring.compute_score, kit.report.page
from kit.data.crops import import_albumentations
import_albumentations()
"""
"""All that a session imports on its way."""


def in_a_process(*words: str) -> tuple[float, float]:
    """Seconds of (wall, CPU) of a fresh Python process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, *words], check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def here(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of (wall, CPU) of work in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Takes the times and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        spec = KernelSpec(slug="my-biggan", model="biggan")
        built = kernel.build(spec, Path("kernels"))  # also warms the disk's cache
        notebook = kernel.build(KernelSpec(slug="my-notebook", model="biggan", notebook=True), Path("kernels"))
        command = ["-m", "kit", "kernel", "build", "--model", "biggan", "--slug", "a-biggan"]
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "kit kernel build, the command": lambda: in_a_process(*command),
            "of it: building": lambda: here(lambda: kernel.build(spec, Path("kernels"))),
            "a kernel's start: unpack and import": lambda: in_a_process("-I", "-B", "-c", START, str(built.code)),
            "of it: torch, timm, albumentations": lambda: in_a_process("-I", "-c", PACKAGES),
        }
        times = {name: [way() for _ in range(options.repeats)] for name, way in ways.items()}

    print(f"median of {options.repeats}{'':28}{'wall s':>8}{'CPU s':>8}")
    for name, taken in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name:<38}{wall:>8.2f}{cpu:>8.2f}")
    print(f"script {built.bytes:,} bytes, notebook {notebook.bytes:,} bytes; Kaggle takes less than 1,000,000")


if __name__ == "__main__":
    main()
