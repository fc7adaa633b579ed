"""Does a run keep its promises whatever happens to it?

    python bench/faults.py [--out faults.jsonl] [--kinds kills,terms] [--kills 70] [--budget-kills 30] [--terms 50]
                           [--breaks 20] [--disks 20] [--budgets 30] [--full 2] [--count 256] [--seed 0]
    python bench/faults.py --table faults.jsonl

Runs of a small model on the embedded set are killed, told to stop, robbed of memory, given a NaN, or put on a disk
that fills up, each at a moment drawn at random over all of the run: its start, training, interim zips, checkpoints,
packing, film. Then what lies on the disk is looked at, and the run is resumed. A resumed run is compared with one that
was never interrupted; one with a budget, whose length depends on the clock, with its replay.

Short runs tick and save every tenth of a second, as a run of hours does every minute, keep less back for what no trial
measures, and are forked from a process that has torch loaded. The runs of `--budgets` (30 s to 3 min) and `--full`
(3 min, 10,000 pictures) are the command itself, as a user starts it; beside those of `--budgets`, another process takes
a core away at random.

Each run adds a line to `--out`. Runs that are there already are not made again, so a bench that was interrupted goes on
where it was; several may share a log if each has a `--seed` of its own. `--disks` takes root, as it mounts small disks.
The exit code is 1 if any promise was broken; such runs are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forked processes must not inherit threads that are not there

import fault_log
import torch
from fault_log import Outcome

import kit.run
from kit.competition import COMPETITIONS
from kit.core import provenance
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.core.files import reserve_disk
from kit.generation.validate import check
from kit.models.registry import MODELS
from kit.report import films, page, page_pictures
from kit.run import budget, trainer
from kit.training import checkpoint, losses
from kit.training.run_folder import CHECKPOINT, IMAGES, PROGRESS, RECORD, read_run
from kit.training.run_record import RunRecord, TickRecord

LOADED = (page_pictures, page)  # by runs at their end; forked processes find them loaded

DOGS = COMPETITIONS["generative-dog-images"]
SETTINGS = ["width=4", "latent=8", "batch=8"]
IMAGES_SEEN = 240
TICK_S = 0.1
SHORT_BUDGET_S = 5.0
SHORT_SPARE_S = 0.5
INTERIM_SHARE = 0.3
"""In a short budget, so that interim zips are many."""

GONE_S = 10.0
"""After SIGTERM a process with a zip is gone within so many seconds."""

DISK_MB = 32
TRIES = 50

FORK = multiprocessing.get_context("fork")


class Silent:
    """A callback that says nothing."""

    def on_plan(self, record: RunRecord) -> None:
        """Nothing."""

    def on_tick(self, tick: TickRecord) -> None:
        """Nothing."""

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    folder: Path
    data: Path
    count: int
    like: str  # digest of the zip of an uninterrupted run
    took: float  # seconds that one takes
    tree: str  # digest of the code that runs

    @property
    def budget_s(self) -> float:
        """A short budget, with time for trials, training, interim zips and the finish on this machine."""
        return max(SHORT_BUDGET_S, 2 * self.took)

    def config(self, out: Path, **wanted: Any) -> kit.run.RunConfig:
        """A small run."""
        return small_job(self.data, out, count=self.count, **wanted)


def small_job(data: Path, out: Path, **wanted: Any) -> kit.run.RunConfig:
    """A small run on a set."""
    return kit.run.RunConfig(recipe=MODELS["dcgan"].recipe.override(SETTINGS), data=data, out=out, **wanted)


# ---- runs in processes of their own


def in_a_fork(said: Path, work: Callable[[], object]) -> Any:
    """Starts it; its exit code is the command's, and what it says goes into a file."""
    process = FORK.Process(target=_child, args=(said, work))
    process.start()
    return process


