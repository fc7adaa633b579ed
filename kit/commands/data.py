"""`kit data`: fetch pictures and prepare them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kit.commands.common import SlugOption
from kit.competition import DEFAULT, Competition
from kit.competition import get as get_competition
from kit.core.errors import KitError
from kit.core.streams import echo

if TYPE_CHECKING:
    from kit.core.progress import Progress

log = logging.getLogger(__name__)

ROOT = Path("data")
"""The folder of prepared sets."""

DOWNLOADS = ROOT / "downloads"
"""What was fetched or drawn."""


def data(
    slug: SlugOption = DEFAULT,
    origin: Annotated[
        str,
        typer.Option("--from", metavar="WHERE", help="kaggle, kaggle:OWNER/DATASET, demo, mnist, or a folder or zip."),
    ] = "kaggle",
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Folder or zip of pictures to be translated into pictures like those of --from."
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="box, square, mixed or whole; default: what suits the competition and the source."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Side of a picture in pixels; default: the competition's."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(metavar="N", help="1 (grey) or 3 (RGB); default: what suits the source."),
    ] = None,
    margin: Annotated[float, typer.Option(metavar="PERCENT", help="Widen boxes by this part of their sides.")] = 0.0,
    margin_px: Annotated[int, typer.Option(metavar="N", help="Widen boxes by so many pixels on each side.")] = 0,
    min_side: Annotated[int, typer.Option(metavar="N", help="Leave out boxes with a side of fewer pixels.")] = 0,
    max_aspect: Annotated[
        float | None,
        typer.Option(metavar="RATIO", help="Leave out boxes whose longer side is more than so many times the shorter."),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep exact duplicates; default: the first of them is kept.")
    ] = False,
    holdout: Annotated[
        float, typer.Option(metavar="FRACTION", help="Part of the pictures that is never trained on.")
    ] = 0.05,
    max_rejected: Annotated[
        float, typer.Option(metavar="FRACTION", help="Part of the pictures that may be unusable before it is an error.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the hold-out, and of what `demo` draws.", min=0)] = 0,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes; default: as many as are fastest, at most one for each core.", min=1),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the prepared set; default: data/NAME."),
    ] = None,
) -> None:
    """Fetch pictures and prepare them: cropped by their boxes, resized, checked, and traced to their source.

    Example: kit data --from demo
    """
    from kit.core.console import bar
    from kit.data.crops import CropSettings
    from kit.data.prepare import describe, prepare
    from kit.data.prepared_set import remember

    rules = get_competition(slug)
    settings = CropSettings(
        policy=crop, margin_percent=margin, margin_px=margin_px, min_side=min_side, max_aspect=max_aspect
    )
    with bar(f"getting {origin}", unit="pictures", size_in_bytes=origin.startswith("kaggle")) as progress:
        source = locate(origin, rules, seed=seed, progress=progress)
    with bar("preparing", unit="pictures") as progress:
        prepared = prepare(
            source.path,
            competition=rules,
            out=out or ROOT / source.name,
            inputs=Path(inputs) if inputs else None,
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
    remember(prepared.path, root=ROOT)
    for line in describe(prepared):
        log.info("%s", line)
    echo(prepared.path)


class Origin(NamedTuple):
    """Where pictures come from, and what their set is called unless the user says otherwise."""

    path: Path
    name: str


def locate(words: str, competition: Competition, *, seed: int, progress: Progress) -> Origin:
    """Turns `--from` into a path to prepare from; what is there already is neither fetched nor drawn again.

    Args:
        words: `kaggle` (inside a kernel: the mounted data), `kaggle:OWNER/DATASET`, `demo`, `mnist`, or a path.
        competition: whose data `kaggle` means.
        seed: of the drawn dogs.
        progress: called with what is done and what there is in all: bytes of a download, pictures of a drawing.

    Raises:
        KitError: no such path, or it cannot be fetched.
    """
    if words == "demo":
        from kit import demo

        return Origin(demo.draw(DOWNLOADS / f"demo-{seed}", seed=seed, progress=progress), "demo")
    if words == "mnist":
        from kit.data.idx import fetch_mnist

        return Origin(fetch_mnist(DOWNLOADS / "mnist"), "mnist")
    if words == "kaggle" or words.startswith("kaggle:"):
        from kit.data.sources import kaggle_mount
        from kit.kaggle import download

        if words == "kaggle" and (mount := kaggle_mount(competition)):
            log.info("taking the pictures that are mounted at %s instead of Kaggle's download", mount)
            return Origin(mount, competition.slug)
        name = download.folder_name(words, competition)
        folder = DOWNLOADS / name
        fetched = download.fetch(words, competition, folder, progress=progress)
        # A single zip is the source itself: a bundle, or a dataset of any shape.
        return Origin(fetched[0] if len(fetched) == 1 else folder, name)
    path = Path(words)
    if not path.exists():
        raise KitError(f"{path}: no such file or folder", "give --from kaggle, demo, mnist or a path that is there")
    name = path.resolve().name
    stem = name[:-4] if name.lower().endswith(".zip") else name
    return Origin(path, stem.strip(".") or "pictures")
