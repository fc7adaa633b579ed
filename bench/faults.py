"""Does a run keep its promises whatever happens to it?

    python bench/faults.py [--kills 100] [--budget-kills 20] [--terms 50] [--breaks 20] [--disks 20]
                           [--budgets 30] [--full 2] [--count 256] [--data FOLDER] [--seed 0]

Runs of a small model on the embedded set are killed, told to stop, robbed of memory, given a NaN, or put on a disk
that fills up, each at a moment drawn at random; then what lies on the disk is looked at, and the run is resumed. A
resumed run is compared with one that was never interrupted; one with a budget, whose length depends on the clock, with
its replay. Short runs tick and save every tenth of a second, as a run of hours does every minute, and are forked from a
process that has torch loaded. The runs of `--budgets` (30 s to 3 min) and `--full` (3 min, 10,000 pictures) are the
command itself, as a user starts it; beside those of `--budgets`, another process takes a core away at random.

`--disks` takes root, as it mounts small disks. The exit code is 1 if any promise was broken; such runs are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forked processes must not inherit threads that are not there

import torch

from kit import pipeline
from kit.clock import Stopwatch
from kit.competition import COMPETITIONS
from kit.errors import KitError
from kit.files import set_aside
from kit.generation.check import check
from kit.models.zoo import ZOO
from kit.runs import CHECKPOINT, IMAGES, RECORD, read_run
from kit.training import budget, checkpoint, losses, session

SETTINGS = ["width=4", "latent=8", "batch=8"]
IMAGES_SEEN = 480
TICK_S = 0.1
SHORT_BUDGET_S = 12.0
GONE_S = 10.0
"""After SIGTERM a process with a zip is gone within so many seconds."""

FORK = multiprocessing.get_context("fork")


class Silent:
    """A listener that says nothing."""

    def planned(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def ticked(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def happened(self, text: str) -> None:
        """Nothing."""

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Nothing."""


@dataclass
class Tally:
    """What came of the runs of one fault."""

    runs: int = 0
    refused: int = 0  # budgets too small for the machine as it was, which is said before anything is done
    zips: list[bool] = field(default_factory=list)  # of the zips that there were: valid?
    checkpoints: list[bool] = field(default_factory=list)  # loadable?
    identical: list[bool] = field(default_factory=list)  # resumed runs: the bytes of the uninterrupted one?
    above_zero: list[bool] = field(default_factory=list)  # resumed runs: did they go on where there was something?
    seconds: list[float] = field(
        default_factory=list
    )  # until the process was gone, or over the budget (below 0: under)
    shares: list[float] = field(default_factory=list)  # of the budget that was spent training
    broken: list[str] = field(default_factory=list)

    def promise(self, kept: bool, what: str, run: Path) -> bool:
        """Notes a promise that was not kept."""
        if not kept:
            self.broken.append(f"{run}: {what}")
        return kept


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    folder: Path
    data: Path
    count: int
    random: random.Random

    def job(self, out: Path, **wanted: Any) -> pipeline.Job:
        """A small run."""
        recipe = ZOO["dcgan"].recipe.override(SETTINGS)
        return pipeline.Job(recipe=recipe, data=self.data, out=out, count=self.count, **wanted)


# ---- runs in processes of their own


def work(job: pipeline.Job, before: Callable[[], None] | None) -> None:
    """A run, in a forked process."""
    budget.tick_seconds = lambda _: TICK_S
    budget.checkpoint_seconds = lambda _: TICK_S
    session.CALIBRATION_S = TICK_S
    if before:
        before()
    sys.stderr = open(job.out.parent / f"{job.out.name}.said", "a")  # noqa: PTH123, SIM115
    try:
        pipeline.train(job, clock=Stopwatch(time.time()), listener=Silent())
    except KitError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def start(job: pipeline.Job, before: Callable[[], None] | None = None) -> Any:
    """Starts a run."""
    process = FORK.Process(target=work, args=(job, before))
    process.start()
    return process


def finish(job: pipeline.Job) -> int:
    """Runs to the end."""
    process = start(job)
    process.join()
    return int(process.exitcode)


