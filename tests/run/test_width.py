"""The width that a budget chooses: from given speeds, in a real run, when that goes on, and when it is made again."""

from __future__ import annotations

import dataclasses
import json
import signal

import pytest
import torch
from run_helpers import Clock, Even, Silent

import kit.run
from kit.core.errors import KitError
from kit.models import ladders
from kit.models.registry import MODELS
from kit.run import processes, width
from kit.run.trainer import Trainer
from kit.training.run_folder import Run, read_run
from kit.training.run_record import WidthRecord, WidthTrial

NEEDS = [(16, 0), (32, 100_000), (48, 400_000), (64, 1_000_000)]


@pytest.mark.parametrize(
    ("sees", "chosen", "tried", "said"),
    [
        ({16: 50_000}, 16, [16], "width 16: 32 would see less than 50,000 pictures in this budget and needs 100,000"),
        ({16: 150_000, 32: 91_234}, 16, [16, 32], "32 would see 91,000 pictures in this budget and needs 100,000"),
        ({16: 390_000, 32: 250_000}, 32, [16, 32], "48 would see less than 390,000 pictures"),
        ({16: 2_000_000, 32: 900_000, 48: 500_000, 64: 90_000}, 48, [16, 64, 48], "64 would see 90,000 pictures in"),
        ({16: 9_000_000, 64: 1_000_000}, 64, [16, 64], "it would see 1 million pictures in this budget and needs 1 m"),
        ({16: 9_000_000, 48: 800_000, 64: None}, 48, [16, 64, 48], "width 48: 64 does not fit into the memory"),
        ({16: None}, 16, [16], "width 16: 32 does not fit into the memory"),
        ({16: 0}, 16, [16], "width 16: 32 needs 100,000 pictures"),
    ],
)
def test_the_widest_that_sees_as_many_pictures_as_it_needs(sees, chosen, tried, said):
    asked = []
    found, trials = width.choose(NEEDS, lambda number: asked.append(number) or sees[number])
    assert (found, asked) == (chosen, tried)
    assert trials == [WidthTrial(number, dict(NEEDS)[number], sees[number]) for number in tried]
    record = WidthRecord(chosen=found, budget_s=60.0, trials=trials)
    assert said in width.describe(record, dict(NEEDS))


@pytest.mark.parametrize("row", [row for row in MODELS.values() if row.ladder], ids=lambda row: row.name)
def test_every_ladder_of_the_table_goes_up_from_nothing(row):
    assert row.ladder[0].pictures == 0
    widths, pictures = zip(*((rung.width, rung.pictures) for rung in row.ladder), strict=True)
    assert list(widths) == sorted(set(widths))
    assert list(pictures) == sorted(set(pictures))
    assert [recipe for _, recipe in row.widths(["batch=8"])] == [
        row.override([f"width={rung.width}", *rung.settings, "batch=8"]) for rung in row.ladder
    ]
    assert row.widths(["batch=8", "width=20"]) == ()


def test_batch_and_learning_rates_go_along_with_a_width_unless_they_are_set():
    ladder = (ladders.Rung(16, 0), ladders.Rung(32, 1000, ("batch=16", "lr_g=1e-4")))
    row = dataclasses.replace(MODELS["dcgan"], ladder=ladder)
    (_, narrow), (needs, wide) = row.widths(["lr_g=3e-4"])
    assert (narrow.width, narrow.batch) == (16, row.recipe.batch)
    assert (needs, wide.width, wide.batch, wide.lr_g) == (1000, 32, 16, 3e-4)


LADDER = tuple(
    (needs, MODELS["dcgan"].recipe.override([f"width={width}", "latent=8", "batch=8"]))
    for width, needs in ((4, 0), (6, 2000), (8, 10_000))
)


