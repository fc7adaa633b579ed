"""What is shown of a run while it trains: in a terminal of any width, in a log, in a notebook."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import logging
import re
import sys
import types

import pytest
from rich.console import Console
from run_tools import run_record

import kit.run
from kit.core import console as consoles
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.models import registry
from kit.models.registry import MODELS
from kit.report import panel as panel_module
from kit.report.panel import Panel, ResizableLive, TensorBoard, TrainingScreen, sparkline
from kit.report.run_data import grids
from kit.training.run_folder import read_run
from kit.training.run_record import DataRecord, PlanRecord, TickRecord

PLAN = PlanRecord(at=0, budget_s=600.0, started_s=20.0, reserve_s=60.0, total_images=60_000)


class Clock(Stopwatch):
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def seconds(self) -> float:
        return self.now


def record(**changes):
    data = DataRecord(name=changes.pop("dogs", "dogs"), digest="d" * 64, size=64, channels=3)
    return run_record(**{"data": data, "count": 10_000, "plans": [PLAN], **changes})


def tick(pictures, **changes):
    line = {"pictures": pictures, "pictures_per_s": 120.0, "loss_d": 0.5, "loss_g": 2.25, "d_real": 0.8, "d_fake": 0.2}
    return TickRecord(**{"seconds": 1.0, **line, **changes})


class Tty(io.StringIO):
    def isatty(self):
        return True


def as_terminal(monkeypatch, file, **environment):
    """Makes a stream the stderr of a process with this environment."""
    for name in ("JPY_PARENT_PID", "MPLBACKEND", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", file)
    return file


def drawn(panel, width=100):
    console = Console(width=width, file=io.StringIO())
    with console.capture() as text:
        console.print(panel)
    return text.get()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0, 1], "▁█"),
        ([1, 1, 1], "▄▄▄"),
        ([0, 7, 3.5, 14], "▁▅▃█"),
        ([0, float("nan"), 1], "▁·█"),
        ([float("inf")], "·"),
    ],
)
def test_sparklines_are_as_high_as_their_values(values, line):
    assert sparkline(values) == line


def test_the_panel_says_how_far_it_is_and_what_is_kept_back():
    clock = Clock()
    panel = Panel(clock)
    assert "getting ready" in drawn(panel)
    panel.record = record()
    assert "before the first tick" in drawn(panel)
    for step in range(1, 4):
        clock.now = 20 + 70 * step
        panel.ticks.append(tick(8000 * step, loss_d=1 / step))
    text = drawn(panel, 160)
    assert "dcgan on dogs, seed 0, on a processor (float32, 2 threads)" in text
    assert "24,000 pictures seen, 5m10s left to train" in text  # 600 − 60 − 230
    assert re.search(r"loss D\s+0\.333\s+█▃▁", text)
    assert "20s used, 8m40s to train on about 60,000 pictures, 1m kept back" in text
    panel.progress = ("pictures", 2500, 10_000)
    assert "generating and packing: 2,500 of 10,000 pictures" in drawn(panel)


def test_without_a_budget_pictures_are_counted():
    panel = Panel(Clock())
    panel.record = record(images=1000, plans=[])
    panel.ticks.append(tick(400))
    assert "400 pictures seen, 5s left to train" in drawn(panel)
    assert "(40%)" in panel.line(tick(400, alarms=["all alike"]))
    assert panel.line(tick(400, alarms=["all alike"])).endswith("5s left  ! all alike")


def test_names_with_brackets_are_text(monkeypatch, capsys):
    consoles.print_table(["run"], [["[bold]run[/bold]"], ["[/]"]])
    with TrainingScreen(Clock(10)) as screen:
        screen.on_plan(record(dogs="[red]dogs[/blue]"))
    said = capsys.readouterr()
    assert said.out.split() == ["run", "[bold]run[/bold]", "[/]"]
    assert "[red]dogs[/blue]" in said.err


@pytest.mark.parametrize("width", [20, 79, 200])
def test_no_line_is_wider_than_the_terminal(width):
    panel = Panel(Clock(100))
    panel.record = record()
    for step in range(30):
        panel.ticks.append(tick(1000 * step, loss_g=float(step % 7), alarms=["a very long explanation " * 9]))
    assert all(len(line) <= width for line in drawn(panel, width).splitlines())


def test_piped_there_is_a_line_a_tick_and_no_control_code(monkeypatch, capsys):
    with TrainingScreen(Clock(10)) as screen:
        screen.on_plan(record())
        for step in range(1, 4):
            screen.on_tick(tick(100 * step))
        logging.getLogger("kit.run").info("an interim zip")
        for done in range(0, 10_001, 100):
            screen.on_progress("pictures", done, 10_000)
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert [line.split(" pictures")[0] for line in said.splitlines()[2:5]] == ["100", "200", "300"]
    assert said.splitlines()[5:] == ["an interim zip", "generated and packed 10,000 pictures"]


class Terminal(Console):
    """A terminal whose width can be changed."""

    columns = 100

    @property
    def width(self) -> int:
        return self.columns

    @width.setter
    def width(self, width: int) -> None:
        raise NotImplementedError


CLEAR = "\x1b[2J"


def test_in_a_terminal_messages_stay_when_the_panel_is_gone(monkeypatch):
    file = as_terminal(monkeypatch, Tty())
    with TrainingScreen(Clock(10)) as screen:
        screen.on_plan(record())
        screen.on_tick(tick(100))
        logging.getLogger("kit.run").info("an interim zip \x1b[2J")
        assert "100 pictures seen" in file.getvalue()
    assert "an interim zip \\x1b[2J" in file.getvalue()
    assert "pictures seen" not in file.getvalue().partition("interim zip")[2].rpartition("\x1b[2K")[2]


def test_another_width_clears_what_the_terminal_has_broken_into_lines():
    file = io.StringIO()
    terminal = Terminal(file=file, force_terminal=True, force_interactive=True, height=30)
    panel = Panel(Clock(10))
    panel.record = record()
    with ResizableLive(panel, console=terminal, auto_refresh=False) as live:
        live.refresh()
        assert CLEAR not in file.getvalue()
        terminal.columns = 50
        live.refresh()
        assert file.getvalue().count(CLEAR) == 1
        live.refresh()
        assert file.getvalue().count(CLEAR) == 1


@pytest.mark.parametrize(
    ("stream", "environment", "terminal"),
    [
        (Tty, {}, True),
        (Tty, {"JPY_PARENT_PID": "1"}, False),  # a notebook's `!kit train`
        (Tty, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, False),  # the same, another front end
        (io.StringIO, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_there_is_a_panel_only_where_it_can_be_drawn_over(monkeypatch, stream, environment, terminal):
    file = as_terminal(monkeypatch, stream(), **environment)
    with TrainingScreen(Clock(10)) as screen:
        screen.on_plan(record())
        screen.on_tick(tick(100))
    assert ("\x1b[" in file.getvalue()) == terminal
    assert ("100 pictures (2%)" in file.getvalue()) == (not terminal)


def test_a_session_at_the_keyboard_is_older_than_its_runs(monkeypatch):
    assert Stopwatch().seconds() > 0.05  # of this process, its imports and all
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    assert Stopwatch().seconds() < 0.05


def test_in_a_notebook_one_cell_is_written_anew(monkeypatch):
    shown = []

    class Handle:
        def update(self, thing):
            shown.append(thing._repr_html_())

    def display(thing, display_id):
        shown.append(thing._repr_html_())
        return Handle()

    package = types.ModuleType("IPython")
    module = types.ModuleType("IPython.display")
    vars(package)["display"], vars(module)["display"] = module, display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    file = io.StringIO()
    notebook = Console(file=file, width=90)
    notebook.is_jupyter = True
    monkeypatch.setattr(panel_module, "stderr", lambda: notebook)
    with TrainingScreen(Clock(10)) as screen:
        screen.on_plan(record(recipe=dataclasses.replace(MODELS["dcgan"].recipe, model="<b>mine</b>")))
        screen.on_tick(tick(100))
        for done in range(1, 10_001):
            screen.on_progress("pictures", done, 10_000)
    assert file.getvalue() == ""
    assert "getting ready" in shown[0]
    assert "&lt;b&gt;mine" in shown[1]
    assert "10,000 of 10,000" in shown[-1]
    assert len(shown) < 20


class Callback:
    def __init__(self):
        self.heard = []

    def on_plan(self, record):
        self.heard.append("planned")

    def on_tick(self, tick):
        self.heard.append("ticked")

    def on_progress(self, stage, done, total):
        self.heard.append("finishing")


def test_every_number_and_every_grid_of_a_run_is_there(make_set, tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install kit[tensorboard]"
    )
    prepared = make_set(tmp_path / "set", n=16, size=16)
    job = kit.run.RunConfig(
        recipe=registry.get("dcgan").override(["width=4", "batch=4"]),
        data=prepared.path,
        out=tmp_path / "run",
        images=16,
        count=4,
    )
    callback = Callback()
    with TensorBoard(job.out, callback) as files:
        run = kit.run.train(job, clock=Stopwatch(), callback=files)
    assert {"planned", "ticked", "finishing"} <= set(callback.heard)
    found = accumulators.EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    (line,) = [json.loads(text) for text in (run.path / "progress.jsonl").read_text().splitlines()]
    for column, tag in panel_module.TAGS.items():
        (event,) = found.Scalars(tag)
        assert (event.step, event.value) == (16, pytest.approx(line[column], rel=1e-6))
    assert found.Scalars("run/pictures_per_s")[0].step == 16
    assert [event.step for event in found.Images("samples")] == [grid.pictures for grid in grids(run.path)] == [0, 16]


def test_a_number_that_is_none_is_no_event(make_run, tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install kit[tensorboard]"
    )
    run = make_run(tmp_path / "run", ticks=1)
    with TensorBoard(run, Callback()) as files:
        files.on_plan(dataclasses.replace(read_run(run), pictures=0))
        files.on_tick(TickRecord(pictures=100, seconds=9.0, loss_g=1.0, alarms=["all alike"]))
    found = accumulators.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["run/seconds", "loss/G"]


def test_without_tensorboard_it_is_said_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KitError, match=r"kit\[tensorboard\]"):
        TensorBoard.require()