def look(bench: Bench, run: Path, tally: Tally, *, zip_due: bool) -> None:
    """Checks what lies on the disk."""
    if (run / IMAGES).exists() or zip_due:
        try:
            valid = check(run / IMAGES, competition=COMPETITIONS["generative-dog-images"], count=bench.count).ok
        except KitError:
            valid = False
        tally.zips.append(tally.promise(valid, "no valid zip", run))
    if (run / CHECKPOINT).exists() or zip_due:
        try:
            checkpoint.load_generator(run / CHECKPOINT)
            loadable = True
        except KitError:
            loadable = False
        tally.checkpoints.append(tally.promise(loadable, "no loadable checkpoint", run))


def seen(run: Path) -> int:
    """Pictures in a run's checkpoint."""
    if not (run / CHECKPOINT).exists():
        return 0
    return int(torch.load(run / CHECKPOINT, weights_only=True)["pictures"])


def resume(bench: Bench, run: Path, tally: Tally, *, like: str | None, **wanted: Any) -> None:
    """Goes on with a run and compares its bytes with those of an uninterrupted one, or with its replay."""
    at = seen(run)
    over = (run / RECORD).exists() and read_run(run)["state"] == "finished"  # the moment came too late
    code = finish(bench.job(run, resume=True, **wanted))
    record = read_run(run) if (run / RECORD).exists() else {}
    if not tally.promise(code == 0 and record.get("state") == "finished", "could not go on to its end", run):
        return
    if not over:
        tally.above_zero.append(at > 0)
        tally.promise(record["parts"][-1]["from"] == at, "began again", run)
    same_bytes(bench, run, tally, like=like)


def same_bytes(bench: Bench, run: Path, tally: Tally, *, like: str | None) -> None:
    """Compares a run with an uninterrupted one, or with its replay."""
    record = read_run(run)
    if like is None:
        again = bench.folder / f"{run.name}-again"
        code = finish_replay(record, bench.data, again)
        like = read_run(again)["result"]["sha256"] if code == 0 else "no replay"
        shutil.rmtree(again, ignore_errors=True)
    tally.identical.append(tally.promise(record["result"]["sha256"] == like, "other bytes", run))


def replay(record: dict[str, Any], data: Path, out: Path) -> None:
    """A run made again, in a forked process."""
    pipeline.replay(record, data=data, out=out, clock=Stopwatch(time.time()), listener=Silent())


def finish_replay(record: dict[str, Any], data: Path, out: Path) -> int:
    """Makes a run again."""
    process = FORK.Process(target=replay, args=(record, data, out))
    process.start()
    process.join()
    return int(process.exitcode)


def reference(bench: Bench) -> tuple[str, float]:
    """The digest of an uninterrupted run, and how long it takes."""
    run = bench.folder / "reference"
    finish(bench.job(run, images=IMAGES_SEEN))
    began = time.monotonic()
    finish(bench.job(run.with_name("reference-again"), images=IMAGES_SEEN))
    took = time.monotonic() - began
    return read_run(run)["result"]["sha256"], took


# ---- what goes wrong


