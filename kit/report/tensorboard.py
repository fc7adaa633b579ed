"""A run as TensorBoard event files, for those who have one open all day."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.core.files import disk_error
from kit.report.page_pictures import open_picture
from kit.report.panel import TrainingScreen
from kit.report.run_data import grids
from kit.training.run_record import Callback, RunRecord, TickRecord

FOLDER = "tensorboard"
"""Of a run."""

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


def require() -> None:
    """Makes sure that event files can be written, before anything heavy starts.

    Raises:
        KitError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise KitError("--tensorboard needs TensorBoard", 'install it with `pip install "kit[tensorboard]"`')


@contextlib.contextmanager
def screen_and_files(run: Path, clock: Stopwatch) -> Iterator[EventFiles]:
    """Watches a run on the screen and in event files.

    Args:
        run: the run's folder.
        clock: the run's.
    """
    with TrainingScreen(clock) as screen, EventFiles(run, screen) as files:
        yield files


class EventFiles:
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

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a full disk, which the run has answered already
                self._add_grids()
                self._writer.close()

    def on_plan(self, record: RunRecord) -> None:
        """Opens the file and notes the recipe in it."""
        from torch.utils.tensorboard.writer import SummaryWriter

        pictures = record.pictures
        self._shown = pictures - 1
        self._writer = SummaryWriter(str(self._run / FOLDER), purge_step=pictures + 1 if pictures else None)
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
            raise disk_error(error, self._run / FOLDER) from error
        self._callback.on_tick(tick)

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Hands it on."""
        self._callback.on_progress(stage, done, total)

    def _add_grids(self) -> None:
        """The grids that were drawn since the last time."""
        for grid in grids(self._run):
            if grid.pictures > self._shown:
                picture = open_picture(grid.path)
                if picture is not None:
                    self._writer.add_image("samples", np.asarray(picture), grid.pictures, dataformats="HWC")
                self._shown = grid.pictures
