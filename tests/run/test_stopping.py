"""However training stops: a valid zip, a loadable checkpoint, and a run that can go on to the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from run_helpers import Clock, Even, Silent

import kit.run
from kit.competition import COMPETITIONS
from kit.core import provenance
from kit.core.errors import DiskFullError, KitError
from kit.generation.validate import check
from kit.models.registry import MODELS
from kit.run import budget, images_zip
from kit.run.context import DISK_RESERVE
from kit.run.images_zip import InterimZips
from kit.run.ticks import ENDS
from kit.training import checkpoint, losses
from kit.training.run_folder import read_run
from kit.training.run_record import InterimZip, MemoryChange

DOGS = COMPETITIONS["generative-dog-images"]


class Interrupting:
    """A callback that sends this process a real signal after some ticks."""

    def __init__(self, after: int, number: int = signal.SIGTERM) -> None:
        self.left, self.number = after, number

    def on_plan(self, record):
        pass

    def on_tick(self, tick):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)

    def on_progress(self, stage, done, total):
        pass


@pytest.fixture
def train(run_tiny, monkeypatch):
    """`run_tiny` with a tick and a checkpoint after every step."""
    monkeypatch.setattr(budget, "tick_seconds", lambda _: 0.001)
    monkeypatch.setattr(budget, "checkpoint_seconds", lambda _: 0.001)
    return run_tiny


def halved(at):
    """A batch in two steps of accumulation, from so many pictures on."""
    return MemoryChange(reached=at, resumed_at=at, accumulation_steps=2, offload_activations=False)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT"), (signal.SIGHUP, "SIGHUP")]
)
def test_a_signal_ends_a_run_in_order(train, number, name):
    run = train(images=10_000, callback=Interrupting(3, number))
    record = read_run(run.path)
    assert (record.state, record.signal) == ("stopped", name)
    assert record.pictures == 24
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    generator, *_, pictures = checkpoint.load_generator(run.path / "checkpoint.pt")
    assert pictures == 24
    assert checkpoint.weights_digest(generator) == record.result.weights_sha256
    assert not (run.path / DISK_RESERVE).exists()


def test_a_resumed_run_gives_the_bytes_of_the_uninterrupted_one(train):
    once = train(images=80, name="once")
    for part in range(3):
        twice = train(images=80, name="twice", resume=part > 0, callback=Interrupting(3))
    twice = train(images=80, name="twice", resume=True)
    assert [(part.start, part.stop) for part in twice.record.parts] == [(0, 24), (24, 48), (48, 72), (72, 80)]
    assert twice.record.state == "finished"
    for key in ("sha256", "pixels_sha256", "weights_sha256"):
        assert getattr(twice.record.result, key) == getattr(once.record.result, key)
    assert (twice.path / "images.zip").read_bytes() == (once.path / "images.zip").read_bytes()
    lines = [json.loads(line)["pictures"] for line in (twice.path / "progress.jsonl").read_text().splitlines()]
    assert lines == list(range(8, 81, 8))


def test_a_finished_run_is_left_as_it_is(train, caplog):
    run = train(images=16)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    callback = Interrupting(0)
    train(images=16, resume=True, callback=callback)
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert "finished already" in caplog.messages[0]


def test_without_a_run_or_a_checkpoint_resuming_starts_anew_and_says_so(train, caplog):
    callback = Interrupting(0)
    run = train(images=16, resume=True, callback=callback)
    assert "starts anew" in caplog.messages[0]
    run.record.state = "running"
    run.save()
    (run.path / "checkpoint.pt").unlink()
    again = train(images=16, resume=True, callback=callback)
    assert "no checkpoint yet" in caplog.messages[1]
    assert again.record.parts[-1].start == 0


@pytest.mark.parametrize(
    "left", [[], [".disk-reserve"], [".disk-reserve", "source.zip", ".run.json.0123456789ab.part"]]
)
def test_killed_before_there_was_a_record_it_starts_anew(train, tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_bytes(b"half")
    run = train(images=16, resume=True)
    assert (run.record.state, run.record.pictures) == ("finished", 16)
    assert not list(run.path.rglob(".*"))


def test_a_folder_of_something_else_is_no_run_to_go_on_with(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    with pytest.raises(KitError, match="name the folder of a run"):
        train(images=16, resume=True)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep me"


def test_another_run_is_refused_with_the_difference(train):
    run = train(images=80, callback=Interrupting(2))
    before = (run.path / "run.json").read_bytes()
    for change, says in (
        ({"settings": ["lr_g=1e-3"]}, rf"lr_g {MODELS['dcgan'].recipe.lr_g} → 0.001"),
        ({"seed": 5}, r"seed 0 → 5"),
        ({"images": 800}, r"images 80 → 800"),
        ({"count": 21}, r"count 20 → 21"),
    ):
        with pytest.raises(KitError, match=says):
            train(**{"images": 80, **change}, resume=True)
    assert (run.path / "run.json").read_bytes() == before


def test_another_set_or_version_is_refused_with_the_difference(train, make_set, tmp_path, monkeypatch):
    run = train(images=80, callback=Interrupting(2))
    digest = run.record.data.digest
    versions = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**versions, "torch": "9.9"})
    with pytest.raises(KitError, match=rf"torch {re.escape(versions['torch'])} → 9\.9"):
        train(images=80, resume=True)
    monkeypatch.undo()
    with pytest.raises(KitError, match="deterministic False → True"):
        train(images=80, resume=True, deterministic=True)
    shutil.rmtree(tmp_path / "set")
    make_set(tmp_path / "set", n=40, size=16)
    with pytest.raises(KitError, match=rf"data digest {digest[:12]} → [0-9a-f]{{12}}\)"):
        train(images=80, resume=True)


def breaking(monkeypatch, error, *, at):
    """Makes D's loss raise at its steps of these numbers, counted from 1 and over again after each error."""
    loss, calls, at = losses.LOSSES["non-saturating"], [], iter(at)
    following = [next(at)]

    def d_loss(*logits):
        calls.append(0)
        if len(calls) == following[0]:
            calls.clear()
            following[0] = next(at, None)
            raise error
        return loss.d_loss(*logits)

    monkeypatch.setitem(losses.LOSSES, "non-saturating", loss._replace(d_loss=d_loss))


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
]


