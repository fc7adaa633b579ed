"""The ledger: `submission.json` in each folder of `submissions/`, and the table of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.core.records import from_json, to_json
from kit.core.source_zip import SourceRecord as Source
from kit.training.run_folder import newest_finished, read_run
from kit.training.run_record import RunRecord

VERSION = 1

# The files of a submission's folder.
RECORD = "submission.json"
IMAGES = "images.zip"
SOURCE = "source.zip"
PREVIEW = "preview.png"

# What a submission reads of `score.json`; the rest is kept as it is.
SCORE_NEEDS = {"fid", "mifid", "features", "flags"}

State = Literal["packed", "sent", "scored", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """What `images.zip` is."""

    count: int
    bytes: int
    sha256: str  # of the file
    pixels_sha256: str  # of the decoded pixels, which outlives a change of zlib


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Written before something is sent, so that it is never sent twice."""

    id: str
    when: str  # ISO 8601, UTC
    message: str  # what Kaggle is told; it carries the id
    kernel: str | None  # owner/slug/version of a code submission; None: sent as a file
    refused: str | None = None  # why it is no submission, in Kaggle's words; None: it is one, or may be


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The kernel version on Kaggle that made the pictures."""

    version: str  # owner/slug/number
    receipt: str  # of its push; stands in its code's head
    pushed: str  # ISO 8601, UTC
    code: str  # name of its code file
    code_sha256: str  # of the code with its placeholders, as `kit kernel build` writes it
    recipe: str  # the content of its kernel.toml
    status: str  # Kaggle's last word


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What Kaggle last said about it."""

    ref: int  # Kaggle's number of the submission
    status: str  # PENDING, COMPLETE or ERROR
    public: float | None  # MiFID on the public board
    private: float | None
    error: str | None  # in Kaggle's words


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One folder of `submissions/`."""

    folder: Path
    name: str
    kit: str  # version of the kit that packed it
    packed: str  # ISO 8601, UTC
    competition: str  # slug
    run: RunRecord
    source: Source
    images: Images
    warnings: list[str]  # the lines of `kit check`: what the scorer would let pass
    scores: list[dict[str, Any]]  # local ones, each as `kit score` recorded it
    receipts: list[Receipt]
    answer: Answer | None
    kernel: Kernel | None = None  # None: made by `kit train` on some machine

    @property
    def sent(self) -> Receipt | None:
        """The receipt of what was sent, or may have been: it is never sent again."""
        return next((receipt for receipt in reversed(self.receipts) if receipt.refused is None), None)

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.answer and self.answer.status == "ERROR":
            return "rejected"
        if self.answer and self.answer.status == "COMPLETE":
            return "scored"
        return "sent" if self.sent or self.answer else "packed"

    def save(self, folder: Path | None = None) -> None:
        """Writes `submission.json`, by default into the submission's own folder."""
        record = {"version": VERSION} | {key: value for key, value in asdict(self).items() if key != "folder"}
        record["run"] = to_json(self.run)
        write_json((folder or self.folder) / RECORD, record)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All submissions, the newest first, and the folders whose record cannot be read."""

    submissions: list[Submission]
    damaged: list[KitError]


def load(folder: Path) -> Submission:
    """Reads a submission's record.

    Args:
        folder: a folder of `submissions/`.

    Raises:
        KitError: there is none; it is damaged, or was written by another version of the kit.
    """
    path = folder / RECORD
    record = read_json(path, remedy="give a folder that `kit pack` made")
    if not isinstance(record, dict):
        raise KitError(f"{path}: damaged (not an object)", _AGAIN)
    if record.get("version") != VERSION:
        raise KitError(
            f"{path}: version {record.get('version')!r}, and this kit reads version {VERSION}",
            "use the kit that wrote it (its source.zip lies beside it)",
        )
    values: dict[str, Any] = {key: value for key, value in record.items() if key != "version"}
    try:
        values["run"] = from_json(RunRecord, values["run"], source=f"{path}: run")
        values["source"] = _typed(Source, values["source"])
        values["images"] = _typed(Images, values["images"])
        values["receipts"] = [_typed(Receipt, receipt) for receipt in values["receipts"]]
        values["kernel"] = None if values.get("kernel") is None else _typed(Kernel, values["kernel"])
        values["answer"] = None if values["answer"] is None else _typed(Answer, values["answer"])
        submission = _typed(Submission, {"folder": folder, **values})
        if not all(isinstance(score, dict) and score.keys() >= SCORE_NEEDS for score in submission.scores):
            raise TypeError(f"a score without {', '.join(sorted(SCORE_NEEDS))}")
        return submission
    except (KeyError, TypeError) as error:
        raise KitError(f"{path}: damaged ({error})", _AGAIN) from error


def all_submissions(root: Path = Path("submissions")) -> Ledger:
    """Every submission under a folder; one that cannot be read does not hide the others."""
    submissions, damaged = [], []
    for path in sorted(root.glob(f"*/{RECORD}")):
        try:
            submissions.append(load(path.parent))
        except KitError as error:
            damaged.append(error)
    submissions.sort(key=lambda submission: (submission.packed, submission.name), reverse=True)
    return Ledger(submissions=submissions, damaged=damaged)


def newest(root: Path = Path("submissions")) -> Submission:
    """The submission packed last.

    Raises:
        KitError: there is none.
    """
    submissions = all_submissions(root).submissions
    if not submissions:
        raise KitError(f"{root}: no submission there", "run `kit pack RUN` first")
    return submissions[0]


def find(target: Path, root: Path = Path("submissions")) -> Submission:
    """The submission that a user means by a path or a name.

    Args:
        target: a submission's folder, its name under `root`, or a run folder that has been packed.
        root: where submissions lie.

    Raises:
        KitError: nothing of that name, or a run whose `images.zip` has not been packed.
    """
    for folder in (target, root / target):
        if (folder / RECORD).is_file():
            return load(folder)
    if not (target / "run.json").is_file():
        raise KitError(f"{target}: neither a submission nor a run", "`kit submissions` lists what there is")
    result = read_run(target).result
    wanted = result.sha256 if result else None
    for submission in all_submissions(root).submissions:
        if submission.images.sha256 == wanted:
            return submission
    raise KitError(f"{target}: this run has not been packed", f"run `kit pack {target}` first")


def chosen(target: Path | None, *, pack: Callable[[Path], Submission], say: Callable[[str], None]) -> Submission:
    """The submission that a user means, packed first where it is a run that has not been; says which one it takes.

    Args:
        target: see `find`; None: the newest submission, or where there is none the newest finished run.
        pack: makes a submission of a run folder.
        say: is told what is taken.

    Raises:
        KitError: there is nothing of that kind.
    """
    if target is None:
        submissions = all_submissions().submissions
        if submissions:
            say(f"taking {submissions[0].folder}, the newest submission")
            return submissions[0]
        run = newest_finished()
        say(f"packing {run}, the newest run: nothing has been packed yet")
        return pack(run)
    try:
        return find(target)
    except KitError:
        if not (target / "run.json").is_file():
            raise
    say(f"packing {target}")
    return pack(target)


_AGAIN = "pack its run again with `kit pack`"

Record = TypeVar("Record", Submission, Source, Images, Receipt, Kernel, Answer)


def _typed(kind: type[Record], values: Any) -> Record:
    """A record from JSON: none too many, each of its type, and all there but those with a default.

    Raises:
        TypeError: it is not so.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__.lower()} is no object")
    hints = get_type_hints(kind)
    for field in fields(kind):
        if field.name not in values and field.default is not MISSING:
            continue  # written by a kit that did not know it yet
        if field.name not in values:
            raise TypeError(f"no {field.name!r}")
        value, hint = values[field.name], hints[field.name]
        plain = getattr(hint, "__origin__", hint)  # list[str] → list: isinstance knows no parameters
        # A score of exactly 12 is written as 12.
        if not isinstance(value, plain) and not (type(value) is int and isinstance(float(value), plain)):
            raise TypeError(f"{field.name!r} is {value!r}")
    return kind(**values)
