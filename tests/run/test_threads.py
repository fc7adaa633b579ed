"""Threads of a training step: the fastest number here and now, on machines of given speeds and on a real busy one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_helpers import Clock, Even, Silent, steps_take

import kit.run
from kit.core import threads
from kit.core.threads import RETRY_S, ThreadTuner, fastest, numbers
from kit.generation.generate import generate
from kit.run import budget, images_zip
from kit.run.trainer import Trainer
from kit.training.run_folder import read_run


@pytest.fixture
def chosen_freely(monkeypatch):
    """No environment variable sets the number, and the machine offers two."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with threads.num_threads(2):
        yield


@pytest.fixture
def slow_clock(monkeypatch):
    """The clock of a machine on which a step takes a second."""
    clock = Even()
    steps_take(monkeypatch, clock, 1.0)
    return clock


@pytest.mark.parametrize(
    ("available", "tried"), [(1, [1]), (2, [2, 1]), (3, [3, 1]), (8, [8, 4, 1]), (64, [64, 32, 1])]
)
def test_all_half_and_one_are_tried(available, tried):
    assert numbers(available) == tried


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({2: 100, 1: 60}, 2),  # a quiet machine
        ({2: 17, 1: 106}, 1),  # beside one busy program, as measured
        ({2: 100, 1: 104}, 2),  # no difference that a second could show
        ({64: 40, 32: 90, 1: 20}, 32),
    ],
)
def test_the_fastest_is_taken(speeds, best):
    assert fastest(lambda number: speeds[number], max(speeds)) == (best, speeds[best])


def test_one_odd_moment_decides_nothing():
    """Beside a busy program two threads were seen to be fast for a moment, and one slow."""
    odd = {2: iter([110, 17, 17]), 1: iter([106, 20, 106])}
    assert fastest(lambda number: next(odd[number]), 2) == (1, 106)


@pytest.mark.parametrize(
    ("speeds", "seconds", "most_s", "measured"),
    [
        ({2: 9, 1: 5}, 1.0, 60.0, [2, 1, 2, 1, 2, 1]),
        ({2: 9, 1: 5}, 10.0, 15.0, [2, 1]),  # a slow model in a small budget: each number once
        ({8: 9, 4: 4, 1: 1}, 1.0, 60.0, [8, 4, 8, 4, 8, 4]),  # one thread is hopeless where half are slow
        ({8: 9, 4: 8, 1: 1}, 1.0, 60.0, [8, 4, 1, 8, 4, 1, 8, 4, 1]),
        ({1: 9}, 1.0, 60.0, [1]),
    ],
)
def test_the_trial_is_short(speeds, seconds, most_s, measured):
    seen = []

    def measure(number):
        seen.append(number)
        return speeds[number]

    fastest(measure, max(speeds), most_s=most_s, seconds=lambda: seconds * len(seen))
    assert seen == measured


def drive(speeds, *, begin, seconds=400, tick_s=3.0):
    """A run on a machine of which `speeds(now)` gives the pictures a second by the number of threads.

    Returns:
        (seconds, threads) of each change.
    """
    tuner = ThreadTuner(2, threads=begin, rate=speeds(0)[begin], now_s=0.0)
    now, changes = 0.0, []
    while now < seconds:
        now += tick_s
        others = tuner.to_try(now, speeds(now)[tuner.threads], left_s=seconds - now, batch=8)
        if others:
            now += len(others)
            if tuner.tried({number: speeds(now)[number] for number in others}, now):
                changes.append((now, tuner.threads))
    return changes


QUIET, BUSY = {2: 100.0, 1: 60.0}, {2: 17.0, 1: 55.0}


def test_a_machine_that_stays_as_it_is_keeps_its_number():
    assert drive(lambda now: QUIET, begin=2) == []
    assert drive(lambda now: BUSY, begin=1) == []


def test_the_number_follows_the_machine_there_and_back():
    changes = drive(lambda now: BUSY if 100 <= now < 200 else QUIET, begin=2)
    assert [number for _, number in changes] == [1, 2]
    assert changes[0][0] < 100 + 15  # after three slow ticks and a second
    assert 200 < changes[1][0] < 200 + 3 * RETRY_S


def test_nothing_is_tried_just_before_the_end():
    """A number that is ten times slower would take the time of the zip."""
    assert drive(lambda now: BUSY if now >= 380 else QUIET, begin=2) == []
    tuner = ThreadTuner(2, threads=1, rate=10.0, now_s=0.0)
    assert tuner.to_try(100.0, 10.0, left_s=30.0, batch=32) == []
    assert tuner.to_try(100.0, 10.0, left_s=300.0, batch=32) == [2]


def test_a_machine_that_is_slower_whatever_is_done_is_not_tried_at_every_tick():
    asked = []

    def speeds(now):
        asked.append(now)
        return {2: 30.0, 1: 20.0} if now > 50 else QUIET

    assert drive(speeds, begin=2) == []
    tries = len(asked) - 1 - 400 // 3
    assert tries < 5


def as_fast_as(monkeypatch, speeds):
    """Training with so many threads has these speeds, by what is measured."""

    def rate(self, clock, *, threads=None, seconds=1.0):
        return speeds[threads or torch.get_num_threads()]

    monkeypatch.setattr(Trainer, "rate", rate)


