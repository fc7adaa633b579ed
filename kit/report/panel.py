"""What is shown of a run while it trains, as text: it knows no screen, so it can be drawn on any."""

from __future__ import annotations

import html
import io
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kit.core.clock import Stopwatch, show_duration
from kit.core.console import stderr
from kit.core.text import safe_lines
from kit.training.run_record import PlanRecord, RunRecord, TickRecord

TICKS = 24
"""Ticks in a sparkline."""

EVENTS = 4
"""Events that stay on the panel."""

BAR = 40
"""Characters of the bar."""

BLOCKS = "▁▂▃▄▅▆▇█"

ROWS = (
    ("pictures/s", "pictures_per_s", "{:,.0f}"),
    ("loss D", "loss_d", "{:.3f}"),
    ("loss G", "loss_g", "{:.3f}"),
    ("D(x)", "d_real", "{:.2f}"),
    ("D(G(z))", "d_fake", "{:.2f}"),
)
"""What a tick is shown as: a name, its column, a format."""


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a line of blocks, the smallest lowest; "·" for one that is not finite."""
    finite = [value for value in values if value - value == 0]
    if not finite:
        return "·" * len(values)
    low, span = min(finite), max(finite) - min(finite)
    top = len(BLOCKS) - 1
    heights = [round(top * (v - low) / span) if span else top // 2 for v in values if v - v == 0]
    blocks = iter(heights)
    return "".join(BLOCKS[next(blocks)] if v - v == 0 else "·" for v in values)


class Panel:
    """A run as far as it has come; what it is told is what a `kit.run.Listener` is told.

    Args:
        clock: the process's time.
    """

    def __init__(self, clock: Stopwatch) -> None:
        self._clock = clock
        self._record: RunRecord | None = None
        self._ticks: deque[TickRecord] = deque(maxlen=TICKS)
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._finishing: tuple[str, int, int] | None = None

    def on_plan(self, record: RunRecord) -> None:
        """Training is about to begin; the record is kept up to date by its owner."""
        self._record = record

    def on_tick(self, tick: TickRecord) -> None:
        """A tick has passed."""
        self._ticks.append(tick)
        self._finishing = None  # that was a zip on the way
        for alarm in tick.alarms:
            kind = _kind(alarm)
            if self._events and _kind(self._events[-1]).endswith(f"  {kind}"):
                self._events.pop()  # the same again: only the last is worth its line
            self.happened(alarm)

    def happened(self, text: str) -> None:
        """Something out of the ordinary."""
        self._events.append(f"{show_duration(self._clock.seconds())}  {text}")

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Generating and packing go on."""
        self._finishing = (stage, done, total)

    # ---- as lines of a log

    def opening(self) -> list[str]:
        """What is going to happen, in two lines."""
        return [self._title(), self._intention()]

    def line(self, tick: TickRecord) -> str:
        """A tick in a line."""
        cells = [f"{name} {how.format(_value(tick, column))}" for name, column, how in ROWS]
        text = f"{tick.pictures:,} pictures ({self._share(tick):.0%})  {'  '.join(cells)}  {self._left(tick)} left"
        return "  ! ".join([text, *tick.alarms])

    # ---- as a panel

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._parts(options.max_width)

    def _repr_html_(self) -> str:
        """For a notebook, which shows what has this."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def __repr__(self) -> str:
        # Text alone: a notebook's kernel asks for colours, and in one a console shows an empty output for each text.
        console = Console(width=100, file=io.StringIO(), force_jupyter=False, force_terminal=False)
        with console.capture() as text:
            console.print(self)
        return text.get()

    def _parts(self, width: int) -> Iterator[ConsoleRenderable]:
        if not self._record:
            yield _line("getting ready: reading the set, measuring this machine", style="dim")
            yield from self._last_words()
            return
        yield _line(self._title(), style="bold")
        tick = self._ticks[-1] if self._ticks else None
        yield self._bar(tick, min(BAR, max(width - 12, 4)))
        yield _line(self._stage(tick))
        if tick:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
            table.add_column(no_wrap=True, overflow="crop")
            for name, column, how in ROWS:
                values = [_value(line, column) for line in self._ticks]
                table.add_row(name, how.format(_value(tick, column)), sparkline(values))
            yield table
        yield _line(self._division(), style="dim")
        yield from self._last_words()

    def _last_words(self) -> Iterator[Text]:
        for event in self._events:
            yield _line(event, style="yellow")

    def _bar(self, tick: TickRecord | None, width: int) -> Text:
        """Time used, time to train, and the reserve; without a budget the pictures seen."""
        plan = self._plan()
        if plan:
            used = min(self._clock.seconds() / plan.budget_s, 1.0)
            kept = plan.reserve_s / plan.budget_s
        else:
            used, kept = self._share(tick), 0.0
        done, reserve = round(width * used), round(width * kept)
        text = Text(no_wrap=True, overflow="crop")
        text.append("━" * done, style="green")
        text.append("─" * max(width - done - reserve, 0), style="dim")
        text.append("═" * (width - max(width - reserve, done)), style="magenta")
        text.append(f" {used:4.0%}")
        return text

    def _stage(self, tick: TickRecord | None) -> str:
        if self._finishing:
            stage, done, total = self._finishing
            return f"generating and packing: {done:,} of {total:,} {stage}"
        if tick is None:
            return "training, before the first tick"
        return f"{tick.pictures:,} pictures seen, {self._left(tick)} left to train"

    def _title(self) -> str:
        record = self._record
        assert record is not None
        device = record.device
        threads = device.threads
        return (
            f"{record.recipe.model} on {record.data.name}, seed {record.seed}, on {device.name} "
            f"({device.precision}, {threads} thread{'s' * (threads != 1)})"
        )

    def _intention(self) -> str:
        record, plan = self._record, self._plan()
        assert record is not None
        if not plan:
            return f"{record.images or 0:,} pictures to train on, then {record.count:,} to generate"
        training = plan.deadline_s - plan.started_s
        return (
            f"{show_duration(plan.budget_s)} in all: {show_duration(plan.started_s)} used, "
            f"{show_duration(training)} to train on about {plan.total_images:,} pictures, "
            f"{show_duration(plan.reserve_s)} kept back to generate, pack and check {record.count:,}"
        )

    def _division(self) -> str:
        """The plan, short enough for a panel."""
        record, plan = self._record, self._plan()
        assert record is not None
        if not plan:
            return self._intention()
        training = plan.deadline_s - plan.started_s
        return (
            f"{show_duration(plan.started_s)} to get ready, {show_duration(training)} for about "
            f"{plan.total_images:,} pictures, {show_duration(plan.reserve_s)} kept back for {record.count:,}"
        )

    def _plan(self) -> PlanRecord | None:
        return self._record.plans[-1] if self._record and self._record.plans else None

    def _share(self, tick: TickRecord | None) -> float:
        """Share of the pictures, or of the budget, that is behind."""
        plan = self._plan()
        if plan:
            return min(self._clock.seconds() / plan.budget_s, 1.0)
        return min(tick.pictures / max(self._images, 1), 1.0) if tick else 0.0

    @property
    def _images(self) -> int:
        return (self._record.images if self._record else None) or 0

    def _left(self, tick: TickRecord) -> str:
        plan = self._plan()
        if plan:
            return show_duration(plan.deadline_s - self._clock.seconds())
        return show_duration((self._images - tick.pictures) / max(tick.pictures_per_s or 0.0, 1e-9))


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


def _value(tick: TickRecord, column: str) -> float:
    value = getattr(tick, column)
    return math.nan if value is None else float(value)


def _kind(alarm: str) -> str:
    """What is wrong, without this tick's numbers."""
    return alarm.partition(" (")[0]


