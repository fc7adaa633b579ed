"""What a kernel's version left: the run's own files, fetched with resumes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import read_json
from kit.kaggle import versions
from kit.kaggle.client import Client
from kit.kaggle.transfer import check_zip, download
from kit.kaggle.versions import Version

NEEDED = ("run.json", "images.zip")
"""Without these there is no submission."""

WANTED = (*NEEDED, "score.json", "report.html", "samples.png", "film.gif", "checkpoint.pt")
"""All that is fetched, in this order, where it is there: what is submitted, what is looked at, and the weights."""


def fetch_output(
    client: Client, version: Version, folder: Path, *, progress: Callable[[int, int], None]
) -> tuple[str, ...]:
    """Brings the run's files of a version into a folder; what is there already is not fetched again.

    Args:
        client: from `client.connect`.
        version: has ended, in whatever way.
        folder: where they go, one folder for each version.
        progress: bytes here, bytes in all, of the file that is on its way.

    Returns:
        the names of those of WANTED that are there now.

    Raises:
        KitError: Kaggle refuses, a file keeps being cut or is damaged, or the disk is full.
    """
    names = {file.name for file in versions.output(client, version)}
    wanted = [name for name in WANTED if name in names]
    for name in wanted:
        path = folder / name
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        client.say(f"fetching {name} of {version}")
        download(
            partial(versions.open_output, client, version, name),
            path,
            patience=client.patience,
            say=client.say,
            progress=progress,
            verify=_VERIFY.get(path.suffix, _take),
        )
    return tuple(wanted)


def _take(path: Path, name: str) -> None:
    """Takes any bytes."""


def _check_json(path: Path, name: str) -> None:
    try:
        read_json(path)
    except KitError as error:
        raise KitError(f"{name}: what Kaggle sent is no JSON ({error.problem})", "run the command again") from error


_VERIFY: dict[str, Callable[[Path, str], None]] = {".zip": check_zip, ".json": _check_json, ".pt": check_zip}
"""By suffix; what torch saves is a zip too."""
