"""What is shown of a run while it trains: a live panel in a terminal or a notebook, a line a tick elsewhere.

With `--tensorboard` also its numbers and grids as event files, for those who have TensorBoard open all day.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import io
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kit.core.clock import Stopwatch, show_duration
from kit.core.console import stderr
from kit.core.errors import KitError
from kit.core.files import disk_error
from kit.core.streams import log_to_stderr, safe
from kit.report.page_pictures import open_picture
from kit.report.run_data import grids
from kit.training.run_record import Callback, PlanRecord, RunRecord, TickRecord

log = logging.getLogger(__name__)

TICKS = 24
"""Ticks in a sparkline."""

BLOCKS = "▁▂▃▄▅▆▇█"

ROWS = (
    ("pictures/s", "pictures_per_s", "{:,.0f}"),
    ("loss D", "loss_d", "{:.3f}"),
    ("loss G", "loss_g", "{:.3f}"),
    ("D(x)", "d_real", "{:.2f}"),
    ("D(G(z))", "d_fake", "{:.2f}"),
)
"""What a tick is shown as: a name, its column, a format."""

CELL_EVERY = 1000
"""A notebook's cell is written anew after so many pictures: each time the whole of it goes to the browser."""


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a line of blocks, the smallest lowest; "·" for one that is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, span = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round(top * (value - low) / span) if span else top // 2] if math.isfinite(value) else "·"
        for value in values
    )


class Panel:
    """A run as far as it has come, to be drawn by rich or shown in a notebook; `clock` is the process's time."""

    def __init__(self, clock: Stopwatch) -> None:
        self._clock = clock
        self.record: RunRecord | None = None
        self.ticks: deque[TickRecord] = deque(maxlen=TICKS)
        self.progress: tuple[str, int, int] | None = None  # of generating and packing: what, done, total

    def opening(self) -> list[str]:
        """What is going to happen, in two lines."""
        record, plan = self._started, self._plan
        device = record.device
        title = (
            f"{record.recipe.model} on {record.data.name}, seed {record.seed}, on {device.name} "
            f"({device.precision}, {_threads(record)})"
        )
        if plan is None:
            return [title, f"{record.images or 0:,} pictures to train on, then {record.count:,} to generate"]
        return [
            title,
            f"{show_duration(plan.budget_s)} in all: {show_duration(plan.started_s)} used, "
            f"{show_duration(plan.deadline_s - plan.started_s)} to train on about {plan.total_images:,} pictures, "
            f"{show_duration(plan.reserve_s)} kept back to generate, pack and check {record.count:,}",
        ]

    def line(self, tick: TickRecord) -> str:
        """A tick in a line."""
        cells = [f"{name} {how.format(_value(tick, column))}" for name, column, how in ROWS]
        text = f"{tick.pictures:,} pictures ({self._share:.0%})  {'  '.join(cells)}  {self._left(tick)} left"
        return "  ! ".join([text, *tick.alarms])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.record is None:
            yield _line("getting ready: reading the set, measuring this machine", style="dim")
            return
        title, plan = self.opening()
        yield _line(title, style="bold")
        yield ProgressBar(total=1.0, completed=self._share, width=min(40, options.max_width))
        tick = self.ticks[-1] if self.ticks else None
        if self.progress:
            stage, done, total = self.progress
            yield _line(f"generating and packing: {done:,} of {total:,} {stage}")
        elif tick:
            yield _line(f"{tick.pictures:,} pictures seen, {self._left(tick)} left to train")
        else:
            yield _line("training, before the first tick")
        if tick:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
            table.add_column(no_wrap=True, overflow="crop")
            for name, column, how in ROWS:
                values = [_value(t, column) for t in self.ticks]
                table.add_row(name, how.format(values[-1]), sparkline(values))
            yield table
            for alarm in tick.alarms:
                yield _line(alarm, style="yellow")
        yield _line(plan, style="dim")

    def _repr_html_(self) -> str:
        """For a notebook."""
        # Text alone: a notebook's kernel asks for colours, and in one a console shows an empty output for each text.
        console = Console(width=100, file=io.StringIO(), force_jupyter=False, force_terminal=False)
        with console.capture() as text:
            console.print(self)
        return f"<pre>{html.escape(text.get())}</pre>"

    @property
    def _started(self) -> RunRecord:
        assert self.record is not None
        return self.record

    @property
    def _plan(self) -> PlanRecord | None:
        return self.record.plans[-1] if self.record and self.record.plans else None

    @property
    def _share(self) -> float:
        """Share of the budget that is used, or of the pictures that have been seen; 0 to 1."""
        if self._plan:
            return min(self._clock.seconds() / self._plan.budget_s, 1.0)
        return min(self.ticks[-1].pictures / max(self._started.images or 0, 1), 1.0) if self.ticks else 0.0

    def _left(self, tick: TickRecord) -> str:
        if self._plan:
            return show_duration(self._plan.deadline_s - self._clock.seconds())
        return show_duration(((self._started.images or 0) - tick.pictures) / max(tick.pictures_per_s or 0.0, 1e-9))


