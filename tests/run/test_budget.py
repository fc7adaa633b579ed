"""The plan of a budget, and when it says stop."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import time

import pytest

from kit.core import clock
from kit.core.errors import KitError
from kit.run import budget
from kit.training.run_record import PlanRecord


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


@pytest.mark.parametrize("seconds", [1, 59, 60, 61, 3600, 3661, 32400, 86400])
def test_shown_durations_read_back(seconds):
    assert clock.parse_duration(clock.show_duration(seconds)) == seconds


def test_the_process_is_as_old_as_its_interpreter():
    began = time.monotonic()
    code = "import time; time.sleep(0.3); from kit.core import clock; print(clock.process_age())"
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    elapsed = time.monotonic() - began
    # On Linux imports and the sleep count; the kernel's ticks and uptime are hundredths of a second.
    assert (0.28 if sys.platform == "linux" else 0) <= age <= elapsed + 0.05


@pytest.mark.parametrize(
    "write", [str, lambda moment: time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))], ids=["seconds", "ISO"]
)
def test_a_clock_that_began_before_the_process(write):
    watch = clock.Stopwatch(clock.parse_moment(write(time.time() - 100)))
    assert 99 <= watch.seconds() < 160
    assert watch.started_at == pytest.approx(time.time() - 100, abs=60)


def plan_of(**changes):
    plan = PlanRecord(at=0, budget_s=300, started_s=10, reserve_s=30, total_images=1, spare_s=budget.SPARE_S)
    return dataclasses.replace(plan, **changes)


def test_a_plan_keeps_back_what_finishing_costs():
    artifacts_s = 8.0
    reserve = budget.reserve(2.0, trial=100, count=1000) + artifacts_s
    assert reserve > 26
    plan = plan_of(reserve_s=reserve, artifacts_s=artifacts_s)
    assert plan.deadline_s == pytest.approx(300 - reserve)
    assert budget.finish_seconds(plan) == pytest.approx(20)


def test_a_lucky_trial_does_not_shrink_the_reserve_below_what_a_whole_zip_took():
    quiet = budget.reserve(0.1, trial=100, count=1000)  # 1 s for all of them
    assert quiet == pytest.approx(budget.MARGIN * 1 + budget.SPARE_S)
    assert budget.reserve(0.1, trial=100, count=1000, whole_s=25) == pytest.approx(25 + budget.SPARE_S)
    assert budget.reserve(3.0, trial=100, count=1000, whole_s=25) == pytest.approx(30 * budget.MARGIN + budget.SPARE_S)


def test_what_is_paid_once_does_not_grow_with_the_count():
    def kept(count):
        return budget.reserve(1.0, trial=100, count=count, once_s=6.0) - budget.SPARE_S

    assert kept(2000) - kept(1000) == pytest.approx(kept(1000) - 6.0 * budget.MARGIN)


def test_what_is_set_aside_grows_with_what_the_start_took():
    assert [budget.spare(start_s) for start_s in (0, 5, 48, 3600)] == [4, 4, pytest.approx(7.2), 20]
    kept = [budget.reserve(1.0, trial=100, count=100, spare_s=spare_s) for spare_s in (4, 7)]
    assert kept[1] - kept[0] == pytest.approx(3)
    assert budget.finish_seconds(plan_of(reserve_s=kept[1], spare_s=7)) == pytest.approx(1)


def test_a_machine_that_slows_down_stops_earlier_and_only_so_much():
    plan = plan_of(reserve_s=30, rate=100)
    assert budget.deadline(plan, 100) == budget.deadline(plan, 1000) == plan.deadline_s == 270
    assert budget.deadline(plan, 50) == 240
    assert budget.deadline(plan, 1) == budget.deadline(plan, 0) == 300 - budget.SLOWEST * 30
    assert budget.deadline(plan_of(reserve_s=30), 0) == 270


def test_a_budget_too_small_says_what_is_needed():
    with pytest.raises(KitError, match=r"budget of 20s.*10,000 pictures.*about 36s"):
        budget.require_enough(20, started_s=5, reserve_s=30, count=10_000)
    budget.require_enough(36, started_s=5, reserve_s=30, count=10_000)


def simulate(budget_s, cost_s, *, tick_s=1.0):
    """When zips are taken, by a run that ticks every second and whose zips take `cost_s`."""
    zips, now, taken = budget.InterimZipTimes(budget_s), 10.0, []
    while now < budget_s - 2 * cost_s:
        if zips.due(now, cost_s=cost_s):
            now += cost_s
            zips.took(now, cost_s=cost_s)
            taken.append(now)
        now += tick_s
    return taken


def test_a_cheap_interim_zip_is_taken_at_once_and_a_dear_one_after_a_tenth():
    assert simulate(1000, 20)[0] == pytest.approx(30)
    assert simulate(1000, 50)[0] == pytest.approx(150, abs=1)


@pytest.mark.parametrize(("budget_s", "cost_s"), [(180, 15), (600, 20), (32_400, 20), (32_400, 120)])
def test_interim_zips_grow_apart_and_stay_cheap(budget_s, cost_s):
    taken = simulate(budget_s, cost_s)
    assert taken
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(taken))
    # The first has to be there; all after it keep the sum below the share.
    assert len(taken) * cost_s <= max(budget.INTERIM_SHARE * budget_s, cost_s)


def test_nine_hours_are_spent_training():
    """The plan of a kernel's session whose 10,000 pictures take 20 s to finish: at least 97 % of it is training."""
    reserve = budget.reserve(20 * 256 / 10_000, trial=256, count=10_000)
    zips = sum(20 for _ in simulate(32_400, 20, tick_s=120))
    assert (32_400 - 30 - reserve - zips) / 32_400 >= 0.97


@pytest.mark.parametrize("budget_s", [30.0, 60.0, 180.0, 600.0, 5400.0, 32_400.0, None])
def test_no_more_than_a_checkpoint_interval_is_lost(budget_s):
    """5 % of the budget, 60 s at most, between two checkpoints; each tick takes 5 % longer than it should."""
    tick_s = budget.tick_seconds(budget_s)
    allowed_s = min(0.05 * budget_s, 60) if budget_s else 60
    save, saved, now = budget.Every(budget.checkpoint_seconds(budget_s), now=0.0, until_next_s=tick_s), [0.0], 0.0
    while now < 20 * allowed_s:
        now += 1.05 * tick_s
        if save.due(now):
            saved.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(saved)]
    assert len(gaps) > 10
    assert max(gaps) <= 1.05 * allowed_s + 1e-9


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