def _child(said: Path, work: Callable[[], object]) -> None:
    sys.stderr = said.open("a", encoding="utf-8")
    try:
        work()
    except KitError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def start(job: kit.run.RunConfig, before: Callable[[], None] | None = None, *, said: Path | None = None) -> Any:
    """Starts a run; what it says goes beside it, or elsewhere."""

    def work() -> None:
        budget.tick_seconds = lambda _: TICK_S
        budget.checkpoint_seconds = lambda _: TICK_S
        budget.SPARE_S, budget.INTERIM_SHARE = SHORT_SPARE_S, INTERIM_SHARE
        trainer.CALIBRATION_S = TICK_S
        films.SPARE_S = SHORT_SPARE_S / 2
        if before:
            before()
        kit.run.train(job, clock=Stopwatch(time.time()), callback=Silent())

    return in_a_fork(said or job.out.with_name(f"{job.out.name}.said"), work)


def finish(job: kit.run.RunConfig) -> int:
    """Runs to the end."""
    process = start(job)
    process.join()
    return int(process.exitcode)


def started(job: kit.run.RunConfig) -> Any:
    """Starts a run and waits until it has a record: signals are answered from then on."""
    process = start(job)
    while not (job.out / RECORD).exists() and process.is_alive():
        time.sleep(0.005)
    return process


# ---- what is looked at


def doing(run: Path) -> str:
    """What a run is at, or was when it was killed, by the files that it is writing."""
    if not (run / RECORD).exists():
        return "starting"
    if read_run(run).state == "finished":
        return "film and page"
    parts = {path.name.split(".")[1] for path in run.glob(".*.part")}
    return next((f"writing {what}" for key, what in WRITTEN.items() if key in parts), "training")


WRITTEN = {"images": "images.zip", "checkpoint": "a checkpoint"}


def look(bench: Bench, run: Path, outcome: Outcome, *, ended: bool = False) -> None:
    """Checks what lies on the disk: what there is has to be whole, and what there was has to be there.

    Args:
        bench: what all runs share.
        run: the run's folder.
        outcome: what is noted down.
        ended: the run has come to an orderly end.
    """
    record = read_run(run) if (run / RECORD).exists() else None
    if (run / IMAGES).exists() or ended or (record and record.result):
        try:
            valid = check(run / IMAGES, competition=DOGS, count=bench.count).ok
        except KitError:
            valid = False
        outcome.zips.append(outcome.promise(valid, "no valid zip"))
    if (run / CHECKPOINT).exists() or ended or (run / PROGRESS).exists():
        try:
            checkpoint.load_generator(run / CHECKPOINT)
            loadable = True
        except KitError:
            loadable = False
        outcome.checkpoints.append(outcome.promise(loadable, "no loadable checkpoint"))


def seen(run: Path) -> int:
    """Pictures in a run's checkpoint."""
    if not (run / CHECKPOINT).exists():
        return 0
    return int(torch.load(run / CHECKPOINT, weights_only=True)["pictures"])


def resume(bench: Bench, run: Path, outcome: Outcome, *, like: str | None, **wanted: Any) -> None:
    """Goes on with a run to its end and compares its bytes with those of an uninterrupted one, or with its replay."""
    at = seen(run)
    over = (run / RECORD).exists() and read_run(run).state == "finished"
    code = finish(bench.config(run, resume=True, **wanted))
    record = read_run(run) if (run / RECORD).exists() else None
    went_on = code == 0 and record is not None and record.state == "finished"
    if not outcome.promise(went_on, "could not go on to its end") or record is None:
        return
    if not over:
        outcome.resumed_from = record.parts[-1].start
        outcome.promise(outcome.resumed_from == at, f"went on from {outcome.resumed_from}, not from {at}")
    same_bytes(bench, run, outcome, like=like)
    look(bench, run, outcome, ended=True)


def same_bytes(bench: Bench, run: Path, outcome: Outcome, *, like: str | None) -> None:
    """Compares a run with an uninterrupted one, or with its replay."""
    record = read_run(run)
    if like is None:
        again = run.with_name(f"{run.name}-again")
        like = replay(record, bench.data, again)
        shutil.rmtree(again, ignore_errors=True)
        again.with_name(f"{again.name}.said").unlink(missing_ok=True)
    outcome.identical = outcome.promise(_sha256(record) == like, "other bytes")


def _sha256(record: RunRecord) -> str:
    return record.result.sha256 if record.result else "no images.zip"


def replay(record: RunRecord, data: Path, out: Path) -> str:
    """The digest of a run made again."""
    process = in_a_fork(
        out.with_name(f"{out.name}.said"),
        lambda: kit.run.replay(record, data=data, out=out, clock=Stopwatch(time.time()), callback=Silent()),
    )
    process.join()
    return _sha256(read_run(out)) if process.exitcode == 0 else "no replay"


