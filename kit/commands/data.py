"""`kit data`: pictures, prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import SlugOption, say
from kit.competition import DEFAULT
from kit.competition import get as get_competition


def data(
    slug: SlugOption = DEFAULT,
    origin: Annotated[
        str, typer.Option("--from", metavar="WHERE", help="kaggle, kaggle:OWNER/DATASET, demo, mnist, or a path.")
    ] = "kaggle",
    crop: Annotated[
        str | None,
        typer.Option(help="box, square, mixed or whole; default: what suits the competition and the source."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of a picture in pixels; default: the competition's."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="1 (grey) or 3 (RGB); default: what suits the source."),
    ] = None,
    margin: Annotated[float, typer.Option(help="Widen boxes by this much of their sides, %.")] = 0.0,
    margin_px: Annotated[int, typer.Option(help="Widen boxes by this much on each side, pixels.")] = 0,
    min_side: Annotated[int, typer.Option(help="Leave out boxes with a shorter side, pixels.")] = 0,
    max_aspect: Annotated[
        float | None,
        typer.Option(help="Leave out boxes longer than this many times their breadth."),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep files with the very same bytes.")
    ] = False,
    holdout: Annotated[float, typer.Option(help="Share of the pictures never trained on.")] = 0.05,
    max_rejected: Annotated[float, typer.Option(help="Share of the pictures that may be unusable.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Decides the hold-out, and what `demo` draws.", min=0)] = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; default: one a core.", min=1),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the prepared set; default: data/NAME."),
    ] = None,
) -> None:
    """Fetch pictures and prepare them: cropped by their boxes, resized, checked, and traced to their source.

    Example: kit data --from demo
    """
    from kit.core.console import bar
    from kit.data.crops import CropSettings
    from kit.data.dataset import remember
    from kit.data.origin import locate
    from kit.data.prepare import describe, prepare

    rules = get_competition(slug)
    settings = CropSettings(
        policy=crop, margin_percent=margin, margin_px=margin_px, min_side=min_side, max_aspect=max_aspect
    )
    root = Path("data")
    with bar(f"getting {origin}", unit="pictures", size_in_bytes=origin.startswith("kaggle")) as progress:
        source = locate(origin, rules, root=root, seed=seed, progress=progress, say=say)
    with bar("preparing", unit="pictures") as progress:
        prepared = prepare(
            source.path,
            competition=rules,
            out=out or root / source.name,
            crop=settings,
            size=size,
            channels=channels,
            holdout=holdout,
            max_rejected=max_rejected,
            keep_duplicates=keep_duplicates,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    remember(prepared.path, root=root)
    for line in describe(prepared):
        say(line)
    typer.echo(prepared.path)
