"""The command line: every command of `kit.commands`, in the order of the work.

Heavy packages are imported inside the commands that use them, so that `kit --help` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

from kit.commands import data, kernel, looking, score, submit, train
from kit.commands.common import say
from kit.core.errors import KitError

app = typer.Typer(
    help="From photographs of dogs to a valid, scored, reproducible images.zip.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers in a third of the time
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    data.data,
    train.train,
    train.sample,
    score.score,
    score.check,
    submit.pack,
    submit.submit,
    submit.submissions,
    submit.reproduce,
    looking.report,
    looking.models,
    looking.runs,
    looking.doctor,
):
    app.command()(command)
app.add_typer(kernel.app, name="kernel")


def main() -> None:
    """The `kit` command: 0 done, 1 a `KitError`, 2 wrong usage, 130 interrupted."""
    # OpenMP's threads wait for each other by spinning: on a machine that also does something else, the spinning takes
    # the time of the thread it waits for, and training was seen to slow down threefold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code: object = 0
    try:
        app()
    except KitError as error:
        say(f"error: {error}")
        code = 1
    except SystemExit as end:
        code = end.code
    # Everything is written. To unload torch takes seconds on a busy machine, and they would count against the budget.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)
