"""TensorBoard event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import pytest

import kit.run
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.models import registry
from kit.report import tensorboard
from kit.report.run_data import grids
from kit.report.tensorboard import EventFiles
from kit.training.run_folder import read_run
from kit.training.run_record import TickRecord

pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install kit[tensorboard]")


class Callback:
    def __init__(self):
        self.heard = []

    def on_plan(self, record):
        self.heard.append("planned")

    def on_tick(self, tick):
        self.heard.append("ticked")

    def happened(self, text):
        self.heard.append("happened")

    def on_progress(self, stage, done, total):
        self.heard.append("finishing")


def test_every_number_and_every_grid_of_a_run_is_there(make_set, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prepared = make_set(tmp_path / "set", n=16, size=16)
    job = kit.run.RunConfig(
        recipe=registry.get("dcgan").override(["width=4", "batch=4"]),
        data=prepared.path,
        out=tmp_path / "run",
        images=16,
        count=4,
    )
    callback = Callback()
    with EventFiles(job.out, callback) as files:
        run = kit.run.train(job, clock=Stopwatch(), callback=files)
    assert {"planned", "ticked", "finishing"} <= set(callback.heard)
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    (line,) = [json.loads(text) for text in (run.path / "progress.jsonl").read_text().splitlines()]
    for column, tag in tensorboard.TAGS.items():
        (event,) = found.Scalars(tag)
        assert (event.step, event.value) == (16, pytest.approx(line[column], rel=1e-6))
    assert found.Scalars("run/pictures_per_s")[0].step == 16
    assert [event.step for event in found.Images("samples")] == [grid.pictures for grid in grids(run.path)] == [0, 16]


def test_a_number_that_is_none_is_no_event(make_run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run(tmp_path / "run", ticks=1)
    with EventFiles(run, Callback()) as files:
        files.on_plan(dataclasses.replace(read_run(run), pictures=0))
        files.on_tick(TickRecord(pictures=100, seconds=9.0, loss_g=1.0, alarms=["all alike"]))
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["run/seconds", "loss/G"]


def test_without_tensorboard_it_is_said_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KitError, match=r"kit\[tensorboard\]"):
        tensorboard.require()