def killed(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """SIGKILL at any moment of a run of a fixed length."""
    process = start(bench.job(run, images=IMAGES_SEEN))
    time.sleep(bench.random.uniform(0, took))
    process.kill()
    process.join()
    look(bench, run, tally, zip_due=False)
    resume(bench, run, tally, like=like, images=IMAGES_SEEN)
    look(bench, run, tally, zip_due=True)


def killed_in_a_budget(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """SIGKILL at any moment of a run with a budget, which writes rescue zips."""
    process = start(bench.job(run, budget_s=SHORT_BUDGET_S))
    time.sleep(bench.random.uniform(0, SHORT_BUDGET_S))
    process.kill()
    process.join()
    look(bench, run, tally, zip_due=False)
    resume(bench, run, tally, like=None, budget_s=SHORT_BUDGET_S)
    look(bench, run, tally, zip_due=True)


def told_to_stop(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """SIGTERM at any moment once the run has begun."""
    process = start(bench.job(run, images=IMAGES_SEEN))
    while not (run / RECORD).exists() and process.is_alive():
        time.sleep(0.005)
    time.sleep(bench.random.uniform(0, took / 2))
    had_zip = (run / IMAGES).exists()
    began = time.monotonic()
    process.terminate()
    process.join()
    tally.seconds.append(time.monotonic() - began)
    tally.promise(not had_zip or tally.seconds[-1] < GONE_S, "stayed too long", run)
    tally.promise(process.exitcode == 0, f"exit code {process.exitcode}", run)
    look(bench, run, tally, zip_due=True)
    resume(bench, run, tally, like=like, images=IMAGES_SEEN)


def broken(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """Out of memory, or a loss that is no number, once or from then on."""
    at, memory, ever = bench.random.randrange(60), bench.random.random() < 0.5, bench.random.random() < 0.5
    process = start(bench.job(run, images=IMAGES_SEEN), lambda: spoil(at, memory=memory, ever=ever))
    process.join()
    tally.promise(process.exitcode == 0, f"exit code {process.exitcode}", run)
    look(bench, run, tally, zip_due=True)
    record = read_run(run)
    # What went on with smaller steps or in parts is another run than one that did not; its replay is the same.
    changed = bool(record["rollbacks"] or record["memory"])
    if record["state"] == "stopped":
        resume(bench, run, tally, like=None if changed else like, images=IMAGES_SEEN)
    else:
        same_bytes(bench, run, tally, like=None if changed else like)


def spoil(at: int, *, memory: bool, ever: bool) -> None:
    """Makes the critic's loss fail at a step, or from it on."""
    loss, steps = losses.LOSSES["non-saturating"], iter(range(10**9))

    def critic(*logits: Any) -> torch.Tensor:
        step = next(steps)
        if step == at or (ever and step > at):
            if memory:
                raise torch.OutOfMemoryError("CUDA out of memory (injected)")
            return loss.critic(*logits) * torch.nan
        return loss.critic(*logits)

    losses.LOSSES["non-saturating"] = loss._replace(critic=critic)


def on_a_full_disk(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """A disk on which another process takes the room away while the run goes on."""
    with small_disk(run.with_name(run.name + "-disk"), megabytes=32) as disk:
        inside = disk / "run"
        process = start(bench.job(inside, images=IMAGES_SEEN))
        while not (inside / RECORD).exists() and process.is_alive():
            time.sleep(0.005)
        time.sleep(bench.random.uniform(0, took / 2))
        free = shutil.disk_usage(disk).free
        with contextlib.suppress(KitError):
            set_aside(disk / "another", max(free - bench.random.randrange(1, 300_000), 0))
        process.join()
        tally.promise(process.exitcode == 0, f"exit code {process.exitcode}", run)
        look(bench, inside, tally, zip_due=True)
        (disk / "another").unlink(missing_ok=True)
        if read_run(inside)["state"] == "stopped":
            resume(bench, inside, tally, like=like, images=IMAGES_SEEN)
        if tally.broken:
            shutil.copytree(inside, run, dirs_exist_ok=True)


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


def on_a_busy_machine(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """A budget of 30 s to 3 min while another process takes a core away."""
    budgeted(bench, run, tally, seconds=round(bench.random.uniform(30, 180)), busy=True)


def in_full(bench: Bench, run: Path, tally: Tally, like: str, took: float) -> None:
    """Three minutes and 10,000 pictures."""
    budgeted(
        Bench(bench.folder, bench.data, COMPETITIONS["generative-dog-images"].count, bench.random),
        run,
        tally,
        seconds=180,
        busy=False,
    )


def budgeted(bench: Bench, run: Path, tally: Tally, *, seconds: int, busy: bool) -> None:
    """`kit train --budget` as a user types it."""
    command = [sys.executable, "-m", "kit", "train", "--model", "dcgan", "--data", str(bench.data)]
    command += ["--budget", f"{seconds}s", "--count", str(bench.count), "--out", str(run)]
    command += [word for setting in SETTINGS for word in ("--set", setting)]
    with taken(bench.random.random()) if busy else contextlib.nullcontext():
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        over = time.monotonic() - began - seconds
    if done.returncode == 1 and "is too small to generate" in done.stderr:
        tally.refused += 1
        return
    if not tally.promise(done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-300:]}", run):
        return
    look(bench, run, tally, zip_due=True)
    tally.seconds.append(over)
    tally.promise(over <= 0, f"{over:.1f} s over its {seconds} s", run)
    record = read_run(run)
    training = sum(part["seconds"] for part in record["parts"]) - record["seconds"]["finishing"]
    training -= record["plans"][0]["started_s"] + sum(rescue["seconds"] for rescue in record["rescues"])
    tally.shares.append(training / seconds)


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


FAULTS: dict[str, tuple[str, Callable[[Bench, Path, Tally, str, float], None]]] = {
    "kills": ("SIGKILL", killed),
    "budget_kills": ("SIGKILL within a budget", killed_in_a_budget),
    "terms": ("SIGTERM", told_to_stop),
    "breaks": ("out of memory, NaN", broken),
    "disks": ("a disk that fills up", on_a_full_disk),
    "budgets": ("budgets on a busy machine", on_a_busy_machine),
    "full": ("3 min, 10,000 pictures", in_full),
}


# ---- the report


def embedded_set(folder: Path) -> Path:
    """The embedded set at 16×16."""
    from kit.data import synthetic
    from kit.data.prepare import prepare

    drawn = synthetic.draw(folder / "drawn", seed=0)
    return prepare(drawn, competition=COMPETITIONS["generative-dog-images"], out=folder / "set", size=16).path


def rate(values: list[bool]) -> str:
    """A share, with what it is of."""
    return f"{sum(values)}/{len(values)}" if values else "–"


def row(name: str, tally: Tally) -> str:
    """A line of the table."""
    slowest = f"{max(tally.seconds):.1f}" if tally.seconds else "–"
    share = f"{min(tally.shares):.0%}" if tally.shares else "–"
    runs = f"{tally.runs} ({tally.refused} refused)" if tally.refused else f"{tally.runs}"
    return (
        f"| {name} | {runs} | {rate(tally.zips)} | {rate(tally.checkpoints)} | {rate(tally.identical)} "
        f"| {rate(tally.above_zero)} | {slowest} | {share} | {len(tally.broken)} |"
    )


COLUMNS = ("fault", "runs", "zips valid", "checkpoints load", "same bytes again", "resumed above 0")
COLUMNS += ("longest, s", "least training", "broken")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def run(bench: Bench, wanted: dict[str, int]) -> dict[str, Tally]:
    """All faults, as often as wanted."""
    like, took = reference(bench)
    print(f"an uninterrupted run takes {took:.1f} s here\n\n{HEAD}", flush=True)
    tallies = {}
    for key, (name, fault) in FAULTS.items():
        tally = tallies[key] = Tally()
        if fault is on_a_full_disk and wanted[key] and not may_mount():
            print(f"{name}: left out, as mounting a small disk takes root", flush=True)
            continue
        for number in range(wanted[key]):
            run = bench.folder / f"{key}-{number:03d}"
            before = len(tally.broken)
            fault(bench, run, tally, like, took)
            tally.runs += 1
            if len(tally.broken) == before:
                shutil.rmtree(run, ignore_errors=True)
        if tally.runs:
            print(row(name, tally), flush=True)
    return tallies


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, default in zip(FAULTS, (100, 20, 50, 20, 20, 30, 2), strict=True):
        parser.add_argument(f"--{key.replace('_', '-')}", type=int, default=default, metavar="N", help=FAULTS[key][0])
    parser.add_argument("--count", type=int, default=256, help="pictures in a zip")
    parser.add_argument("--data", type=Path, help="a prepared set; default: the embedded one at 16×16")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="kit-faults-"))
    bench = Bench(folder, asked.data or embedded_set(folder), asked.count, random.Random(asked.seed))
    tallies = run(bench, {key: getattr(asked, key) for key in FAULTS})
    broken = [text for tally in tallies.values() for text in tally.broken]
    print(json.dumps(broken, indent=1) if broken else "\nno promise was broken")
    if not broken:
        shutil.rmtree(folder)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
