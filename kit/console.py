"""What the user sees while something runs: a live bar in a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from kit.clock import Stopwatch, show_duration

Callback = Callable[[int, int], None]

QUIET_S = 1.0
"""A bar appears only for work that lasts longer than this."""

LINE_S = 10.0
"""Where there is no terminal, a line at most this often."""


def stderr() -> Console:
    """The console for talk; results go to stdout."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def bar(label: str, *, unit: str = "", size_in_bytes: bool = False) -> Iterator[Callback]:
    """A progress bar as a callback `(done, total)`.

    Args:
        label: what is going on.
        unit: what is counted ("pictures").
        size_in_bytes: the counts are bytes: show sizes and a speed.
    """
    console = stderr()
    if not console.is_terminal:
        yield _plain_lines(console, label, unit, size_in_bytes)
        return
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if size_in_bytes else [MofNCompleteColumn(), TextColumn(unit)]
    progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = progress.add_task(label, total=None)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        if not progress.live.is_started and time.monotonic() - began > QUIET_S:
            progress.start()
        progress.update(task, completed=done, total=total or None)

    try:
        yield report
    finally:
        progress.stop()


def _plain_lines(console: Console, label: str, unit: str, size_in_bytes: bool) -> Callback:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last < LINE_S:
            return
        last = time.monotonic()
        so_far = _amount(done, size_in_bytes)
        console.print(f"{label}: {so_far} of {_amount(total, size_in_bytes)} {unit}" if total else f"{label}: {so_far}")

    return report


def _amount(count: int, size_in_bytes: bool) -> str:
    return f"{count / 1e6:.1f} MB" if size_in_bytes else f"{count:,}"


WIDE = 240
"""Columns of a table that goes to a file or another program: enough that nothing is cut."""


class TrainingScreen:
    """Shows a run: a live table in a terminal, one line a tick elsewhere.

    Args:
        clock: the process's time.
    """

    def __init__(self, clock: Stopwatch) -> None:
        self._clock = clock
        self._console = stderr()
        self._live: Live | None = None
        self._record: dict[str, Any] = {}
        self._last_line = 0.0

    def __enter__(self) -> TrainingScreen:
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def planned(self, facts: dict[str, Any]) -> None:
        """Says what is going to happen."""
        self._record = facts
        device, plan = facts["device"], self._plan()
        self._console.print(
            f"{facts['recipe']['model']} on {facts['data']['name']}, seed {facts['seed']}, on {device['name']} "
            f"({device['precision']}, {device['threads']} threads)"
        )
        if plan:
            training = plan["budget_s"] - plan["reserve_s"] - plan["started_s"]
            self._console.print(
                f"{show_duration(plan['budget_s'])} in all: {show_duration(plan['started_s'])} used, "
                f"{show_duration(training)} to train on about {plan['pictures']:,} pictures, "
                f"{show_duration(plan['reserve_s'])} kept back to generate, pack and check {facts['count']:,}"
            )
        else:
            self._console.print(f"{facts['images']:,} pictures to train on, then {facts['count']:,} to generate")

    def ticked(self, line: dict[str, Any]) -> None:
        """Shows a tick."""
        cells = self._cells(line)
        if self._live:
            table = Table.grid(padding=(0, 2))
            for name, value in cells.items():
                table.add_row(name, value)
            self._live.update(table, refresh=True)
        elif time.monotonic() - self._last_line >= LINE_S or not self._last_line:
            self._last_line = time.monotonic()
            self._console.print("  ".join(f"{name} {value}" for name, value in cells.items()))

    def happened(self, text: str) -> None:
        """Says what is out of the ordinary."""
        self._console.print(text)

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Shows how far generating and packing have come."""
        if self._live:
            self._live.update(f"generating and packing: {done:,} of {total:,} {stage}", refresh=True)
        elif done == total:
            self._console.print(f"generated and packed {total:,} {stage}")

    def _plan(self) -> dict[str, Any] | None:
        return self._record["plans"][-1] if self._record["plans"] else None

    def _cells(self, line: dict[str, Any]) -> dict[str, str]:
        plan = self._plan()
        if plan:
            left = plan["budget_s"] - plan["reserve_s"] - self._clock.seconds()
        else:
            left = (self._record["images"] - line["pictures"]) / max(line["pictures_per_s"], 1e-9)
        return {
            "pictures": f"{line['pictures']:,}",
            "pictures/s": f"{line['pictures_per_s']:.0f}",
            "loss D": f"{line['loss_d']:.3f}",
            "loss G": f"{line['loss_g']:.3f}",
            "D(x)": f"{line['d_real']:.2f}",
            "D(G(z))": f"{line['d_fake']:.2f}",
            "left": show_duration(left),
        }


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a result on stdout: a table whose numbers align, wide enough not to cut when the output is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if rows and numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
