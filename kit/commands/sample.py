"""`kit sample`: from a run to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from kit.commands.common import OverwriteOption, RunArgument, TrustOption
from kit.core.errors import KitError, unknown
from kit.core.streams import echo
from kit.models.recipe import SampleClasses


def sample(
    run: RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE|DIR",
            help="FILE.png, FILE.zip (as the competition takes it), FILE.gif, FILE.mp4, or a folder.",
        ),
    ],
    count: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pictures; default: 64, in a film 16, in a grid of interpolations or truncations 8.",
            min=1,
        ),
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(metavar="X", help="Truncation trick, z within ±X: less variety, more typical pictures."),
    ] = None,
    truncations: Annotated[
        bool,
        typer.Option("--truncations", help="A grid of the same latents z at several truncations."),
    ] = False,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate", help="Interpolate from one z to the next and back to the first; films always do."
        ),
    ] = False,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Pictures of this class alone; of a conditional model."),
    ] = None,
    to_class: Annotated[
        str | None, typer.Option("--to-class", metavar="NAME", help="A film from --class NAME to this class.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Photographs to translate, of any size; of a model such as cyclegan or cut."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="proportional (as often as in the set) or balanced; default: what the recipe says.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Seed of z; default: the run's, which gives the pictures of its images.zip.", min=0
        ),
    ] = None,
    candidate: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The state of G after N pictures that the run kept; default: that of images.zip."
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="G itself, not its average; a translation keeps it at its end.")
    ] = False,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
) -> None:
    """Draw pictures from a saved run; the data it was trained on is not needed.

    Example: kit sample runs/dcgan-demo-1 --out grid.png
    """
    from kit.core.console import bar
    from kit.generation import export, video
    from kit.generation.translate import translate_folder

    film = interpolate or to_class is not None or out.suffix in video.VIDEO_SUFFIXES
    if truncations and (film or truncation is not None or classes):
        raise KitError("--truncations goes with --class, --count and --seed only", "leave the others out")
    if film and classes:
        raise KitError(f"--classes {classes} is for pictures, not for films", "name one with --class, or leave it out")
    if classes is not None and classes not in get_args(SampleClasses):
        raise unknown("way to draw classes", classes, get_args(SampleClasses))
    source = export.RunGenerator.load(run, seed=seed, candidate=candidate, raw=raw, trust=trust)
    with bar("sampling", unit="pictures") as progress:
        if inputs is not None:
            made = translate_folder(source, inputs=inputs, out=out, count=count, overwrite=overwrite, progress=progress)
        elif truncations:
            made = export.sample_truncations(
                source, out=out, count=count or 8, class_name=class_name, overwrite=overwrite, progress=progress
            )
        elif film:
            made = export.sample_interpolation(
                source,
                out=out,
                count=count or (8 if out.suffix == ".png" else 16),
                move_latents=interpolate or to_class is None,
                truncation=truncation,
                class_name=class_name,
                to_class=to_class,
                overwrite=overwrite,
                progress=progress,
            )
        else:
            made = export.sample_pictures(
                source,
                out=out,
                count=count or 64,
                truncation=truncation,
                class_name=class_name,
                how=cast("SampleClasses | None", classes),
                overwrite=overwrite,
                progress=progress,
            )
    echo(made)
