"""What `--from` names: a path that is there, or one that has to be fetched or drawn first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kit import demo
from kit.competition import Competition
from kit.core.errors import KitError
from kit.data import sources
from kit.kaggle import download

DOWNLOADS = "downloads"
"""The folder, beside the prepared sets, that keeps what was fetched or drawn."""


class Origin(NamedTuple):
    """Where pictures come from, and what their set is called unless the user says otherwise."""

    path: Path
    name: str


def locate(
    words: str,
    competition: Competition,
    *,
    root: Path,
    seed: int,
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> Origin:
    """Turns `--from` into a path to prepare from; what is there already is neither fetched nor drawn again.

    Args:
        words: `kaggle` (inside a kernel: the mounted data), `kaggle:OWNER/DATASET`, `demo`, `mnist`, or a path.
        competition: whose data `kaggle` means.
        root: the folder of prepared sets.
        seed: of the embedded set.
        progress: called with what is done and what there is in all: bytes of a download, pictures of a drawing.
        say: is told, in a line, what happens.

    Raises:
        KitError: no such path, or it cannot be fetched.
    """
    if words == "demo":
        return Origin(demo.draw(root / DOWNLOADS / f"demo-{seed}", seed=seed, progress=progress), "demo")
    if words == "mnist":
        return Origin(sources.fetch_mnist(root / DOWNLOADS / "mnist"), "mnist")
    if words == "kaggle" or words.startswith("kaggle:"):
        if words == "kaggle" and (mount := sources.kaggle_mount(competition)):
            return Origin(mount, competition.slug)
        name = download.folder_name(words, competition)
        folder = root / DOWNLOADS / name
        fetched = download.fetch(words, competition, folder, progress=progress)
        # A single zip is the source itself: a bundle, or a dataset of any shape.
        return Origin(fetched[0] if len(fetched) == 1 else folder, name)
    path = Path(words)
    if not path.exists():
        raise KitError(f"{path}: no such file or folder", "give --from kaggle, demo, mnist or a path that is there")
    return Origin(path, path.resolve().name.removesuffix(".zip"))
