"""`kit models`, `runs`, `report` and `doctor`: what there is to look at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kit.commands.common import JsonOption, OverwriteOption, TrustOption, print_json
from kit.core.errors import KitError
from kit.core.streams import echo

if TYPE_CHECKING:
    from kit.models.registry import ModelEntry

log = logging.getLogger(__name__)

SIZE, CHANNELS, CLASSES = 64, 3, 120
"""Parameters are counted for the pictures and classes of the dog competition."""


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model; default: the table of all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models, or all settings of one.

    Example: kit models dcgan
    """
    from kit.core.console import print_table

    if name is None:
        rows = model_rows()
        if as_json:
            print_json(rows)
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        return
    facts, settings = model_settings(name)
    if as_json:
        print_json({**facts, "settings": settings})
        return
    for key, value in facts.items():
        echo(f"{key:15} {value if not isinstance(value, bool) else 'yes' if value else 'no'}")
    echo()
    print_table(list(settings[0]), [list(row.values()) for row in settings])


def runs(
    as_json: JsonOption = False,
    as_page: Annotated[
        bool, typer.Option("--html", help="Write a page that compares them, runs/comparison.html.")
    ] = False,
) -> None:
    """List the runs, those whose scores compare together and the best first.

    Example: kit runs
    """
    from kit.core.console import fitting, print_table
    from kit.report import comparison
    from kit.report.run_data import read_all
    from kit.training.run_folder import folders

    root = Path("runs")
    if as_page:
        echo(comparison.write_comparison(folders(root), root / "comparison.html"))
        return
    found, damaged = read_all(folders(root), now=datetime.now(UTC))
    ranked = comparison.rankings(found)
    sections = comparison.sections(found, ranked)
    if as_json:
        rows = [{**found[i].summary(), "apart": section.apart} for section in sections for i in section.members]
        print_json([*rows, *({"name": path.name, "state": "damaged", "problem": why} for path, why in damaged)])
        return
    names = [name for name, _ in comparison.COLUMNS]
    cells = [[cell.text for cell in row] for row in comparison.rows(found, ranked)]
    shown = fitting(names, cells, spare=comparison.SPARE)
    numbers = [place for place, index in enumerate(shown) if comparison.COLUMNS[index][1] != "text"]
    for section in sections or [comparison.Section([], None)]:
        if section.apart:
            echo()
            echo(f"not ranked with those above: {section.apart}")
        texts = [[cells[i][index] for index in shown] for i in section.members]
        print_table([names[index] for index in shown], texts, right=numbers)
    for path, problem in damaged:
        echo(f"{path.name}  cannot be read: {problem}")
    if missing := [name for index, name in enumerate(names) if index not in shown]:
        log.info(f"this window is too narrow for {', '.join(missing)}: widen it, or see `kit runs --html`")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page that compares several runs; default: comparison.html beside the first of them."
        ),
    ] = None,
    with_neighbours: Annotated[
        bool,
        typer.Option("--neighbours/--no-neighbours", help="Show the nearest training pictures, if the set is there."),
    ] = True,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
) -> None:
    """Write a page about a run, with its film, or one that compares several; it opens in any browser, offline.

    Example: kit report runs/dcgan-demo-1
    """
    from kit.core.console import bar
    from kit.report.comparison import write_comparison
    from kit.report.films import film
    from kit.report.page import REPORT, came_with_its_page, write_report
    from kit.report.page_pictures import draw_gallery, find_nearest
    from kit.report.run_data import grids, read

    comparison = out or runs[0].parent / "comparison.html"
    runs = [run for run in runs if run != comparison] or runs  # `runs/*` names the page that was written the last time
    if len(runs) > 1:
        echo(write_comparison(runs, comparison, overwrite=overwrite))
        return
    if out:
        raise KitError(f"--out {out} is for the page that compares several runs", "leave it out, or name more runs")
    (run,) = runs
    if came_with_its_page(run):
        log.info(
            "the page stays as the kernel wrote it: a new one would be without the curves and grids, which stayed there"
        )
        echo(run / REPORT)
        return
    if grids(run):
        with bar("filming", unit="frames") as progress:
            film(run, progress=progress)
    gallery = None
    try:
        with bar("drawing", unit="pictures") as progress:
            gallery = draw_gallery(run, trust=trust, progress=progress)
    except KitError as error:
        log.info(f"the page is without an interpolation: {error}")
    nearest = None
    if with_neighbours:
        try:
            with bar("looking for neighbours", unit="pictures") as progress:
                nearest = find_nearest(read(run, now=datetime.now(UTC)), progress=progress)
        except KitError as error:
            log.info(f"the page is without the nearest training pictures: {error}")
    echo(write_report(run, gallery=gallery, nearest=nearest))


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has, what the kit would choose on it, and what would stop it.

    Exits with 1 if something would.

    Example: kit doctor
    """
    from kit.commands.doctor import examine

    found = examine(Path())
    if as_json:
        print_json({"facts": found.facts, "problems": found.problems})
    else:
        for name, value in found.facts.items():
            echo(f"{name:10} {value}")
        for problem in found.problems:
            echo(f"problem    {problem}")
    if found.problems:
        raise typer.Exit(1)


def model_rows() -> list[dict[str, Any]]:
    """The table of models, a row each; parameters in millions, counted at 64×64 RGB."""
    from kit.models import registry

    return [_facts(row) for row in registry.MODELS.values()]


def model_settings(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A model's facts, and its settings with default, unit and range or choices.

    Raises:
        KitError: no such model.
    """
    from kit.models import registry

    row = registry.get(name)
    ladder = ", ".join(f"{rung.width} from {rung.pictures:,} pictures" for rung in row.ladder)
    return _facts(row) | {"note": row.note, **({"width by budget": ladder} if ladder else {})}, [
        {
            "setting": key,
            "default": getattr(row.recipe, key),
            "unit": field.metadata["unit"],
            "range": _range(field.metadata),
            "about": field.metadata["about"],
        }
        for key, field in row.settings().items()
    ]


def _facts(row: ModelEntry) -> dict[str, Any]:
    import torch

    from kit.models import registry

    with torch.device("meta"):  # counts need shapes, not memory
        networks = registry.build(row.recipe, size=SIZE, channels=CHANNELS, classes=CLASSES)
    millions = [f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M" for network in networks]
    return {
        "name": row.name,
        "about": row.about,
        "conditional": row.recipe.conditional,
        "loss": row.recipe.loss,
        "penalty": row.recipe.penalty,
        "architecture": row.recipe.architecture,
        "G": millions[0],
        "D": millions[1],
        "paper": row.paper,
    }


def _range(meta: Mapping[str, Any]) -> str:
    if "choices" in meta:
        return f"{'any' if meta['several'] else 'one'} of {', '.join(meta['choices'])}"
    return "yes or no" if meta["switch"] else f"{meta['low']:,.10g} to {meta['high']:,.10g}"