# ---- what goes wrong


def at_random(begin: Callable[[], Any], run: Path, outcome: Outcome, rng: random.Random, lasts: float) -> Iterator[Any]:
    """Yields a run's process at a moment of its life, with equal chances for each.

    A run is rarely as long as the last one: moments are drawn over somewhat more, and drawn again if it was over.
    """
    longest = 1.3 * lasts
    for _ in range(TRIES):
        process = begin()
        began = time.monotonic()
        outcome.moment_s = rng.uniform(0, longest)
        process.join(outcome.moment_s)
        if process.exitcode is None:
            outcome.during = doing(run)
            yield process
            process.join()
            return
        longest = min(longest, 1.1 * (time.monotonic() - began))
        shutil.rmtree(run, ignore_errors=True)
    raise RuntimeError(f"{run}: no moment in {TRIES} runs")


def killed(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """SIGKILL at any moment of a run of a fixed length."""
    kill(bench, run, outcome, rng, like=bench.like, lasts=bench.took, images=IMAGES_SEEN)


def killed_in_a_budget(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """SIGKILL at any moment of a run with a budget, which writes interim zips."""
    kill(bench, run, outcome, rng, like=None, lasts=bench.budget_s, budget_s=bench.budget_s)


def kill(
    bench: Bench, run: Path, outcome: Outcome, rng: random.Random, *, like: str | None, lasts: float, **wanted: Any
) -> None:
    """SIGKILL, then what is left, and what becomes of it."""
    for process in at_random(lambda: start(bench.config(run, **wanted)), run, outcome, rng, lasts):
        process.kill()
    outcome.during = doing(run)
    look(bench, run, outcome)
    resume(bench, run, outcome, like=like, **wanted)


def told_to_stop(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """SIGTERM at any moment once the run has begun; every second one has a budget, and so a zip early on."""
    budgeted = outcome.number % 2
    wanted: dict[str, Any] = {"budget_s": bench.budget_s} if budgeted else {"images": IMAGES_SEEN}
    lasts = bench.budget_s if budgeted else bench.took
    for process in at_random(lambda: started(bench.config(run, **wanted)), run, outcome, rng, lasts):
        had_zip = (run / IMAGES).exists()
        began = time.monotonic()
        process.terminate()
        process.join()
        if had_zip:
            outcome.gone_s = time.monotonic() - began
            outcome.promise(outcome.gone_s < GONE_S, f"stayed for {outcome.gone_s:.1f} s")
        # Once all is written, nothing but the command itself answers the signal, and here there is none.
        codes = (0, -signal.SIGTERM) if outcome.during == "film and page" else (0,)
        outcome.promise(process.exitcode in codes, f"exit code {process.exitcode}")
    look(bench, run, outcome, ended=True)
    record = read_run(run)
    stopped = (record.state, record.signal) == ("stopped", "SIGTERM")
    outcome.promise(stopped or record.state == "finished", f"{record.state}: {record.why}")
    resume(bench, run, outcome, like=None if budgeted else bench.like, **wanted)


def broken(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """Out of memory, or a loss that is no number, once or from then on."""
    memory, ever = bool(outcome.number % 2), bool(outcome.number // 2 % 2)
    at = rng.randrange(IMAGES_SEEN // 8)
    process = start(bench.config(run, images=IMAGES_SEEN), lambda: spoil(at, memory=memory, ever=ever))
    process.join()
    outcome.promise(process.exitcode == 0, f"exit code {process.exitcode}")
    look(bench, run, outcome, ended=True)
    record = read_run(run)
    expected = ("out of memory" if memory else "diverged") if ever else "all pictures were seen"
    outcome.promise(expected in record.why, f"ended because {record.why}")
    # What went on with smaller steps or in parts is another run than one that did not; its replay is the same.
    like = None if record.rollbacks or record.memory else bench.like
    if record.state == "stopped":
        resume(bench, run, outcome, like=like, images=IMAGES_SEEN)
    else:
        same_bytes(bench, run, outcome, like=like)


def spoil(at: int, *, memory: bool, ever: bool) -> None:
    """Makes D's loss fail at a step, or from it on."""
    loss, steps = losses.LOSSES["non-saturating"], iter(range(10**9))

    def d_loss(*logits: Any) -> torch.Tensor:
        step = next(steps)
        if step == at or (ever and step > at):
            if memory:
                raise torch.OutOfMemoryError("CUDA out of memory (injected)")
            return loss.d_loss(*logits) * torch.nan
        return loss.d_loss(*logits)

    losses.LOSSES["non-saturating"] = loss._replace(d_loss=d_loss)


def on_a_full_disk(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """A disk on which another process takes the room away while the run goes on."""
    with small_disk(run, megabytes=DISK_MB) as disk:
        inside, other, said = disk / "run", disk / "another", run.with_name(f"{run.name}.said")
        job = bench.config(inside, images=IMAGES_SEEN)
        for process in at_random(lambda: start(job, said=said), inside, outcome, rng, bench.took):
            free = shutil.disk_usage(disk).free
            with contextlib.suppress(KitError):
                reserve_disk(other, max(free - rng.randrange(1, 300_000), 0))
            process.join()
            outcome.refused = process.exitcode == 1 and not (inside / RECORD).exists()
            outcome.promise(process.exitcode == 0 or outcome.refused, f"exit code {process.exitcode}")
        if not outcome.refused:
            look(bench, inside, outcome, ended=True)
        other.unlink(missing_ok=True)
        if outcome.refused or read_run(inside).state == "stopped":
            resume(bench, inside, outcome, like=bench.like, images=IMAGES_SEEN)
        else:
            same_bytes(bench, inside, outcome, like=bench.like)
        if outcome.broken:
            shutil.copytree(disk, run.with_name(f"{run.name}-kept"))


@contextlib.contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Path]:
    """A disk of its own."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def may_mount() -> bool:
    """Whether small disks can be had here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", megabytes=1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def on_a_busy_machine(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """A budget of 30 s to 3 min (short ones more often) while another process takes a core away."""
    seconds = round(math.exp(rng.uniform(math.log(30), math.log(180))))
    with taken(rng.random()):
        command(bench, run, outcome, seconds=seconds, count=bench.count)


def in_full(bench: Bench, run: Path, outcome: Outcome, rng: random.Random) -> None:
    """Three minutes and 10,000 pictures."""
    command(bench, run, outcome, seconds=180, count=DOGS.count)


def command(bench: Bench, run: Path, outcome: Outcome, *, seconds: int, count: int) -> None:
    """`kit train --budget` as a user types it."""
    words = [sys.executable, "-m", "kit", "train", "--model", "dcgan", "--data", str(bench.data), "--out", str(run)]
    words += ["--budget", f"{seconds}s", "--count", str(count)]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    over = time.monotonic() - began - seconds
    if done.returncode == 1 and "is too small to generate" in done.stderr:
        outcome.refused = True
        return
    if not outcome.promise(done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-300:]}"):
        return
    look(replace(bench, count=count), run, outcome, ended=True)
    outcome.over_s = over
    outcome.promise(over <= 0, f"{over:.1f} s over its {seconds} s")
    record = read_run(run)
    training = sum(part.seconds for part in record.parts) - (record.seconds.finishing if record.seconds else 0.0)
    training -= record.plans[0].started_s + sum(made.seconds for made in record.interim_zips)
    outcome.share = training / seconds


@contextlib.contextmanager
def taken(seed: float) -> Iterator[None]:
    """A process beside this one that uses a core for a while, and then not, again and again."""
    other = FORK.Process(target=hog, args=(seed,), daemon=True)
    other.start()
    try:
        yield
    finally:
        other.kill()
        other.join()


def hog(seed: float) -> None:
    """Computes for up to ten seconds, rests for up to ten."""
    rng = random.Random(seed)
    while True:
        until = time.monotonic() + rng.uniform(0, 10)
        while time.monotonic() < until:
            sum(range(10_000))
        time.sleep(rng.uniform(0, 10))


@dataclass(frozen=True)
class Fault:
    """Something that happens to runs."""

    name: str
    happens: Callable[[Bench, Path, Outcome, random.Random], None]
    times: int


FAULTS = {
    "kills": Fault("SIGKILL", killed, 70),
    "budget-kills": Fault("SIGKILL within a budget", killed_in_a_budget, 30),
    "terms": Fault("SIGTERM", told_to_stop, 50),
    "breaks": Fault("out of memory, NaN", broken, 20),
    "disks": Fault("a disk that fills up", on_a_full_disk, 20),
    "budgets": Fault("budgets on a busy machine", on_a_busy_machine, 30),
    "full": Fault("3 min, 10,000 pictures", in_full, 2),
}


# ---- the bench


def embedded_set(folder: Path) -> Path:
    """The embedded set at 16×16."""
    from kit import demo
    from kit.data.prepare import prepare

    drawn = demo.draw(folder / "drawn", seed=0)
    return prepare(drawn, competition=DOGS, out=folder / "set", size=16).path


def make_ready(folder: Path, data: Path, count: int) -> Bench:
    """Makes an uninterrupted run, twice: the first one is also a warm-up."""
    for name in ("warm-up", "reference"):
        began = time.monotonic()
        finish(small_job(data, folder / name, count=count, images=IMAGES_SEEN))
        took = time.monotonic() - began
    print(f"an uninterrupted run takes {took:.1f} s here", flush=True)
    like = _sha256(read_run(folder / "reference"))
    return Bench(folder, data, count, like, took, provenance.source_tree().digest[:12])


def one_run(bench: Bench, log: Path, key: str, *, seed: int, number: int) -> bool:
    """Makes one run and notes what came of it; false, and the run is kept, if a promise was broken."""
    run = bench.folder / f"{key}-{seed}-{number:03d}"
    outcome = Outcome(key, seed, number, tree=bench.tree)
    began = time.monotonic()
    FAULTS[key].happens(bench, run, outcome, random.Random(f"{seed}/{key}/{number}"))
    outcome.wall_s = round(time.monotonic() - began, 2)
    fault_log.append(log, outcome)
    if outcome.broken:
        print(f"{run}: {'; '.join(outcome.broken)}", flush=True)
        return False
    shutil.rmtree(run, ignore_errors=True)
    run.with_name(f"{run.name}.said").unlink(missing_ok=True)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, fault in FAULTS.items():
        parser.add_argument(f"--{key}", type=int, default=fault.times, metavar="N", help=f"{fault.name}: so many runs")
    parser.add_argument("--kinds", default=",".join(FAULTS), help="these alone, with commas between")
    parser.add_argument("--out", type=Path, default=Path("faults.jsonl"), help="the log")
    parser.add_argument("--table", type=Path, nargs="+", metavar="LOG", help="print the table of logs, and do nothing")
    parser.add_argument("--count", type=int, default=256, help="pictures in a zip")
    parser.add_argument("--data", type=Path, help="a prepared set; default: the embedded one at 16×16")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args(arguments)
    names = {key: fault.name for key, fault in FAULTS.items()}
    if asked.table:
        print(fault_log.table(fault_log.read(asked.table), names))
        return 0
    kinds = asked.kinds.split(",")
    if unknown := set(kinds) - set(FAULTS):
        parser.error(f"--kinds: {', '.join(sorted(unknown))}: not among {', '.join(FAULTS)}")
    there = set()
    if asked.out.exists():
        there = {(one.fault, one.number) for one in fault_log.read([asked.out]) if one.seed == asked.seed}
    wanted = {key: getattr(asked, key.replace("-", "_")) if key in kinds else 0 for key in FAULTS}
    if wanted["disks"] and not may_mount():
        print("disks are left out: to mount small ones takes root", flush=True)
        wanted["disks"] = 0
    todo = [(key, n) for key, times in wanted.items() for n in range(times) if (key, n) not in there]
    if todo:
        folder = Path(tempfile.mkdtemp(prefix="kit-faults-"))
        bench = make_ready(folder, asked.data or embedded_set(folder), asked.count)
        whole = [one_run(bench, asked.out, key, seed=asked.seed, number=number) for key, number in todo]
        if all(whole):
            shutil.rmtree(folder)
    outcomes = [one for one in fault_log.read([asked.out]) if one.fault in kinds]
    print(f"\n{fault_log.table(outcomes, names)}")
    return 1 if any(one.broken for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