class ResizableLive(Live):
    """A live display that starts from a clean screen when the terminal's width changes.

    A terminal that becomes narrower breaks the lines that are there already, so that nobody knows any more how many
    there are to go back over.
    """

    _width = 0

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Puts the clearing before what is drawn."""
        ready = super().process_renderables(renderables)
        width, self._width = self._width, self.console.width
        return [Control.clear(), Control.home(), *ready] if width not in (0, self._width) else ready


class TrainingScreen:
    """A callback of a run that shows it. Messages of the log stand above the panel, and stay when it is gone.

    `clock` is the process's time.
    """

    def __init__(self, clock: Stopwatch) -> None:
        self._panel = Panel(clock)
        self._live: Live | None = None
        self._cell: Any = None  # of a notebook, to be written anew

    def __enter__(self) -> TrainingScreen:
        log_to_stderr()  # in a process of torchrun, or called from Python, nobody has
        console = stderr()
        if console.is_jupyter:
            from IPython.display import display

            self._cell = display(self._panel, display_id=True)
        elif console.is_interactive:
            # While it is live, rich puts what else is written to stderr above it.
            self._live = ResizableLive(
                console=console, transient=True, refresh_per_second=2, get_renderable=lambda: self._panel
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def on_plan(self, record: RunRecord) -> None:
        """Says what is going to happen."""
        self._panel.record = record
        self._show(*self._panel.opening())

    def on_tick(self, tick: TickRecord) -> None:
        """Shows a tick."""
        self._panel.ticks.append(tick)
        self._panel.progress = None  # that was an interim zip
        self._show(self._panel.line(tick))

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Shows how far generating and packing have come."""
        self._panel.progress = (stage, done, total)
        if done == total:
            self._show(f"generated and packed {total:,} {stage}")
        elif self._cell is not None and done % CELL_EVERY == 0:
            self._show()

    def _show(self, *lines: str) -> None:
        """Draws the panel anew, or logs these lines where there is none."""
        if self._live:
            self._live.refresh()
        elif self._cell is not None:
            self._cell.update(self._panel)
        else:
            for line in lines:
                log.info("%s", line)


def _value(tick: TickRecord, column: str) -> float:
    value = getattr(tick, column)
    return math.nan if value is None else float(value)


def _line(text: str, *, style: str = "") -> Text:
    """A line that is cut off where the screen ends."""
    return Text(safe(text), style=style, no_wrap=True, overflow="ellipsis")


def _threads(record: RunRecord) -> str:
    """The threads of a training step, and of how many where they are not all."""
    all_, number = record.device.threads, record.threads[-1].threads if record.threads else record.device.threads
    return f"{number} of {all_} threads" if number != all_ else f"{number} thread{'s' * (number != 1)}"


TENSORBOARD = "tensorboard"
"""The folder of event files in a run."""

TAGS = {
    "loss_d": "loss/D",
    "loss_g": "loss/G",
    "d_real": "belief/D(x)",
    "d_fake": "belief/D(G(z))",
    "grad_d": "gradient/D",
    "grad_g": "gradient/G",
    "lr_d": "learning rate/D",
    "lr_g": "learning rate/G",
}
"""Names under which columns of `progress.jsonl` stand together; the others stand under "run"."""


@contextlib.contextmanager
def screen_and_tensorboard(run: Path, clock: Stopwatch) -> Iterator[Callback]:
    """Watches a run (its folder, its clock) on the screen and in event files."""
    with TrainingScreen(clock) as screen, TensorBoard(run, screen) as both:
        yield both


class TensorBoard:
    """Hands everything on to another callback, and writes each tick's numbers and grid to `tensorboard/` of a run.

    Steps are pictures seen. A run that goes on after it was cut short begins another file, which replaces what the
    first one says of later pictures.

    Args:
        run: the run's folder.
        callback: is told the same.
    """

    def __init__(self, run: Path, callback: Callback) -> None:
        self._run, self._callback = run, callback
        self._writer: Any = None
        self._shown = -1  # the last grid that was written
        self.on_progress = callback.on_progress

    @staticmethod
    def require() -> None:
        """Makes sure that event files can be written, before anything heavy starts.

        Raises:
            KitError: TensorBoard is not installed.
        """
        if importlib.util.find_spec("tensorboard") is None:
            raise KitError("--tensorboard needs TensorBoard", 'install it with `pip install "kit[tensorboard]"`')

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a full disk, which the run has answered already
                self._add_grids()
                self._writer.close()

    def on_plan(self, record: RunRecord) -> None:
        """Opens the file and notes the recipe in it."""
        from torch.utils.tensorboard.writer import SummaryWriter

        pictures = record.pictures
        self._shown = pictures - 1
        self._writer = SummaryWriter(str(self._run / TENSORBOARD), purge_step=pictures + 1 if pictures else None)
        settings = "\n".join(
            f"| {key} | {value} |" for key, value in asdict(record.recipe).items() if "\n" not in str(value)
        )
        self._writer.add_text("recipe", f"| setting | value |\n|---|---|\n{settings}", pictures)
        self._callback.on_plan(record)

    def on_tick(self, tick: TickRecord) -> None:
        """Writes a tick.

        Raises:
            DiskFullError: there is no room for it.
        """
        try:
            for column, value in asdict(tick).items():
                if isinstance(value, int | float) and column != "pictures" and math.isfinite(value):
                    self._writer.add_scalar(TAGS.get(column, f"run/{column}"), value, tick.pictures)
            self._add_grids()
            self._writer.flush()
        except OSError as error:
            raise disk_error(error, self._run / TENSORBOARD) from error
        self._callback.on_tick(tick)

    def _add_grids(self) -> None:
        """The grids that were drawn since the last time."""
        for grid in grids(self._run):
            if grid.pictures > self._shown:
                picture = open_picture(grid.path)
                if picture is not None:
                    self._writer.add_image("samples", np.asarray(picture), grid.pictures, dataformats="HWC")
                self._shown = grid.pictures