def test_a_budgeted_run_trains_with_the_fastest_number_and_is_replayed_with_it(
    run_tiny, tmp_path, monkeypatch, chosen_freely, slow_clock, caplog
):
    as_fast_as(monkeypatch, {2: 17.0, 1: 106.0})
    run = run_tiny(budget_s=30.0, clock=slow_clock)
    assert [(change.at, change.threads) for change in run.record.threads] == [(0, 1)]
    assert run.record.device.threads == 2
    assert run.record.plans[0].rate == 106.0
    assert any("1 of 2 threads" in text for text in caplog.messages)
    assert torch.get_num_threads() == 2
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result.sha256 == run.record.result.sha256


@pytest.mark.parametrize(("picture_s", "best"), [({2: 0.1, 1: 0.3}, 2), ({2: 0.3, 1: 0.1}, 1)])
def test_pictures_are_generated_with_the_number_that_the_reserve_was_measured_with(
    run_tiny, tmp_path, monkeypatch, chosen_freely, caplog, picture_s, best
):
    clock, sample, seen = Even(), generate, set()

    def generated(*arguments, **options):
        for batch in sample(*arguments, **options):
            number = torch.get_num_threads()
            if options["count"] == 20:  # not a grid
                clock.passes(picture_s[number] * len(batch))
                seen.add(number)
            yield batch

    as_fast_as(monkeypatch, {2: 100.0, 1: 60.0})
    monkeypatch.setattr(images_zip, "generate", generated)
    steps_take(monkeypatch, clock, 2.0)
    run = run_tiny(budget_s=60.0, clock=clock)
    assert seen == {1, 2}
    assert run.record.result.threads == best
    assert any("generated with 1 of 2 threads" in text for text in caplog.messages) == (best == 1)
    kept = budget.finish_seconds(run.record.plans[0])
    assert 20 * 0.1 <= kept < 20 * 0.3
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result == run.record.result


def test_a_run_of_given_pictures_keeps_its_number(run_tiny, monkeypatch, chosen_freely):
    as_fast_as(monkeypatch, {2: 17.0, 1: 106.0})
    record = run_tiny(images=8).record
    assert (record.threads, record.result.threads) == ([], 2)


def test_the_users_number_is_obeyed(run_tiny, monkeypatch, chosen_freely, slow_clock):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    as_fast_as(monkeypatch, {2: 17.0, 1: 106.0})
    record = run_tiny(budget_s=20.0, clock=slow_clock).record
    assert (record.threads, record.result.threads) == ([], 2)


def test_a_run_of_given_pictures_does_not_go_on_with_another_number(run_tiny, chosen_freely):
    run = run_tiny(images=16)
    record = read_run(run.path)
    record.state = "stopped"
    record.save(run.path / "run.json")
    with threads.num_threads(1), pytest.raises(kit.core.errors.KitError, match="threads 2 → 1"):
        run_tiny(images=16, resume=True)


def test_a_budgeted_run_goes_on_with_the_threads_of_another_machine_and_is_replayed(
    run_tiny, tmp_path, monkeypatch, chosen_freely, slow_clock
):
    as_fast_as(monkeypatch, {2: 100.0, 1: 60.0})
    run = run_tiny(budget_s=20.0, clock=slow_clock)
    record = read_run(run.path)
    record.state = "stopped"
    record.save(run.path / "run.json")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threads.num_threads(1):
        slow_clock.begin()
        run = run_tiny(budget_s=60.0, clock=slow_clock, resume=True)
    changes = [(change.at, change.threads) for change in run.record.threads]
    assert changes == [(0, 2), (record.pictures, 1)]
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result == run.record.result


@contextlib.contextmanager
def busy_program() -> Iterator[None]:
    """A niced process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "import os\nos.nice(10)\nwhile True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_beside_a_busy_program_a_run_is_resumed_and_replayed_to_the_byte(make_set, tmp_path):
    """The record, not the speed: two cores of which one is taken."""
    make_set(tmp_path / "set", n=32, size=16)
    variables = {**os.environ, "PYTHONPATH": str(Path(kit.__file__).parents[1])}
    environment = {name: value for name, value in variables.items() if name not in threads.VARIABLES}
    words = ["--set", "width=4", "--set", "latent=8", "--set", "batch=8", "--count", "12", "--out", "run"]
    command = [sys.executable, "-P", "-m", "kit", "train", "--model", "dcgan", "--data", "set", *words, "--budget"]
    with busy_program():
        for more in (["40s"], ["60s", "--resume"]):
            process = subprocess.Popen(
                [*command, *more], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
            )
            if more == ["40s"]:
                while not (tmp_path / "run" / "checkpoint.pt").exists():
                    assert process.poll() is None, process.stderr.read()
                process.terminate()
            _, said = process.communicate()
            assert process.returncode == 0, said
        record = read_run(tmp_path / "run")
        assert record.state == "finished"
        assert len(record.parts) == 2
        assert all(change.threads <= record.device.threads for change in record.threads)
        again = kit.run.replay(record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result.sha256 == record.result.sha256
