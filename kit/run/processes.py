"""A run in this process, or in several, which PyTorch's torchrun starts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

import kit.run
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.core.machine import cores
from kit.core.provenance import PACKAGE
from kit.core.signals import WORDS
from kit.run import planning
from kit.run.context import RunConfig
from kit.training import distributed, memory
from kit.training.distributed import LOST, torchrun_options
from kit.training.memory import DEFAULT
from kit.training.run_folder import CHECKPOINT, RECORD, Run, read_run
from kit.training.run_record import Callback, RunRecord

log = logging.getLogger(__name__)

OUT_OF_MEMORY, NOT_CONNECTED = 75, 77
"""Exit codes of a process that has no memory left, and of one that could not connect to the others."""

MakeCallback = Callable[[Stopwatch], AbstractContextManager[Callback]]
"""Makes a run's callback from its clock, in the process that needs it."""


def train(
    config: RunConfig,
    *,
    gpus: str | None,
    clock: Stopwatch,
    arguments: Sequence[str],
    make_callback: MakeCallback,
    module: str = "kit",
) -> RunRecord | None:
    """Trains, and ends the run in order even if one of its processes dies.

    Where several processes cannot be connected, one trains alone.

    Args:
        config: what to train.
        gpus: "all", a number, or None: one process.
        clock: the run's.
        arguments: of the command line that asked for it: what other processes are started with.
        make_callback: makes the run's callback.
        module: what those arguments are the command line of; it also has to take --out, --started-at and --resume.

    Returns:
        The run's `run.json`; None in one of several processes, as the one that started them has the last word.

    Raises:
        KitError: what `kit.run.train` raises, in the process that has to say it.
        SystemExit: the processes could not begin, and have said why.
    """
    if distributed.started_by_torchrun():
        _train_as_one(config, clock, make_callback)
        return None
    try:
        count = processes(gpus)
        if count > 1:
            return _train_together(config, count, clock, arguments, make_callback, module)
        return _train_alone(config, clock, make_callback)
    finally:
        with contextlib.suppress(OSError):
            config.out.rmdir()  # claimed, and still empty


def _train_alone(config: RunConfig, clock: Stopwatch, make_callback: MakeCallback) -> RunRecord:
    with make_callback(clock) as callback:
        return kit.run.train(config, clock=clock, callback=callback).record


def _train_as_one(config: RunConfig, clock: Stopwatch, make_callback: MakeCallback) -> None:
    """What each of several processes does."""
    try:
        group = distributed.init()
        distributed.all_reduce(torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"))
    except (distributed.WorkerLostError, RuntimeError, OSError):
        _exit(NOT_CONNECTED)
    try:
        if group.is_main:
            with make_callback(clock) as callback:
                kit.run.train(config, clock=clock, callback=callback, distributed=group)
        else:
            kit.run.worker_loop(config, distributed=group)
    except distributed.WorkerLostError:
        _exit(LOST)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        _exit(OUT_OF_MEMORY)
    except KitError:
        if group.is_main:
            raise
        _exit(1)  # the first process says the same


def _exit(code: int) -> NoReturn:
    """Ends this process at once: an ordinary exit would wait for others that are in the middle of a step."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _train_together(
    config: RunConfig,
    count: int,
    clock: Stopwatch,
    arguments: Sequence[str],
    make_callback: MakeCallback,
    module: str,
) -> RunRecord:
    """Starts several processes; where they leave the run unfinished, this one ends it."""
    before = _record(config)
    parts = len(before.parts) if before else 0
    began, started = clock.started_at, clock.started_at
    arguments = [*arguments, "--out", str(config.out)]
    while True:
        ended = launch([*arguments, "--started-at", repr(started)], count, module=module)
        record = _record(config)
        if record is None or (ended.early and record == before) or record.state == "failed":
            if ended.code == OUT_OF_MEMORY:
                raise _no_memory()
            if ended.code == NOT_CONNECTED:
                log.warning("%s processes cannot be connected on this machine: going on with one", count)
                return _train_alone(config, clock, make_callback)
            sys.exit(130 if ended.signal == signal.SIGINT else 1)
        if record.state != "running":
            return record
        # What these processes used counts already, up to their last checkpoint.
        started = began + sum(part.seconds for part in record.parts[parts:])
        if ended.code != OUT_OF_MEMORY:
            break
        if not reduce_memory(config, processes=count):
            if not (config.out / CHECKPOINT).exists():
                raise _no_memory()
            break
        arguments = [word for word in arguments if word != "--resume"] + ["--resume"]
        before = record
    clock = Stopwatch(started)
    with make_callback(clock) as callback:
        return kit.run.finish_run(config, ended.why, clock=clock, callback=callback).record


def _no_memory() -> KitError:
    return KitError("out of memory before training began", "take a smaller --set batch, or --set width")


def _record(config: RunConfig) -> RunRecord | None:
    return read_run(config.out) if (config.out / RECORD).is_file() else None


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
    there = torch.cuda.device_count()
    if gpus == "all":
        return max(there, 1)
    if there and int(gpus) > there:
        raise KitError(f"--gpus {gpus}: this machine has {there}", "take fewer, or --gpus all")
    return int(gpus)


def launch(arguments: Sequence[str], count: int, *, module: str = "kit") -> Ended:
    """Runs `python -m MODULE ARGUMENTS` in so many processes and waits for their end, handing signals on.

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
    except Exception as error:  # torchrun itself: no sockets, no processes, no space for its files
        log.debug("torchrun: %s", error)
        return Ended(rank=0, code=NOT_CONNECTED)
    return Ended()


def first_dead(codes: Mapping[int, int]) -> Ended:
    """Which of several processes is to blame for their end.

    One that ran out of memory, or could not connect, says so. Not to blame are those that could not go on without
    another, and those that torchrun then told to stop.

    Args:
        codes: exit codes by rank, of those that did not end well.
    """
    victims = (LOST, -signal.SIGTERM)
    rank = min(
        codes, key=lambda rank: (codes[rank] not in (OUT_OF_MEMORY, NOT_CONNECTED), codes[rank] in victims, rank)
    )
    return Ended(rank=rank, code=codes[rank])


def reduce_memory(config: RunConfig, *, processes: int) -> bool:
    """Records in the `run.json` of a run whose processes ran out of memory that it goes on with less.

    Args:
        config: of the run.
        processes: that will share each batch.

    Returns:
        False where nothing is left to try.
    """
    run = Run(config.out, read_run(config.out))
    if run.record.width and run.record.width.chosen is None:
        return True  # a narrower network comes first; the record says which one did not fit
    policies = planning.memory_policies(run.record)
    before = policies[-1][1] if policies else DEFAULT
    kind = torch.device(run.record.device.type)
    wanted = before.reduce_memory(batch=run.record.recipe.batch, processes=processes, device=kind)
    if wanted is None:
        return False
    seen = run.record.pictures
    run.record.memory.append(planning.memory_change(wanted, reached=seen, resumed_at=seen))
    run.save()
    return True
