"""`kit pack`, `submit`, `submissions` and `reproduce`: from a run to the leaderboard, and again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import DataOption, JsonOption, RunArgument, TrustOption, print_json, say
from kit.errors import KitError


def pack(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="Submission folder; default: submissions/NAME-OF-THE-RUN."),
    ] = None,
) -> None:
    """Make a submission folder from a run: the zip, the code that made it, and the record to make it again.

    Example: kit pack runs/dcgan-demo-1
    """
    from kit.console import bar
    from kit.submission.make import make_submission

    with bar("checking", unit="pictures") as progress:
        submission = make_submission(run, out=out, progress=progress)
    typer.echo(submission.folder)


def submit(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[SUBMISSION|RUN]", help="Default: the newest submission."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What Kaggle shows beside the score.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and say what would be sent.")] = False,
) -> None:
    """Check a submission and say what would be sent. (Sending is not built yet: --dry-run is required.)

    Example: kit submit --dry-run
    """
    if not dry_run:
        raise KitError("this version of the kit cannot send a submission yet", "add --dry-run to check it")
    from kit.console import bar
    from kit.submission import ledger
    from kit.submission.submit import dry_run as plan_submission

    submission = ledger.find(target) if target else ledger.newest()
    with bar("checking", unit="pictures") as progress:
        plan = plan_submission(submission, message=message, progress=progress)
    for line in plan.lines():
        typer.echo(line)
    raise typer.Exit(0 if plan.ok else 1)


def submissions(as_json: JsonOption = False) -> None:
    """List the submissions with their scores.

    Example: kit submissions
    """
    from kit.console import print_table
    from kit.submission import ledger, table

    found = ledger.all_submissions()
    rows = [table.row(submission) for submission in found.submissions]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        print_table(table.COLUMNS, [row.cells() for row in rows])
    for error in found.damaged:
        say(f"warning: {error}")


def reproduce(
    target: Annotated[Path, typer.Argument(metavar="SUBMISSION")],
    data: DataOption = None,
    keep: Annotated[
        Path | None, typer.Option(help="New folder for the run that is made; default: thrown away.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Make a submission again from its stored code, recipe and data, and compare; exit code 1 if anything differs.

    Example: kit reproduce submissions/dcgan-demo-1
    """
    from kit.submission import ledger
    from kit.submission.reproduce import reproduce as make_again

    verdict = make_again(ledger.find(target), data=data, keep=keep, trust=trust, say=say)
    for line in verdict.lines:
        typer.echo(line)
    raise typer.Exit(0 if verdict.identical else 1)
