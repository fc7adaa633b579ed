"""`kit pack`, `submit`, `submissions` and `reproduce`: from a run to the leaderboard, and again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import DataOption, JsonOption, RunArgument, TrustOption, print_json, say
from kit.core.errors import KitError


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
    from kit.core.console import bar
    from kit.submission.make import make_submission

    with bar("checking", unit="pictures") as progress:
        submission = make_submission(run, out=out, progress=progress)
    typer.echo(submission.folder)


def submit(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[SUBMISSION|RUN]", help="Default: the newest submission, else the newest run."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What Kaggle shows beside the score.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Train it again in a Kaggle kernel, where only kernels are taken.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and say what would be sent.")] = False,
) -> None:
    """Send a submission the way its competition takes it, and wait for its score. Nothing is sent twice.

    Example: kit submit --dry-run
    """
    from kit.commands.round import send, send_kernel_of
    from kit.core.console import bar
    from kit.submission import ledger
    from kit.submission.make import make_submission
    from kit.submission.submit import LOCAL
    from kit.submission.submit import dry_run as plan_submission

    with bar("checking", unit="pictures") as progress:
        submission = ledger.chosen(target, pack=lambda run: make_submission(run, progress=progress), say=say)
        plan = plan_submission(submission, message=message, progress=progress)
    if dry_run:
        for line in plan.lines():
            typer.echo(line)
        raise typer.Exit(0 if plan.ok else 1)
    if submission.sent is None and plan.competition.kernels_only and submission.kernel is None:
        if not yes:
            raise KitError(f"{submission.name}: {LOCAL}", plan.remedy)
        send_kernel_of(submission, message=message)
    else:
        send(plan)


def submissions(
    as_json: JsonOption = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask Kaggle for the scores first.")] = False,
) -> None:
    """List the submissions with their local scores beside Kaggle's, and how well these agree.

    Example: kit submissions
    """
    from kit.commands.round import refreshed
    from kit.core.console import print_table
    from kit.submission import ledger, table
    from kit.submission.agreement import agreements

    found = ledger.all_submissions()
    listed = refreshed(found.submissions) if refresh else found.submissions
    rows = [table.row(submission) for submission in listed]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        print_table(table.COLUMNS, [row.cells() for row in rows])
        for agreement in agreements(listed):
            typer.echo(agreement.line())
    for error in found.damaged:
        say(f"warning: {error}")


def reproduce(
    target: Annotated[Path, typer.Argument(metavar="SUBMISSION")],
    data: DataOption = None,
    keep: Annotated[
        Path | None, typer.Option(help="New folder for the run that is made; default: thrown away.")
    ] = None,
    trust: TrustOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Of a kernel's submission: run the kernel again, which costs GPU hours.")
    ] = False,
) -> None:
    """Make a submission again from its stored code, recipe and data, and compare; exit code 1 if anything differs.

    Of a kernel's submission the code that Kaggle ran is written again and compared.

    Example: kit reproduce submissions/dcgan-demo-1
    """
    from kit.submission import ledger
    from kit.submission.reproduce import reproduce as make_again

    submission = ledger.find(target)
    if submission.kernel is None:
        verdict = make_again(submission, data=data, keep=keep, trust=trust, say=say)
    else:
        from kit.commands.round import rebuilt

        verdict = rebuilt(submission, run_again=yes, trust=trust)
    for line in verdict.lines:
        typer.echo(line)
    raise typer.Exit(0 if verdict.identical else 1)
