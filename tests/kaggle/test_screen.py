"""A kernel's ticks are told apart from what else it says, and shown now and then."""

from __future__ import annotations

import logging

import pytest
from run_tools import run_record

from kit.commands.workflow import KernelScreen
from kit.core.clock import Stopwatch
from kit.kaggle.kernel_log import TICK, KernelLog
from kit.training.run_record import PlanRecord, TickRecord

LINE = TickRecord(pictures=12_800, seconds=9.0, pictures_per_s=93.4, loss_d=0.7, loss_g=1.2, d_real=0.6, d_fake=0.4)
PLAN = PlanRecord(at=0, budget_s=3600.0, reserve_s=100.0, started_s=9.0, total_images=64_000)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a kernel writes: two lines of the plan, three ticks, the end."""
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [])  # the log replaces them
    log = KernelLog(Stopwatch())
    log.on_plan(run_record(plans=[PLAN], count=10_000))
    for _ in range(3):
        log.on_tick(LINE)
    log.on_progress("pictures", 10_000, 10_000)
    return capsys.readouterr().out.splitlines()


def test_a_tick_is_what_the_kernel_writes_at_a_tick(written: list[str]) -> None:
    assert [bool(TICK.match(line)) for line in written] == [False, False, True, True, True, False]


def test_the_rest_is_shown_and_of_ticks_one_a_minute(written: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with KernelScreen() as screen:
        for line in written:
            screen(line)
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = captured.err.splitlines()
    assert shown == [f"  {line}" for line in (*written[:3], written[5])]


def test_a_tick_without_finite_losses_is_written_and_what_happens_after_it_happens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [])
    after: list[bool] = []
    KernelLog(Stopwatch(), after_tick=lambda: after.append(True)).on_tick(TickRecord(pictures=640, seconds=9.0))
    assert TICK.match(capsys.readouterr().out)
    assert after == [True]


@pytest.mark.abuse("D14")
def test_a_kernels_log_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with KernelScreen() as screen:
        screen("\x1b]0;owned\x07 \x1b[31mred")
    assert capsys.readouterr().err == "  \\x1b]0;owned\\x07 \\x1b[31mred\n"