@pytest.mark.parametrize("error", ERRORS)
def test_memory_that_ran_out_once_changes_nothing(train, monkeypatch, error):
    once = train(images=80, name="once")
    breaking(monkeypatch, error, at=[4])
    run = train(images=80)
    assert (run.record.state, run.record.memory) == ("finished", [])
    assert run.record.result.sha256 == once.record.result.sha256


def test_memory_that_runs_out_again_halves_what_is_computed_at_once_and_is_replayed(train, tmp_path, monkeypatch):
    breaking(monkeypatch, ERRORS[0], at=[4, 3])
    run = train(images=80)
    monkeypatch.undo()
    assert run.record.memory == [halved(at=40)]
    assert (run.record.state, run.record.pictures) == ("finished", 80)
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result.sha256 == run.record.result.sha256


def test_out_of_memory_for_good_ends_in_order_and_can_go_on(train, monkeypatch):
    once = train(images=80, name="once")
    breaking(monkeypatch, ERRORS[0], at=[4, *[1] * 99])
    run = train(images=80)
    assert (run.record.state, run.record.why) == ("stopped", "out of memory")
    assert [noted.accumulation_steps for noted in run.record.memory] == [2, 4]
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    monkeypatch.undo()
    resumed = train(images=80, resume=True)
    assert (resumed.record.state, resumed.record.parts[-1].start) == ("finished", 24)
    assert resumed.record.result.sha256 != once.record.result.sha256  # it goes on in parts


def test_too_little_memory_is_found_before_a_budget_is_spent(train, monkeypatch):
    breaking(monkeypatch, ERRORS[0], at=[1])
    run = train(budget_s=30.0, clock=Even())
    assert run.record.memory[0] == MemoryChange(
        reached=0, resumed_at=0, accumulation_steps=2, offload_activations=False
    )
    assert run.record.state == "finished"


