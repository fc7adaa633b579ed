"""`kit models`, `runs`, `report` and `doctor`: what there is to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import JsonOption, print_json, say
from kit.errors import KitError


def models(name: Annotated[str | None, typer.Argument()] = None, as_json: JsonOption = False) -> None:
    """List the models, or all settings of one.

    Example: kit models dcgan
    """
    from kit.console import print_table
    from kit.models import describe

    if name is None:
        rows = describe.zoo_rows()
        if as_json:
            print_json(rows)
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        return
    facts, settings = describe.model(name)
    if as_json:
        print_json({**facts, "settings": settings})
        return
    for key, value in facts.items():
        typer.echo(f"{key:15} {value}")
    typer.echo("")
    print_table(list(settings[0]), [list(row.values()) for row in settings])


def runs(as_json: JsonOption = False) -> None:
    """List the runs, those whose scores compare together and the best first.

    Example: kit runs
    """
    from kit.console import print_table
    from kit.runs import all_runs
    from kit.scoring.listing import Section, sections

    root = Path("runs")
    rows, damaged = all_runs(root)
    found = sections(rows, root)
    if as_json:
        print_json([{**row, "apart": section.apart} for section in found for row in section.rows])
    else:
        columns = ("name", "model", "set", "state", "pictures", "count", "fid", "mifid", "features")
        for section in found or [Section([], None)]:
            if section.apart:
                typer.echo(f"\napart: {section.apart}")
            print_table(columns, [[row[column] for column in columns] for row in section.rows])
    for error in damaged:
        say(f"warning: {error}")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Page that compares several runs; default: comparison.html beside the first of them."),
    ] = None,
) -> None:
    """Write a page about a run, with its film, or one that compares several; it opens in any browser, offline.

    Example: kit report runs/dcgan-demo-1
    """
    from kit.console import bar
    from kit.report.comparison import write_comparison
    from kit.report.page import write_report
    from kit.report.pictures import film

    if len(runs) > 1:
        typer.echo(write_comparison(runs, out or runs[0].parent / "comparison.html"))
        return
    if out:
        raise KitError(f"--out {out} is for the page that compares several runs", "leave it out, or name more runs")
    with bar("filming", unit="frames") as progress:
        film(runs[0], progress=progress)
    typer.echo(write_report(runs[0]))


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has, what the kit would choose on it, and what would stop it.

    Exits with 1 if something would.

    Example: kit doctor
    """
    from kit.doctor import examine

    found = examine(Path())
    if as_json:
        print_json({"facts": found.facts, "problems": found.problems})
    else:
        for name, value in found.facts.items():
            typer.echo(f"{name:10} {value}")
        for problem in found.problems:
            typer.echo(f"problem    {problem}")
    if found.problems:
        raise typer.Exit(1)
