"""`submission.json`: everything that makes a submission's bytes again, its receipts, and what Kaggle answered."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from kit.core.errors import KitError
from kit.core.lock import folder_lock
from kit.core.provenance import SourceRecord
from kit.core.records import Record
from kit.kaggle.exactly_once import Receipt
from kit.kaggle.versions import Version
from kit.scoring.score_record import Score, comparable
from kit.training import run_folder
from kit.training.run_record import ResultRecord, RunRecord

log = logging.getLogger(__name__)

# The files of a submission's folder.
RECORD = "submission.json"
IMAGES = "images.zip"
SOURCE = "source.zip"
PREVIEW = "preview.png"

State = Literal["packed", "sent", "scored", "rejected"]


@dataclass(frozen=True, kw_only=True)
class ImagesRecord:
    """What `images.zip` is."""

    count: int
    bytes: int
    sha256: str  # of the file
    pixels_sha256: str  # of the decoded pixels, which outlives a change of zlib


@dataclass(frozen=True, kw_only=True)
class SubmissionReceipt(Receipt):
    """One sending of the submission; its `ref` is Kaggle's number of it."""

    message: str  # what Kaggle shows beside the score; it begins with the id
    kernel: str | None  # owner/slug/number of a code submission; None: sent as a file


@dataclass(frozen=True, kw_only=True)
class KernelVersion:
    """The kernel version on Kaggle that made the pictures; raises `KitError` where it is not owner/slug/number."""

    version: str  # owner/slug/number
    receipt: str  # of its push; stands in its code's head
    pushed: str  # ISO 8601, UTC
    code: str  # name of its code file
    code_sha256: str  # of the code with its placeholders, as `kit kernel build` writes it
    recipe: str  # the content of its kernel.toml
    status: str  # Kaggle's last word

    def __post_init__(self) -> None:
        self.parsed()

    def parsed(self) -> Version:
        """The version in its parts."""
        owner, slug, number = [*self.version.split("/"), "", ""][:3]
        if not (owner and slug and number.isdecimal() and len(number) < 10 and self.version.count("/") == 2):
            raise KitError(f"version is {self.version!r}, not owner/slug/number")
        return Version(owner, slug, int(number))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What Kaggle last said about it."""

    ref: int  # Kaggle's number of the submission
    status: str  # PENDING, COMPLETE or ERROR
    public: float | None  # MiFID on the public board
    private: float | None
    error: str | None  # in Kaggle's words


@dataclass(frozen=True, kw_only=True)
class Submission(Record):
    """One folder of `submissions/`; raises `KitError` for a name that is no folder's, or a run without pictures."""

    FORMAT: ClassVar[str] = "kit-submission"
    VERSION: ClassVar[int] = 2

    name: str
    kit: str  # version of the kit that packed it
    packed: str  # ISO 8601, UTC
    competition: str  # slug
    run: RunRecord  # recipe, seed, data digest, versions, device, plans, parts, …
    source: SourceRecord
    images: ImagesRecord
    warnings: list[str]  # the lines of `kit check`: what the scorer would let pass
    scores: list[Score]  # local ones, the last is the newest
    receipts: list[SubmissionReceipt]
    answer: Answer | None
    kernel: KernelVersion | None = None  # None: made by `kit train` on some machine
    folder: Path = field(default=Path(), metadata={"json": False})

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise KitError(f"name is {self.name!r}, not that of a folder")
        if self.run.result is None:
            raise KitError("run.result is None: the run made no images.zip")

    @property
    def result(self) -> ResultRecord:
        """What the run says of its `images.zip`."""
        assert self.run.result is not None  # see __post_init__
        return self.run.result

    @property
    def images_zip(self) -> Path:
        return self.folder / IMAGES

    @property
    def sent(self) -> SubmissionReceipt | None:
        """The receipt of what was sent, or may have been."""
        return next((receipt for receipt in reversed(self.receipts) if receipt.refused is None), None)

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.answer and self.answer.status == "ERROR":
            return "rejected"
        if self.answer and self.answer.status == "COMPLETE":
            return "scored"
        return "sent" if self.sent or self.answer else "packed"

    def update(self, **changes: Any) -> Submission:
        """Another record with these fields changed, which is on the disk before it is returned.

        Only for a holder of the folder's lock, who read the record after taking it.
        """
        changed = dataclasses.replace(self, **changes)
        changed.save(changed.folder / RECORD)
        return changed


def load(folder: Path) -> Submission:
    """Reads a submission's record; raises where there is none, or one that is damaged or of another version."""
    found = Submission.load(folder / RECORD, remedy="give a folder that this kit's `kit pack` made, or pack it again")
    return dataclasses.replace(found, folder=folder)


def locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps other commands from changing a submission while a block lasts; raises where one is at it."""
    return folder_lock(folder, remedy="wait until that one is done")


def read_all(root: Path = Path("submissions")) -> tuple[list[Submission], dict[Path, KitError]]:
    """Every submission under a folder, the newest first; and what is wrong with each that cannot be read."""
    submissions: list[Submission] = []
    damaged: dict[Path, KitError] = {}
    for path in sorted(root.glob(f"*/{RECORD}")):
        if path.parent.name.startswith("."):  # what an older kit was writing when it was killed
            continue
        try:
            submissions.append(load(path.parent))
        except KitError as error:
            damaged[path.parent] = error
    submissions.sort(key=lambda submission: (submission.packed, submission.name), reverse=True)
    return submissions, damaged


def newest(root: Path = Path("submissions")) -> Submission | None:
    """The submission packed last; None where there is none. One that cannot be read is told and left out."""
    submissions, damaged = read_all(root)
    for error in damaged.values():
        log.warning("%s", error)
    return submissions[0] if submissions else None


def find(target: Path, root: Path = Path("submissions")) -> Submission:
    """The submission that a user means by its folder, its name under `root`, or a run folder that has been packed.

    Raises:
        KitError: nothing of that name, or a run whose `images.zip` has not been packed.
    """
    for folder in (target, root / target):
        if (folder / RECORD).is_file() and not folder.name.startswith("."):
            return load(folder)
    if not (target / run_folder.RECORD).is_file():
        raise KitError(f"{target}: neither a submission nor a run", "`kit submissions` lists what there is")
    result = run_folder.read_run(target).result
    for submission in read_all(root)[0]:
        if result and submission.images.sha256 == result.sha256:
            return submission
    raise KitError(f"{target}: this run has not been packed", f"run `kit pack {target}` first")


def find_or_pack(target: Path | None, *, pack: Callable[[Path], Submission]) -> Submission:
    """The submission that a user means (see `find`), packed first where it is a run that has not been.

    None means the newest submission, or where there is none the newest finished run; raises where there is neither.
    """
    if target is None:
        submission = newest()
        if submission:
            log.info("%s: the newest submission", submission.folder)
            return submission
        target = run_folder.newest_finished()
    elif not (target / run_folder.RECORD).is_file():
        return find(target)
    else:
        with contextlib.suppress(KitError):
            return find(target)
    log.info("packing %s", target)
    return pack(target)


# ---- the table of `kit submissions`: local scores beside the competition's own, and how well they agree

COLUMNS = ("submission", "model", "packed (UTC)", "pictures", "FID", "MiFID", "taken on", "public", "private", "state")

LEAST = 3
"""Submissions for a rank correlation: two points always lie in order or against it."""

Measure = Literal["mifid", "fid"]
Board = Literal["public", "private"]

NAMES: dict[Measure, str] = {"mifid": "MiFID", "fid": "FID"}
BOARDS: tuple[Board, ...] = ("public", "private")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of `kit submissions`. Scores taken on other features do not compare, so it is sorted by time only."""

    name: str
    model: str = ""
    packed: str = ""  # ISO 8601, UTC
    count: int | None = None  # pictures
    fid: float | None = None  # local
    mifid: float | None = None  # local; None also where the features have no ε
    features: str = ""  # what the local scores were taken on
    flags: tuple[str, ...] = ()  # what is said beside them, "uncalibrated" for one
    public: float | None = None
    private: float | None = None
    state: State | Literal["damaged"]
    problem: str = ""  # of a damaged one

    def cells(self) -> list[str]:
        """The row as text, one cell for each of COLUMNS; what is not known is a dash."""
        words = [self.name, self.model, self.packed[:16].replace("T", " "), f"{self.count:,}" if self.count else ""]
        words += [_number(self.fid), _number(self.mifid), ", ".join([self.features, *self.flags])]
        words += [_number(self.public), _number(self.private), self.state]
        return [word or "–" for word in words]


def row(submission: Submission) -> Row:
    """What the table shows of a submission; of several local scores the last."""
    score = submission.scores[-1] if submission.scores else None
    answer = submission.answer
    return Row(
        name=submission.name,
        model=submission.run.recipe.model,
        packed=submission.packed,
        count=submission.images.count,
        fid=score.fid if score else None,
        mifid=score.mifid if score else None,
        features=score.features.name if score else "",
        flags=tuple(score.flags) if score else (),
        public=answer.public if answer else None,
        private=answer.private if answer else None,
        state=submission.state,
    )


def damaged_row(folder: Path, error: KitError) -> Row:
    """The line of a submission whose record cannot be read."""
    return Row(name=folder.name, state="damaged", problem=str(error))


@dataclass(frozen=True)
class LeaderboardCorrelation:
    """The rank correlation of a local measure with a board."""

    measure: Measure
    features: str  # that the local scores were taken on
    board: Board
    count: int  # submissions
    rho: float  # Spearman's ρ, −1 to 1; 1: the local scores rank submissions as the board does

    def line(self) -> str:
        """It for a person to read."""
        return (
            f"rank correlation of local {NAMES[self.measure]} ({self.features}) with the {self.board} score: "
            f"{self.rho:.2f} over {self.count} submissions"
        )


def leaderboard_correlations(submissions: Sequence[Submission]) -> list[LeaderboardCorrelation]:
    """The rank correlation of each local measure with each board, where there are enough comparable scores.

    Scores that differ in network, reference or counts are in different rankings; of each submission the last local
    score counts.
    """
    from scipy.stats import spearmanr

    found = []
    for group in _comparable(submissions):
        for measure, board in itertools.product(NAMES, BOARDS):
            pairs = [(getattr(score, measure), getattr(submission.answer, board, None)) for submission, score in group]
            pairs = [pair for pair in pairs if None not in pair]
            ours: list[float] = [local for local, _ in pairs]
            theirs: list[Any] = [kaggle for _, kaggle in pairs]
            # Of too few, or where all are alike, there is no order to agree on.
            if len(pairs) >= LEAST and len(set(ours)) > 1 and len(set(theirs)) > 1:
                rho, features = float(spearmanr(ours, theirs).statistic), group[0][1].features.name
                found.append(LeaderboardCorrelation(measure, features, board, len(pairs), rho))
    return found


def _comparable(submissions: Sequence[Submission]) -> list[list[tuple[Submission, Score]]]:
    groups: list[list[tuple[Submission, Score]]] = []
    for submission in submissions:
        if not submission.scores:
            continue
        score = submission.scores[-1]
        for group in groups:
            other, first = group[0]
            if submission.competition == other.competition and comparable(first, score) is None:
                group.append((submission, score))
                break
        else:
            groups.append([(submission, score)])
    return groups


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
