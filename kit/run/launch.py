"""Several processes for one run, by PyTorch's own torchrun, which this process becomes while they last."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kit.core.errors import KitError
from kit.core.machine import cores
from kit.core.provenance import PACKAGE
from kit.core.signals import WORDS
from kit.training.distributed import LOST, torchrun_options

OUT_OF_MEMORY = 75
"""Exit code of a process that has no memory left."""


@dataclass(frozen=True)
class Ended:
    """How several processes came to their end."""

    signal: signal.Signals | None = None  # that this process was sent, and handed on
    rank: int | None = None  # the process that died first of itself, if one did
    code: int = 0  # its exit code, or minus a signal's number

    @property
    def early(self) -> bool:
        """Whether they ended before their time."""
        return self.signal is not None or self.rank is not None

    @property
    def why(self) -> str:
        """In words, for `run.json`."""
        if self.signal is not None:
            return WORDS[self.signal]
        if self.code == OUT_OF_MEMORY:
            return "out of memory"
        return f"process {self.rank} was lost ({f'signal {-self.code}' if self.code < 0 else f'exit code {self.code}'})"


def processes(gpus: str | None) -> int:
    """How many processes `--gpus` asks for: one for each GPU; without a GPU, a number of them share the CPU.

    Raises:
        KitError: neither "all" nor a number, or more GPUs than there are.
    """
    if gpus is None:
        return 1
    if gpus != "all" and not (gpus.isdecimal() and int(gpus) > 0):
        raise KitError(f"--gpus {gpus}: neither all nor a number", "write --gpus all, or --gpus 2")
    import torch

    there = torch.cuda.device_count()
    if gpus == "all":
        return max(there, 1)
    if there and int(gpus) > there:
        raise KitError(f"--gpus {gpus}: this machine has {there}", "take fewer, or --gpus all")
    return int(gpus)


def launch(arguments: Sequence[str], count: int, *, module: str = "kit") -> Ended:
    """Runs `python -m MODULE ARGUMENTS` in so many processes and waits for their end, handing on SIGINT and SIGTERM.

    Args:
        arguments: of the command line.
        count: processes.
        module: that they run.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes say themselves what is wrong
    # After a signal torchrun kills what is still there after half a minute; a zip of 10,000 pictures may take longer.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3600")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // count, 1)))
    # They are to run this very kit, installed or not, and no folder that is called so where the user stands.
    os.environ["PYTHONSAFEPATH"] = "1"
    known = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if str(PACKAGE.parent) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), *known])
    try:
        with tempfile.TemporaryDirectory(prefix="kit-processes-") as folder:
            options, environment = torchrun_options(count, Path(folder))
            os.environ |= environment
            torchrun.run(torchrun.get_args_parser().parse_args([*options, "--module", module, *arguments]))
    except SignalException as error:
        return Ended(signal=error.sigval)
    except ChildFailedError as error:
        return first_dead({rank: failure.exitcode for rank, failure in error.failures.items()})
    return Ended()


def first_dead(codes: Mapping[int, int]) -> Ended:
    """Which of several processes is to blame for their end.

    One that ran out of memory says so. Not to blame are those that were lost without another, and those that torchrun
    then told to stop.

    Args:
        codes: exit codes by rank, of those that did not end well.
    """
    victims = (LOST, -signal.SIGTERM)
    rank = min(codes, key=lambda rank: (codes[rank] != OUT_OF_MEMORY, codes[rank] in victims, rank))
    return Ended(rank=rank, code=codes[rank])
