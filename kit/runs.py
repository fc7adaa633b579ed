"""Run folders: finding them, reading them, and the table of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from kit.errors import KitError
from kit.files import read_json

VERSION = 1


def read_run(path: Path) -> dict[str, Any]:
    """The `run.json` of a run folder.

    Raises:
        KitError: not a run, a damaged record, or one of another version.
    """
    record = read_json(path / "run.json", remedy=f"is {path} the folder of a run?")
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise KitError(f"{path / 'run.json'}: a run of version {version}", f"this kit reads version {VERSION}")
    return dict(record)


def all_runs(root: Path) -> tuple[list[dict[str, Any]], list[KitError]]:
    """A row for each run below a folder, oldest first, and what could not be read."""
    rows, damaged = [], []
    for record in sorted(root.glob("*/run.json"), key=lambda path: path.stat().st_mtime):
        try:
            rows.append(_row(record.parent))
        except (KitError, KeyError, TypeError) as error:
            damaged.append(error if isinstance(error, KitError) else KitError(f"{record}: damaged"))
    return rows, damaged


def _row(path: Path) -> dict[str, Any]:
    run = read_run(path)
    score = read_json(path / "score.json") if (path / "score.json").is_file() else {}
    return {
        "name": path.name,
        "model": run["recipe"]["model"],
        "set": run["data"]["name"],
        "state": run["state"],
        "pictures": run["pictures"],
        "count": run["count"],
        "fid": score.get("fid"),
        "mifid": score.get("mifid"),
        "features": score.get("features", {}).get("name", ""),
    }


class Target(NamedTuple):
    """What `kit score` was pointed at."""

    pictures: Path  # zip or folder of pictures
    data: Path | None  # the prepared set a run was trained on
    record: Path | None  # where a run keeps its score


def target(path: Path) -> Target:
    """The pictures of a run folder, or the zip or folder of pictures itself.

    Raises:
        KitError: a run without pictures, or a damaged record.
    """
    if not (path / "run.json").is_file():
        return Target(path, None, None)
    run = read_run(path)
    if not (path / "images.zip").is_file():
        raise KitError(f"{path}: this run has no images.zip (its state is {run['state']!r})", "train it to its end")
    return Target(path / "images.zip", Path(run["data"]["path"]), path / "score.json")