def test_a_budget_takes_interim_zips_that_are_valid_and_is_replayed_without_a_clock(run_tiny, tmp_path, monkeypatch):
    seen = []
    look = InterimZips.write_if_due

    def looking(self):
        look(self)
        if self._context.run.record.interim_zips:
            seen.append(check(self._context.images, competition=DOGS, count=20).ok)

    monkeypatch.setattr(InterimZips, "write_if_due", looking)
    monkeypatch.setattr(budget, "tick_seconds", lambda _: 1.0)
    run = run_tiny(budget_s=30.0, name="budget", clock=Even())
    assert seen
    assert all(seen)
    assert len(run.record.plans) > 1  # it was corrected on the way
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result.sha256 == run.record.result.sha256


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_disk_ends_with_a_valid_zip(train, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        run = train(images=10**6, name="disk/run")
        assert "disk is full" in run.record.why
        assert check(run.path / "images.zip", competition=DOGS, count=20).ok
        checkpoint.load_generator(run.path / "checkpoint.pt")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_too_small_is_said_before_training(train, tmp_path, monkeypatch):

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(KitError, match=r"MB free and .* MB are needed"):
        train(images=8)


SCRIPT = """
import sys
import time
from pathlib import Path
import kit.run
from kit.core.clock import Stopwatch
from kit.models.registry import MODELS
from kit.run import budget
budget.tick_seconds = lambda _: 0.0
budget.checkpoint_seconds = lambda _: 0.0
sys.path.insert(0, sys.argv[1])
from run_helpers import Silent
class Waiting(Silent):
    left = int(sys.argv[2])
    def on_tick(self, tick):
        self.left -= 1
        if self.left == 0:
            time.sleep(3600)  # to be killed
recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
job = kit.run.RunConfig(recipe=recipe, data=Path("set"), out=Path("run"), images=160, count=20, resume=True)
kit.run.train(job, clock=Stopwatch(), callback=Waiting())
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(train, tmp_path):
    once = train(images=160, name="once")
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    for killed_at in (3, 11):  # ticks
        with subprocess.Popen([*command, str(killed_at + 5)], cwd=tmp_path) as process:
            progress = tmp_path / "run" / "progress.jsonl"
            while not (progress.exists() and progress.read_bytes().count(b"\n") >= killed_at):
                assert process.poll() is None
                time.sleep(0.002)
            process.kill()
        checkpoint.load_generator(tmp_path / "run" / "checkpoint.pt")
    run = train(images=160, resume=True)
    assert [part.start > 0 for part in run.record.parts] == [False, True, True]
    assert run.record.result.sha256 == once.record.result.sha256


@pytest.fixture
def often(run_tiny, monkeypatch):
    """`run_tiny` with a budget in which an interim zip is due at every tick."""
    monkeypatch.setattr(budget, "tick_seconds", lambda _: 1.0)
    monkeypatch.setattr(budget.InterimZipTimes, "due", lambda self, now_s, cost_s: True)

    def run(**job):
        return run_tiny(**{"budget_s": 30.0, "clock": Even(), **job})

    return run


def test_a_signal_is_not_kept_waiting_by_an_interim_zip_that_is_due(often):
    run = often(callback=Interrupting(3))
    assert (run.record.state, run.record.signal) == ("stopped", "SIGTERM")
    written = [zip.at for zip in run.record.interim_zips]
    assert len(written) == 2
    assert written[-1] == run.record.result.pictures < run.record.pictures


def test_a_signal_during_an_interim_zip_leaves_the_last_one(often, monkeypatch):
    """It comes while the second interim zip is packed."""
    seen = []
    deliver = images_zip.write

    def told_to_stop(context):
        seen.append(context.state.pictures)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        deliver(context)

    monkeypatch.setattr(images_zip, "write", told_to_stop)
    run = often()
    assert (run.record.state, run.record.signal) == ("stopped", "SIGTERM")
    assert [zip.at for zip in run.record.interim_zips] == [run.record.result.pictures] == seen[:1]
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok


def test_a_signal_while_a_resumed_run_is_measured_leaves_its_zip(often, monkeypatch):
    first = often(callback=Interrupting(3))
    trial = images_zip.time_trial

    def told_to_stop(context, count):
        os.kill(os.getpid(), signal.SIGTERM)
        trial(context, count)
        raise AssertionError("the trial went on")

    monkeypatch.setattr(images_zip, "time_trial", told_to_stop)
    run = often(resume=True)
    assert (run.record.state, run.record.signal) == ("stopped", "SIGTERM")
    assert run.record.pictures == first.record.pictures
    assert run.record.result == first.record.result


def at_the_end(monkeypatch, happens):
    """Lets something happen when the last zip is made."""
    deliver = images_zip.write
    monkeypatch.setattr(InterimZips, "write_if_due", written_once(InterimZips.write_if_due))

    def ended(context):
        if context.run.record.interim_zips:
            happens()
        deliver(context)

    monkeypatch.setattr(images_zip, "write", ended)


def written_once(look):
    return lambda self: None if self._context.run.record.interim_zips else look(self)


def test_a_signal_while_the_last_zip_is_made_leaves_the_one_that_is_there_and_the_run_can_go_on(often, monkeypatch):
    at_the_end(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = often()
    assert (run.record.state, run.record.why) == ("stopped", "told to stop (SIGTERM)")
    assert run.record.result.pictures == run.record.interim_zips[0].at < run.record.pictures


@pytest.mark.parametrize("error", [DiskFullError("images.zip: the disk is full"), *ERRORS[:1]])
def test_a_last_zip_that_cannot_be_made_leaves_the_one_that_is_there(often, monkeypatch, error):
    def fail():
        raise error

    at_the_end(monkeypatch, fail)
    run = often()
    assert run.record.state == "stopped"
    assert "disk is full" in run.record.why or "out of memory" in run.record.why
    assert run.record.result.pictures == run.record.interim_zips[0].at
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok


def test_interim_zips_of_earlier_parts_count(tmp_path):
    """A tenth of the budget had gone when the first part wrote a zip in 3 s: there is no time for another."""
    made = InterimZip(at=80, seconds=3.0, ended_s=13.0)
    context = SimpleNamespace(
        config=SimpleNamespace(budget_s=100.0),
        images=tmp_path / "images.zip",
        run=SimpleNamespace(record=SimpleNamespace(interim_zips=[made])),
    )
    assert InterimZips(context)._times.due(50.0, cost_s=1.0)
    context.images.touch()
    assert not InterimZips(context)._times.due(50.0, cost_s=1.0)


def test_a_disk_that_is_full_before_the_first_checkpoint_leaves_a_zip_all_the_same(train, monkeypatch):
    save, calls = checkpoint.save, []

    def full(path, *rest):
        calls.append(path)
        if len(calls) == 1:
            raise DiskFullError(f"{path}: the disk is full")
        save(path, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    run = train(images=80)
    assert (run.record.state, run.record.result.pictures) == ("stopped", 0)
    assert "disk is full" in run.record.why
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok
    monkeypatch.undo()
    assert train(images=80, resume=True).record.state == "finished"


def test_room_set_aside_by_a_part_that_was_killed_is_used_again(train, monkeypatch):

    run = train(images=80, callback=Interrupting(2))
    reserve = run.path / DISK_RESERVE
    reserve.write_bytes(b"room")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0 if reserve.exists() else 10**9))
    assert train(images=80, resume=True).record.state == "finished"


class Late(Even):
    """A clock that jumps to the end of the budget when told."""

    late_s = 0.0

    def seconds(self):
        return super().seconds() + self.late_s


def test_a_finish_that_takes_too_long_leaves_the_zip_that_is_there(run_tiny, monkeypatch):
    clock = Late()
    deliver = images_zip.write

    def slow(context):
        if context.run.record.interim_zips:
            clock.late_s = 1000.0  # while the last pictures are made, the machine stops for a quarter of an hour
        deliver(context)

    monkeypatch.setattr(images_zip, "write", slow)
    monkeypatch.setattr(budget, "tick_seconds", lambda _: 1.0)
    run = run_tiny(budget_s=30.0, clock=clock)
    record = read_run(run.path)
    assert record.state == "finished"
    assert record.result.pictures == record.interim_zips[0].at < record.pictures
    assert check(run.path / "images.zip", competition=DOGS, count=20).ok


def test_a_run_with_its_time_used_up_ends_with_what_it_has(train):
    run = train(budget_s=15.0, callback=Interrupting(3), name="used", clock=Even())
    before = read_run(run.path).result.sha256
    clock = Even()
    clock.add(60.0)
    run = train(budget_s=15.0, name="used", resume=True, clock=clock)
    record = read_run(run.path)
    assert (record.state, record.why) == ("finished", ENDS[1])
    assert record.result.sha256 == before
