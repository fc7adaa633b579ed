"""What the kit finds on a machine, what it would choose there, and what would stop it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kit import __version__
from kit.core import machine, provenance
from kit.core.errors import KitError
from kit.data.prepared_set import latest
from kit.run import processes as run_processes
from kit.run import threads
from kit.training import device

LITTLE_DISK = 2e9
"""Bytes of free disk below which it is said: a run with 10,000 pictures of 256×256 and its checkpoints take 1 GB."""


@dataclass
class Findings:
    """What was found."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # each with its way out

    def note(self, name: str, value: str) -> None:
        """Adds a fact."""
        self.facts[name] = value


def examine(folder: Path) -> Findings:
    """Looks at the machine, without changing anything and without the network.

    Args:
        folder: where runs would be written.
    """
    found = Findings()
    found.note("kit", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    _packages(found)
    cores = machine.cores()
    found.note("processor", f"{cores} core{'s' * (cores != 1)}, {_gigabytes(machine.memory())} of memory")
    _device(found)
    _disk(found, folder)
    _set(found)
    _kaggle(found)
    return found


def _packages(found: Findings) -> None:
    versions = provenance.versions()
    names = [name for name in provenance.LIBRARIES if name in versions]
    found.note("packages", ", ".join(f"{name} {versions[name]}" for name in names))
    if missing := [name for name in provenance.LIBRARIES if name not in versions]:
        found.problems.append(f"not installed: {', '.join(missing)}; install the kit with its requirements")


def _device(found: Findings) -> None:
    count = torch.cuda.device_count()
    gpus = [torch.cuda.get_device_properties(index) for index in range(count)]
    described = [f"{gpu.name} ({gpu.major}.{gpu.minor}, {_gigabytes(gpu.total_memory)})" for gpu in gpus]
    found.note("GPUs", ", ".join(described) or "none that torch can use")
    try:
        chosen = device.choose().record()
    except KitError as error:
        found.problems.append(str(error))
        return
    found.note("training", f"on {chosen.name}, in {chosen.precision}, {_threads()}")
    processes = run_processes.processes("all")
    found.note("--gpus all", "one process" if processes == 1 else f"{processes} processes, one a GPU")


def _threads() -> str:
    number = torch.get_num_threads()
    said = f"{number} thread{'s' * (number != 1)}"
    if threads.is_set_by_user():
        return f"{said} ({' or '.join(threads.VARIABLES)} is set)"
    return said if number == 1 else f"{said}, or fewer where a budgeted run measures that they are faster"


def _disk(found: Findings, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    found.note("disk", f"{_gigabytes(free)} free in {folder}")
    if free < LITTLE_DISK:
        found.problems.append(f"{folder}: only {_gigabytes(free)} free; make room, or choose another folder with --out")


def _set(found: Findings) -> None:
    try:
        found.note("set", f"{latest()} (what `kit train` takes without --data)")
    except KitError as error:
        found.note("set", f"none yet ({error.remedy or error.problem})")


def _kaggle(found: Findings) -> None:
    """Whether there are credentials and where, never what they are."""
    try:
        from kit.kaggle import client, credentials

        found.note("Kaggle", f"credentials in {credentials.find(client.kaggle_api()).place}")
    except KitError:
        found.note("Kaggle", "no credentials; only downloading, submitting and kernels need them (docs/kaggle.md)")


def _gigabytes(size: float | None) -> str:
    return "an unknown amount" if size is None else f"{size / 1e9:.1f} GB"
