"""The plan of a budget, and when it says stop."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from kit import clock
from kit.errors import KitError
from kit.training import budget


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("9h", 32400), ("1h30m", 5400), ("90s", 90), ("45", 45), ("3m", 180), ("1.5h", 5400), ("1H2M3S", 3723)],
)
def test_durations(text, seconds):
    assert clock.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "9x", "1m1h", "-3m", "0", "0s", "nine hours", "nan", "inf"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(KitError, match="no duration|no time at all") as raised:
        clock.parse_duration(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("seconds", [1, 59, 60, 61, 3600, 3661, 32400, 86400])
def test_shown_durations_read_back(seconds):
    assert clock.parse_duration(clock.show_duration(seconds)) == seconds


def test_the_process_is_as_old_as_its_interpreter():
    began = time.monotonic()
    code = "import time; time.sleep(0.3); from kit import clock; print(clock.process_age())"
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    elapsed = time.monotonic() - began
    # On Linux imports and the sleep count; the kernel's ticks and uptime are hundredths of a second.
    assert (0.28 if sys.platform == "linux" else 0) <= age <= elapsed + 0.05


def test_a_plan_keeps_back_what_finishing_costs():
    reserve = budget.reserve(2.0, trial=100, count=1000)
    assert reserve > 20
    planned = budget.plan(300, started_s=10, reserve_s=reserve, count=1000)
    assert planned.deadline_s == pytest.approx(300 - reserve)


def test_a_budget_too_small_says_what_is_needed():
    with pytest.raises(KitError, match=r"budget of 20s.*10,000 pictures.*about 36s"):
        budget.plan(20, started_s=5, reserve_s=30, count=10_000)


def test_the_pace_stops_at_the_deadline_or_after_the_pictures():
    now = FakeClock()
    pace = budget.Pace(now, deadline_s=10, pictures=None, tick_s=3)
    assert not pace.done(10**9)
    now.now = 10
    assert pace.done(0)
    pace = budget.Pace(now, deadline_s=None, pictures=64, tick_s=3)
    assert [pace.done(n) for n in (0, 63, 64, 65)] == [False, False, True, True]
    assert budget.Pace(now, deadline_s=None, pictures=0, tick_s=3).done(0)


def test_ticks_come_at_their_interval():
    now = FakeClock()
    pace = budget.Pace(now, deadline_s=None, pictures=None, tick_s=3)
    due = []
    for second in range(10):
        now.now = second
        due.append(pace.tick_due(0))
    assert [second for second, is_due in enumerate(due) if is_due] == [3, 6, 9]