def _line(text: str, *, style: str = "") -> Text:
    """A line that is cut off where the screen ends."""
    return Text(" ".join(text.split()) if "  " not in text else text, style=style, no_wrap=True, overflow="ellipsis")


CELL_EVERY = 1000
"""A notebook's cell is written anew after so many pictures: each time the whole of it goes to the browser."""


class PanelHandler(logging.Handler):
    """Puts the kit's log on the panel."""

    def __init__(self, screen: TrainingScreen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a message."""
        self._screen.happened(safe_lines(self.format(record)))


class TrainingScreen:
    """Shows a run: a live panel in a terminal or a notebook, a line a tick elsewhere.

    Args:
        clock: the process's time.
    """

    def __init__(self, clock: Stopwatch) -> None:
        self._console = stderr()
        self._panel = Panel(clock)
        self._live: Live | None = None
        self._cell: Any = None  # of a notebook, to be written anew
        self._events: list[str] = []
        self._handlers: list[logging.Handler] | None = None  # of the kit's log, while the panel has it

    def __enter__(self) -> TrainingScreen:
        if self._console.is_jupyter:
            from IPython.display import display

            self._cell = display(self._panel, display_id=True)
        elif self._console.is_interactive:
            self._live = ResizableLive(
                console=self._console, transient=True, refresh_per_second=2, get_renderable=lambda: self._panel
            )
            self._live.start()
        self._show_log()
        return self

    def _show_log(self) -> None:
        """The kit's log goes on the panel while there is one."""
        if self._live or self._cell is not None:
            logger = logging.getLogger("kit")
            self._handlers, logger.handlers = logger.handlers, [PanelHandler(self)]

    def __exit__(self, *_: object) -> None:
        if self._handlers is not None:
            logging.getLogger("kit").handlers = self._handlers
        if self._live:
            self._live.stop()
            self._live = None
            for text in self._events:  # the panel is gone: what happened stays
                self._console.print(text)

    def on_plan(self, record: RunRecord) -> None:
        """Says what is going to happen."""
        self._panel.on_plan(record)
        if self._live is None and self._cell is None:
            for text in self._panel.opening():
                self._console.print(text)
        self.refresh()

    def on_tick(self, tick: TickRecord) -> None:
        """Shows a tick."""
        self._panel.on_tick(tick)
        if self._live is None and self._cell is None:
            self._console.print(self._panel.line(tick))
        self.refresh()

    def happened(self, text: str) -> None:
        """Says what is out of the ordinary."""
        self._panel.happened(text)
        if self._live is None and self._cell is None:
            self._console.print(text)
        else:
            self._events.append(text)
        self.refresh()

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Shows how far generating and packing have come."""
        self._panel.on_progress(stage, done, total)
        if self._live is None and self._cell is None:
            if done == total:
                self._console.print(f"generated and packed {total:,} {stage}")
        elif done == total or done % CELL_EVERY == 0:
            self.refresh()

    def refresh(self) -> None:
        """Draws the panel anew; in a terminal that happens by itself, too."""
        if self._live:
            self._live.refresh()
        if self._cell is not None:
            self._cell.update(self._panel)
