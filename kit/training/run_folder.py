"""Run folders: writing one while it trains, finding and reading them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kit.core.errors import KitError
from kit.core.files import atomic, disk_error, read_json, write_json

VERSION = 1
RECORD, PROGRESS, CHECKPOINT, IMAGES, SCORE = "run.json", "progress.jsonl", "checkpoint.pt", "images.zip", "score.json"

CANDIDATES = "candidates"


@dataclass
class Run:
    """A run folder with its `run.json`, kept up to date on disk."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    def update(self, **changes: object) -> None:
        """Changes the record and writes it."""
        self.record |= changes
        write_json(self.path / RECORD, self.record)

    def log(self, line: dict[str, Any]) -> None:
        """Appends a line to `progress.jsonl`.

        Raises:
            KitError: the disk is full.
        """
        path = self.path / PROGRESS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise disk_error(error, path) from error

    def forget_after(self, pictures: int) -> None:
        """Drops the lines of `progress.jsonl` that a run which goes on from `pictures` will write again."""
        path = self.path / PROGRESS
        if not path.exists():
            return
        lines = [line for line in progress(self.path)[0] if line["pictures"] <= pictures]
        with atomic(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def read_run(path: Path) -> dict[str, Any]:
    """The `run.json` of a run folder.

    Raises:
        KitError: not a run, a damaged record, or one of another version.
    """
    record = read_json(path / RECORD, remedy=f"is {path} the folder of a run?")
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise KitError(f"{path / RECORD}: a run of version {version}", f"this kit reads version {VERSION}")
    return dict(record)


def progress(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The ticks of a run folder, and how many damaged lines were passed over.

    A process that is killed can leave half a line.
    """
    ticks: list[dict[str, Any]] = []
    damaged = 0
    file = path / PROGRESS
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            tick = json.loads(line)
        except ValueError:
            tick = None
        if isinstance(tick, dict) and isinstance(tick.get("pictures"), int):
            ticks.append(tick)
        else:
            damaged += 1
    return ticks, damaged


def folders(root: Path) -> list[Path]:
    """The run folders below a folder, the one that was worked on last at the end."""
    return [record.parent for record in sorted(root.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime)]


def default_run(model: str, data: Path, root: Path = Path("runs")) -> Path:
    """The first free `runs/MODEL-SET-N`."""
    taken = {path.name for path in root.glob(f"{model}-{data.name}-*")}
    number = 1
    while f"{model}-{data.name}-{number}" in taken:
        number += 1
    return root / f"{model}-{data.name}-{number}"


def newest_unfinished(root: Path = Path("runs")) -> Path:
    """The run that was worked on last and has not come to its end.

    Raises:
        KitError: there is none.
    """
    for run in reversed(folders(root)):
        if read_run(run)["state"] != "finished":
            return run
    raise KitError(f"{root}: no run there that could go on", "`kit runs` lists them; name one with --out")


def candidate_files(path: Path) -> dict[int, Path]:
    """The averages of its generator that a run kept on the way, by the pictures they had seen, ascending."""
    return {int(file.stem): file for file in sorted((path / CANDIDATES).glob("*.pt")) if file.stem.isdigit()}


def generator_file(path: Path, *, pictures: int | None = None) -> Path:
    """The file with a run's generator.

    Args:
        path: the run folder.
        pictures: of a candidate, by the pictures it had seen; None: the one that `images.zip` is made of.

    Raises:
        KitError: not a run, or no such candidate.
    """
    record, kept = read_run(path), candidate_files(path)
    if pictures is None:
        made_of = int((record.get("result") or record)["pictures"])
        return kept.get(made_of, path / CHECKPOINT)
    if pictures == record["pictures"]:
        return path / CHECKPOINT
    if pictures not in kept:
        known = ", ".join(f"{number}" for number in [*kept, record["pictures"]])
        raise KitError(f"{path}: no candidate of {pictures} pictures", f"it has {known}")
    return kept[pictures]


class Target(NamedTuple):
    """What `kit score` was pointed at."""

    pictures: Path  # zip or folder of pictures
    data: Path | None  # the prepared set a run was trained on
    record: Path | None  # where a run keeps its score


def newest_finished(root: Path = Path("runs")) -> Path:
    """The run that came to its end last.

    Raises:
        KitError: there is none.
    """
    for record in sorted(root.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime, reverse=True):
        if read_run(record.parent)["state"] == "finished":
            return record.parent
    raise KitError(f"{root}: no finished run there", "run `kit train` first")


def target(path: Path) -> Target:
    """The pictures of a run folder, or the zip or folder of pictures itself.

    Raises:
        KitError: a run without pictures, or a damaged record.
    """
    if not (path / RECORD).is_file():
        return Target(path, None, None)
    run = read_run(path)
    if not (path / IMAGES).is_file():
        raise KitError(f"{path}: this run has no {IMAGES} (its state is {run['state']!r})", "train it to its end")
    return Target(path / IMAGES, Path(run["data"]["path"]), path / SCORE)