@pytest.fixture
def machine(monkeypatch):
    """A machine on which wider networks are slower, and wide ones may not fit; gives what may be changed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rates: dict[int, float | BaseException] = {4: 3000.0, 6: 900.0, 8: 500.0}

    def rate(trainer, clock, **options):
        found = rates[trainer.recipe.width]
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(Trainer, "rate", rate)
    return rates


class Interrupting(Silent):
    """Sends the signal that ends a session, at the first tick."""

    def on_tick(self, tick):
        signal.raise_signal(signal.SIGTERM)


def test_the_width_of_a_budget_is_said_recorded_kept_and_made_again(run_tiny, machine, caplog, tmp_path):
    first = run_tiny(budget_s=12.0, ladder=LADDER, clock=Even(), callback=Interrupting())
    sees = {trial.width: trial.sees for trial in first.record.width.trials}
    assert list(sees) == [4, 8, 6]
    said = f"width 6: 8 would see {width._round(sees[8])} pictures in this budget and needs 10,000"
    assert [message for message in caplog.messages if message.startswith("width")] == [said]
    kept = json.loads((first.path / "run.json").read_text(encoding="utf-8"))
    assert (kept["state"], kept["recipe"]["width"], kept["width"]["chosen"]) == ("stopped", 6, 6)

    machine[8] = machine[6] = machine[4] = 1e6  # now the widest would be chosen
    run = run_tiny(budget_s=16.0, ladder=LADDER, clock=Even(), resume=True)
    assert "width 6 stays: it was chosen for a budget of 12s" in caplog.messages
    assert (run.record.state, run.record.recipe, run.record.budget_s) == ("finished", LADDER[1][1], 16.0)
    assert run.record.width == first.record.width

    machine.clear()  # nothing is measured again
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.recipe.width == 6
    assert again.record.result.sha256 == run.record.result.sha256


def test_a_run_of_a_given_width_does_not_go_on_as_one_that_chooses(run_tiny, machine, tmp_path):
    run_tiny(images=8, settings=["width=6"])
    record = read_run(tmp_path / "run")
    Run(tmp_path / "run", dataclasses.replace(record, state="stopped", images=None)).save()
    with pytest.raises(KitError, match="width 6 → 4"):
        run_tiny(budget_s=10.0, ladder=LADDER, resume=True)


def test_a_width_without_memory_gives_way_to_the_next_smaller(run_tiny, machine, caplog):
    machine.update({4: 1e6, 6: 1e6, 8: torch.OutOfMemoryError("CUDA out of memory (injected)")})
    run = run_tiny(budget_s=10.0, ladder=LADDER, clock=Even())
    assert (run.record.recipe.width, run.record.memory) == (6, [])
    assert any(message.startswith("width 8 does not fit into the memory of") for message in caplog.messages)
    assert "width 6: 8 does not fit into the memory" in caplog.messages


def test_processes_without_memory_begin_again_with_the_next_smaller_width(run_tiny, machine, tmp_path):
    """What the processes leave behind, and what those that follow make of it."""
    other = run_tiny(images=0, name="other").record
    trials = [WidthTrial(4, 0, 10_000), WidthTrial(8, 10_000, None)]
    left = dataclasses.replace(
        other,
        state="running",
        images=None,
        recipe=LADDER[2][1],
        parts=[dataclasses.replace(other.parts[0], seconds=0.5)],
        width=WidthRecord(chosen=None, budget_s=10.0, trials=trials),
        result=None,
    )
    (tmp_path / "run").mkdir()
    Run(tmp_path / "run", left).save()
    config = kit.run.RunConfig(
        recipe=LADDER[0][1], ladder=LADDER, data=tmp_path / "set", out=tmp_path / "run", budget_s=10.0, count=20
    )
    assert processes.reduce_memory(config, processes=2)
    assert read_run(tmp_path / "run") == left  # batches stay whole
    del machine[8], machine[4]  # both are known
    run = run_tiny(budget_s=10.0, ladder=LADDER, clock=Even(), resume=True)
    assert (run.record.recipe.width, run.record.width.chosen) == (6, 6)
    assert [trial.width for trial in run.record.width.trials] == [4, 8, 6]
