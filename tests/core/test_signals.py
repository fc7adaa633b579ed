"""Signals end a process in order, and its children with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kit.core.signals import Stop

UNWIND = """
import sys, time
from kit.core.signals import exit_on_signals
with exit_on_signals():
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("cleared up", flush=True)
"""

PARENT = """
import os, sys, time
from kit.core.signals import exit_with_parent
if os.fork():
    time.sleep(600)
exit_with_parent()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def start(script: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.abuse("B9")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_that_is_told_to_end_clears_up(name: str) -> None:
    number = getattr(signal, name)
    process, _ = start(UNWIND)
    process.send_signal(number)
    said, _ = process.communicate()
    assert (said, process.returncode) == ("cleared up\n", 128 + number)


@pytest.mark.abuse("B9")
def test_a_child_does_not_outlive_its_parent() -> None:
    process, _ = start(PARENT)
    process.kill()
    process.communicate()  # it returns once the child, too, has ended and closed its end


@pytest.mark.parametrize(("number", "at_once"), [(signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, True)])
def test_training_is_asked_and_goes_on_to_its_next_step(number: signal.Signals, at_once: bool) -> None:
    with Stop() as stop:
        os.kill(os.getpid(), number)
        assert (stop.signal, stop.at_once) == (number, at_once)
        assert stop.why is not None


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)
