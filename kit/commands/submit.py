"""`kit pack`, `submit`, `submissions` and `reproduce`: from a run to the leaderboard, and again."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import DataOption, JsonOption, RunArgument, TrustOption, print_json
from kit.core.errors import KitError
from kit.core.streams import echo

log = logging.getLogger(__name__)


def pack(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Submission folder; default: submissions/NAME-OF-THE-RUN."),
    ] = None,
) -> None:
    """Make a submission folder from a run: the zip, the code that made it, and the record to make it again.

    Example: kit pack runs/dcgan-demo-1
    """
    from kit.core.console import bar
    from kit.submission.make_submission import make_submission

    with bar("checking", unit="pictures") as progress:
        submission = make_submission(run, out=out, progress=progress)
    echo(submission.folder)


def submit(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="SUBMISSION|RUN", help="Default: the newest submission, else the newest run."),
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="What Kaggle shows beside the score.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Train it again in a Kaggle kernel, where the competition takes only kernels.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and show what would be sent, without sending it.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Send it once more if an earlier sending may have got lost.")
    ] = False,
) -> None:
    """Send a submission the way its competition takes it, and wait for its score. Nothing is sent twice unasked.

    Example: kit submit --dry-run
    """
    from kit.commands.workflow import send, send_kernel_of
    from kit.core.console import bar
    from kit.submission.make_submission import make_submission
    from kit.submission.send import LOCAL, make_plan
    from kit.submission.submission_record import find_or_pack

    with bar("checking", unit="pictures") as progress:
        submission = find_or_pack(target, pack=lambda run: make_submission(run, progress=progress))
        plan = make_plan(submission, message=message, progress=progress)
    if dry_run:
        for line in plan.lines():
            echo(line)
        raise typer.Exit(0 if plan.ok else 1)
    if submission.sent is None and plan.competition.kernels_only and submission.kernel is None:
        if not yes:
            raise KitError(f"{submission.name}: {LOCAL}", plan.remedy)
        send_kernel_of(submission, message=message, again=again)
    else:
        send(plan, again=again)


def submissions(
    as_json: JsonOption = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask Kaggle for the scores first.")] = False,
) -> None:
    """List the submissions with their local scores beside Kaggle's, and how well these agree.

    Example: kit submissions
    """
    from kit.commands.workflow import refreshed
    from kit.core.console import print_table
    from kit.submission.submission_record import (
        COLUMNS,
        damaged_row,
        leaderboard_correlations,
        read_all,
        row,
    )

    found, damaged = read_all()
    listed = refreshed(found) if refresh else found
    rows = [*map(row, listed), *(damaged_row(folder, error) for folder, error in damaged.items())]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        print_table(COLUMNS, [row.cells() for row in rows])
        for correlation in leaderboard_correlations(listed):
            echo(correlation.line())
    for error in damaged.values():
        log.warning("%s", error)


def reproduce(
    target: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="Folder of a submission.")],
    data: DataOption = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the run that is made in this new folder.")
    ] = None,
    trust: TrustOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Run the kernel of the submission again, which costs GPU hours.")
    ] = False,
) -> None:
    """Make a submission again from its stored code, recipe and data, and compare; exit code 1 if anything differs.

    Of a kernel's submission the code that Kaggle ran is written again and compared.

    Example: kit reproduce submissions/dcgan-demo-1
    """
    from kit.submission.reproduce import reproduce as make_again
    from kit.submission.submission_record import find

    submission = find(target)
    if submission.kernel is None:
        verdict = make_again(submission, data=data, keep=keep, trust=trust)
    else:
        from kit.commands.workflow import rebuild_kernel

        verdict = rebuild_kernel(submission, run_again=yes, trust=trust)
    for line in verdict.lines:
        echo(line)
    raise typer.Exit(0 if verdict.identical else 1)
