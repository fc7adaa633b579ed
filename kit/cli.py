"""The command line: every command of `kit.commands`, in the order of the work.

Heavy packages are imported inside the commands that use them, so that `kit --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from kit import __version__
from kit.commands import data, kernel, report, sample, score, stored, submit, train
from kit.commands.common import Command, CommandGroup
from kit.core import signals, streams
from kit.core.errors import KitError

log = logging.getLogger(__name__)

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers in a third of the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        streams.echo(f"kit {__version__}")
        raise typer.Exit


@app.callback()
def kit(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """From photographs to a valid, scored, reproducible images.zip, within a time budget."""


for command in (
    data.data,
    train.train,
    sample.sample,
    score.score,
    score.check,
    submit.pack,
    submit.submit,
    submit.submissions,
    submit.reproduce,
    report.report,
    report.models,
    report.runs,
    report.doctor,
):
    app.command(cls=Command)(command)
app.command(hidden=True)(stored.check_model)
app.command(hidden=True)(stored.replay)
app.command(hidden=True)(stored.rebuild_kernel)
app.add_typer(kernel.app, name="kernel")


def main() -> None:
    """The `kit` command: 0 done, 1 a `KitError`, 2 wrong usage, 130 interrupted."""
    # OpenMP's threads wait for each other by spinning: on a machine that also does something else, the spinning takes
    # the time of the thread it waits for, and training was seen to slow down threefold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    streams.set_up()
    with signals.exit_on_signals():
        code = _exit_code(app)
    # Everything is written. To unload torch takes seconds on a busy machine, and they would count against the budget.
    code = _exit_code(sys.stdout.flush) or code
    sys.stderr.flush()
    os._exit(code)


def _exit_code(work: Callable[[], object]) -> int:
    """Does some work, and prints what ends it in one line."""
    try:
        work()
    except KitError as error:
        log.error("%s", error)
    except OSError as error:
        log.error("%s: %s", error.filename or "standard output", error.strerror or error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    else:
        return 0
    return 1
