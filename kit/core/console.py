"""Tables on stdout; progress on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TextIO, cast

from rich.cells import cell_len
from rich.console import Console
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
from rich.text import Text

from kit.core.streams import Talk, safe

Callback = Callable[[int, int], None]

GAP = 2
"""Spaces between two columns of a table."""

QUIET_S = 1.0
"""A bar appears only for work that lasts longer than this."""

LINE_S = 10.0
"""Where there is no terminal, a line at most this often."""


def stderr() -> Console:
    """The console for talk; results go to stdout.

    It is a terminal only where there is one: not in a pipe whose environment asks for colours, and not under a
    notebook's `!kit …`, which gives its command a terminal but keeps every line that was to be written over.
    """
    terminal = sys.stderr.isatty() and not _in_a_cell()
    force = None if terminal else False
    file = cast("TextIO", Talk(sys.stderr))
    return Console(file=file, highlight=False, soft_wrap=True, markup=False, force_terminal=force)


def _in_a_cell() -> bool:
    """Whether what this process prints lands in a notebook's cell; Jupyter's kernels leave these in the environment."""
    return "JPY_PARENT_PID" in os.environ or "inline" in os.environ.get("MPLBACKEND", "")


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


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], *, spare: Sequence[int]) -> list[int]:
    """Which columns of a table of texts are shown: all, but in a terminal that is too narrow for them.

    Args:
        columns: their names.
        rows: a text a column.
        spare: columns that can be left out, the first ones first.
    """
    widths = [max(map(cell_len, texts)) for texts in zip(columns, *rows, strict=True)]
    shown = list(range(len(columns)))
    for index in spare:
        if sys.stdout.isatty() and sum(widths[i] + GAP for i in shown) - GAP > Console().width:
            shown.remove(index)
    return shown


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Collection[int] = ()) -> None:
    """Prints a result on stdout: a table whose numbers align, wide enough not to cut when the output is no terminal.

    Args:
        columns: their names.
        rows: a value a column.
        right: columns of texts that are to be aligned as numbers are.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if index in right or (rows and numbers) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write(printed.get())  # rich would end the process its own way where the reader has gone


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else safe(str(value))
