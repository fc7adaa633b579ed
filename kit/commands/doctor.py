"""What the kit finds on a machine, what it would choose there, and what would stop it."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kit import __version__
from kit.core import machine, provenance, threads
from kit.core.errors import KitError
from kit.data.prepared_set import latest
from kit.run import processes as run_processes
from kit.training import device

LITTLE_DISK = 2e9
"""Bytes of free disk below which it is said: a run with 10,000 pictures of 256×256 and its checkpoints take 1 GB."""


PROBE_S = 0.1
"""Seconds for a measurement of a number of threads."""


@dataclass
class Findings:
    """What was found."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # each with its way out


def examine(folder: Path) -> Findings:
    """Looks at the machine, without changing anything and without the network.

    Args:
        folder: where runs would be written.
    """
    found = Findings()
    found.facts["kit"] = f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    _packages(found)
    cores = machine.cores()
    found.facts["processor"] = f"{cores} core{'s' * (cores != 1)}, {_gigabytes(machine.memory())} of memory"
    _device(found)
    _disk(found, folder)
    _set(found)
    _kaggle(found)
    return found


def _packages(found: Findings) -> None:
    versions = provenance.versions()
    names = [name for name in provenance.LIBRARIES if name in versions]
    found.facts["packages"] = ", ".join(f"{name} {versions[name]}" for name in names)
    if missing := [name for name in provenance.LIBRARIES if name not in versions]:
        found.problems.append(f"not installed: {', '.join(missing)}; install the kit with its requirements")


def _device(found: Findings) -> None:
    count = torch.cuda.device_count()
    gpus = [torch.cuda.get_device_properties(index) for index in range(count)]
    described = [f"{gpu.name} ({gpu.major}.{gpu.minor}, {_gigabytes(gpu.total_memory)})" for gpu in gpus]
    found.facts["GPUs"] = ", ".join(described) or "none that torch can use"
    try:
        chosen = device.choose().record()
    except KitError as error:
        found.problems.append(str(error))
        return
    found.facts["training"] = f"on {chosen.name}, in {chosen.precision}, {_threads()}"
    processes = run_processes.processes("all")
    found.facts["--gpus all"] = "one process" if processes == 1 else f"{processes} processes, one a GPU"


def _threads() -> str:
    number = torch.get_num_threads()
    said = f"{number} thread{'s' * (number != 1)}"
    if threads.is_set_by_user():
        return f"{said} ({' or '.join(threads.VARIABLES)} is set)"
    chosen = number if number == 1 else threads.fastest(_probe, number)[0]
    return said if chosen == number else f"{chosen} of {said}, as that is the fastest here and now"


def _probe(number: int) -> float:
    """Convolutions a second, forward and backward, in the shape of dcgan's, with so many threads."""
    layer, x = torch.nn.Conv2d(64, 128, 4, 2, 1), torch.randn(64, 64, 32, 32)
    with threads.num_threads(number):
        layer(x).sum().backward()
        began, done = time.monotonic(), 0
        while time.monotonic() - began < PROBE_S:
            layer(x).sum().backward()
            done += 1
        return done / (time.monotonic() - began)


def _disk(found: Findings, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    found.facts["disk"] = f"{_gigabytes(free)} free in {folder}"
    if free < LITTLE_DISK:
        found.problems.append(f"{folder}: only {_gigabytes(free)} free; make room, or choose another folder with --out")


def _set(found: Findings) -> None:
    try:
        found.facts["set"] = f"{latest()} (what `kit train` takes without --data)"
    except KitError as error:
        found.facts["set"] = f"none yet ({error.remedy or error.problem})"


def _kaggle(found: Findings) -> None:
    """Whether there are credentials and where, never what they are."""
    try:
        from kit.kaggle import client, credentials

        found.facts["Kaggle"] = f"credentials in {credentials.find(client.kaggle_api()).place}"
    except KitError:
        found.facts["Kaggle"] = "no credentials; only downloading, submitting and kernels need them (docs/kaggle.md)"


def _gigabytes(size: float | None) -> str:
    return "an unknown amount" if size is None else f"{size / 1e9:.1f} GB"
