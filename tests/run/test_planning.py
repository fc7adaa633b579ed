"""When a plan is made anew: at fixed shares of the budget, and once the machine is too slow for it."""

from __future__ import annotations

import pytest
from run_helpers import Even

from kit.run import budget
from kit.run.planning import Corrections
from kit.run.trainer import Trainer
from kit.training import checkpoint
from kit.training.run_folder import read_run
from kit.training.run_record import PlanRecord


def drive(speeds, *, budget_s=1000.0, reserve_s=100.0, tick_s=10.0):
    """A machine that sees `speeds(now)` pictures a second; gives (seconds, plan in pictures) of each plan."""
    now, pictures = 0.0, 0
    plan = PlanRecord(
        at=0,
        budget_s=budget_s,
        started_s=0.0,
        reserve_s=reserve_s,
        total_images=round(speeds(0.0) * (budget_s - reserve_s)),
    )
    corrections, plans = Corrections(budget_s), [(now, plan.total_images)]
    corrections.begin(now, pictures)
    while now < plan.deadline_s:
        rate = speeds(now)
        now, pictures = now + tick_s, pictures + round(rate * tick_s)
        expected = corrections.look(plan, now, pictures, rate)
        if expected is not None:
            left = plan.deadline_s - now
            plan = PlanRecord(
                at=0,
                budget_s=budget_s,
                started_s=0.0,
                reserve_s=reserve_s,
                total_images=pictures + round(expected * left),
            )
            plans.append((now, plan.total_images))
            corrections.begin(now, pictures)
    return plans, pictures


def test_a_steady_machine_is_measured_three_times():
    plans, seen = drive(lambda now: 100.0)
    assert [now for now, _ in plans] == [0, 250, 500, 750]
    assert {pictures for _, pictures in plans} == {seen}


@pytest.mark.parametrize("slow_from", [260.0, 520.0, 760.0])
def test_a_machine_that_slows_down_is_given_a_smaller_plan_in_time(slow_from):
    plans, seen = drive(lambda now: 100.0 if now < slow_from else 30.0)
    assert plans[-1][1] == pytest.approx(seen, rel=0.1)
    others = [now for now, _ in plans if now not in (0, 250, 500, 750)]
    assert others
    assert others[0] - slow_from <= 120


def test_a_plan_is_not_made_anew_for_one_slow_tick():
    plans, _ = drive(lambda now: 10.0 if now == 300 else 100.0)
    assert [now for now, _ in plans] == [0, 250, 500, 750]


def test_without_a_budget_there_is_nothing_to_correct():
    plan = PlanRecord(at=0, budget_s=1000.0, started_s=0.0, reserve_s=100.0, total_images=10)
    assert Corrections(None).look(plan, 0.0, 0, 1.0) is None


def test_every_plan_is_in_the_record_before_a_checkpoint_is_trained_under_it(run_tiny, monkeypatch):
    """A machine that seemed ten times as fast when it was measured."""
    rate, save, saved = Trainer.rate, checkpoint.save, []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def noting(path, state, *rest):
        record = read_run(path.parent)
        saved.append((state.pictures, {plan.at for plan in record.plans}))
        save(path, state, *rest)

    monkeypatch.setattr(Trainer, "rate", lambda *args, **options: 10 * rate(*args, **options))
    monkeypatch.setattr(checkpoint, "save", noting)
    monkeypatch.setattr(budget, "tick_seconds", lambda _: 1.0)
    run = run_tiny(budget_s=30.0, settings=["schedule=linear"], clock=Even())
    plans = run.record.plans
    assert plans[1].at > 0
    assert plans[1].total_images < 0.9 * plans[0].total_images
    assert len(plans) > 2
    for pictures, known in saved:
        assert {plan.at for plan in plans if plan.at < pictures} <= known
