"""Run folders: writing one while it trains, finding and reading them."""

from __future__ import annotations

import itertools
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kit.core.errors import KitError
from kit.core.files import atomic, disk_error
from kit.core.lock import claim_folder
from kit.core.records import from_json, to_json
from kit.training.run_record import RunRecord, State, TickRecord

log = logging.getLogger(__name__)

RECORD, PROGRESS, CHECKPOINT, IMAGES, SCORE = "run.json", "progress.jsonl", "checkpoint.pt", "images.zip", "score.json"

CANDIDATES = "candidates"


@dataclass
class Run:
    """A run folder and its record, which are kept alike."""

    path: Path
    record: RunRecord

    def save(self) -> None:
        """Writes `run.json`.

        Raises:
            KitError: the disk is full.
        """
        self.record.save(self.path / RECORD)

    def log(self, tick: TickRecord) -> None:
        """Appends a line to `progress.jsonl`.

        Raises:
            KitError: the disk is full.
        """
        path = self.path / PROGRESS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(_line(tick))
        except OSError as error:
            raise disk_error(error, path) from error

    def forget_after(self, pictures: int) -> None:
        """Drops the lines of `progress.jsonl` that a run which goes on from `pictures` will write again."""
        path = self.path / PROGRESS
        if not path.exists():
            return
        lines = [_line(tick) for tick in read_progress(self.path)[0] if tick.pictures <= pictures]
        with atomic(path) as file:
            file.write("".join(lines).encode())


def read_run(path: Path) -> RunRecord:
    """The `run.json` of a run folder.

    Raises:
        KitError: not a run, a damaged record, or one of another version.
    """
    return RunRecord.load(path / RECORD, remedy="name the folder of a run that this kit made: `kit runs` lists them")


def read_progress(path: Path) -> tuple[list[TickRecord], int]:
    """The ticks of a run folder, and how many damaged lines were left out.

    A process that is killed can leave half a line.
    """
    ticks: list[TickRecord] = []
    damaged = 0
    file = path / PROGRESS
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            ticks.append(from_json(TickRecord, json.loads(line, parse_constant=lambda _: None), source=PROGRESS))
        except (ValueError, RecursionError, KitError):
            damaged += 1
    return ticks, damaged


def _line(tick: TickRecord) -> str:
    """A tick as a line of JSON, which has no word for numbers that are not finite."""
    values = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in to_json(tick).items()
    }
    return json.dumps({key: value for key, value in values.items() if value not in (None, [])}) + "\n"


def folders(root: Path) -> list[Path]:
    """The run folders below a folder, the one that was worked on last at the end."""
    return [record.parent for record in sorted(root.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime)]


def claim_run(model: str, data: Path, root: Path = Path("runs")) -> Path:
    """Makes the first free `runs/MODEL-SET-N`; no two processes are given the same one."""
    return claim_folder(root / f"{model}-{data.name}-{number}" for number in itertools.count(1))


def newest_unfinished(root: Path = Path("runs")) -> Path:
    """The run that was worked on last and has not come to its end.

    Raises:
        KitError: there is none.
    """
    for run in reversed(folders(root)):
        if _state(run) not in ("finished", None):
            return run
    raise KitError(f"{root}: no run there that could go on", "`kit runs` lists them; name one with --out")


def _state(run: Path) -> State | None:
    """The state of a run; None, and a warning, where its record is damaged."""
    try:
        return read_run(run).state
    except KitError as error:
        log.warning("left out: %s", error.problem)
        return None


class Candidate(NamedTuple):
    """Which of a run's generators."""

    pictures: int  # that it had seen
    raw: bool = False  # G itself, not its average

    @property
    def file(self) -> str:
        """Its file in the run's folder."""
        return f"{CANDIDATES}/{self.pictures:010d}{'-raw' * self.raw}.pt"

    def __str__(self) -> str:
        return f"{self.pictures}{' (raw)' * self.raw}"


def candidate_files(path: Path) -> dict[Candidate, Path]:
    """The generators that a run kept on the way, by the pictures they had seen, ascending."""
    names = ((file, file.stem.partition("-")) for file in sorted((path / CANDIDATES).glob("*.pt")))
    return {
        Candidate(int(number), suffix == "raw"): file
        for file, (number, _, suffix) in names
        if number.isdigit() and suffix in ("", "raw")
    }


def generator_file(path: Path, *, pictures: int | None = None, raw: bool = False) -> Path:
    """The file with a run's generator.

    Args:
        path: the run folder.
        pictures: of a candidate, by the pictures it had seen; None: the one that `images.zip` is made of.
        raw: G itself in place of its average, of the last state where `pictures` is None.

    Raises:
        KitError: not a run, or no such candidate.
    """
    record, kept = read_run(path), candidate_files(path)
    last = Candidate(record.pictures)
    if pictures is None and not raw:
        result = record.result
        made_of = Candidate(result.pictures, result.raw) if result else last
        return kept.get(made_of, path / CHECKPOINT)
    wanted = Candidate(record.pictures if pictures is None else pictures, raw)
    if wanted == last:
        return path / CHECKPOINT
    if wanted not in kept:
        known = ", ".join(map(str, [*kept, last]))
        raise KitError(f"{path}: no {'raw ' * raw}candidate of {wanted.pictures} pictures", f"it has {known}")
    return kept[wanted]


class Target(NamedTuple):
    """What `kit score` was pointed at."""

    pictures: Path  # zip or folder of pictures
    data: Path | None  # the prepared set a run was trained on
    digest: str | None  # of that set
    record: Path | None  # where a run keeps its score


def newest_finished(root: Path = Path("runs")) -> Path:
    """The run that came to its end last.

    Raises:
        KitError: there is none.
    """
    for run in reversed(folders(root)):
        if _state(run) == "finished":
            return run
    raise KitError(f"{root}: no finished run there", "run `kit train` first")


def target(path: Path) -> Target:
    """The pictures of a run folder, or the zip or folder of pictures itself.

    Raises:
        KitError: a run without pictures, or a damaged record.
    """
    if not (path / RECORD).is_file():
        return Target(path, None, None, None)
    run = read_run(path)
    if not (path / IMAGES).is_file():
        raise KitError(f"{path}: this run has no {IMAGES} (its state is {run.state})", "train it to its end")
    return Target(path / IMAGES, Path(run.data.path), run.data.digest, path / SCORE)
