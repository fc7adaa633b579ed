"""`kit pack`: from a run to a folder of `submissions/` that holds all it takes to make the same bytes again."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kit import __version__, competition
from kit.core.errors import KitError
from kit.core.files import atomic, atomic_folder, sha256
from kit.core.progress import Progress, no_progress
from kit.core.provenance import tree_digest
from kit.core.source_zip import SourceRecord as Source
from kit.core.source_zip import read_source, write_source
from kit.data.grid import make_grid
from kit.generation.pictures import read_pictures
from kit.generation.validate import Report, check
from kit.scoring.score_record import REMEDY, Score
from kit.submission import ledger
from kit.submission.ledger import Images, Kernel, Submission
from kit.training.run_folder import read_run
from kit.training.run_record import ResultRecord, RunRecord

# The grid of preview.png.
PREVIEW_COUNT = 64
PREVIEW_COLUMNS = 8


def make_submission(
    run: Path,
    *,
    out: Path | None = None,
    root: Path = Path("submissions"),
    kernel: Kernel | None = None,
    progress: Progress = no_progress,
) -> Submission:
    """Packs a run: `submission.json`, `source.zip`, `preview.png`, `images.zip`, all or nothing.

    Packing the same pictures again brings the local scores up to date and keeps receipts and answers.

    Args:
        run: a run folder with its `images.zip`; where it holds a `source.zip`, that is the code that ran.
        out: the folder to write; default: the run's name under `root`.
        root: where submissions lie.
        kernel: the version on Kaggle that this run is the output of; None: it was made by `kit train`.
        progress: called with (pictures checked, pictures in all).

    Raises:
        KitError: not a run, or one without a whole `images.zip`; pictures that the scorer would reject; another
            submission in the folder; the code that ran is gone.
    """
    record, result = packable(run)
    out = out or root / record.name
    old = _standing(out, result.sha256)
    rules = competition.get(record.competition)
    with atomic_folder(out) as part:
        _link_or_copy(run / ledger.IMAGES, part / ledger.IMAGES)
        # Its number is compared with what the run was asked for, so that a trial run can be packed;
        # `kit submit` compares with the competition.
        report = check(part / ledger.IMAGES, competition=rules, count=record.count, progress=progress)
        _verify(report, result, run)
        source = _source(run, record, part / ledger.SOURCE)
        _preview(part)
        scores, stale = _scores(run, record)
        submission = Submission(
            folder=out,
            name=out.name,
            kit=__version__,
            packed=old.packed if old else datetime.now(UTC).isoformat(timespec="seconds"),
            competition=rules.slug,
            run=record,
            source=source,
            images=Images(
                count=report.count,
                bytes=(part / ledger.IMAGES).stat().st_size,
                sha256=report.sha256,
                pixels_sha256=result.pixels_sha256,
            ),
            warnings=[*report.lines(), *stale],
            scores=scores,
            receipts=old.receipts if old else [],
            answer=old.answer if old else None,
            kernel=kernel or (old.kernel if old else None),
        )
        submission.save(part)
    return submission


def packable(run: Path) -> tuple[RunRecord, ResultRecord]:
    """A run's `run.json`, and what it says of `images.zip`.

    Raises:
        KitError: not a run; damaged, or of another version; it has no `images.zip` yet.
    """
    record = read_run(run)
    if Path(record.name).name != record.name:
        raise KitError(f"{run}: damaged (the name {record.name!r} is no folder's name)")
    if record.result is None:
        raise KitError(
            f"{run}: no finished images.zip (state {record.state!r} {record.why})",
            "wait until the run ends, or train again",
        )
    return record, record.result


def _standing(out: Path, images_sha256: str) -> Submission | None:
    """The submission that stands in the folder already, if it has the same pictures."""
    if not out.exists():
        return None
    if not (out / ledger.RECORD).is_file():
        raise KitError(f"{out} exists already and is no submission", "choose another --out")
    old = ledger.load(out)
    if old.images.sha256 != images_sha256:
        raise KitError(f"{out} holds another submission already", "choose another --out, or remove it first")
    return old


def _link_or_copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise KitError(f"{source}: no such file", "train again")
    try:
        os.link(source, target)  # a second name for the same bytes: 90 MB need not be there twice
    except OSError:
        shutil.copyfile(source, target)  # another disk, or one that knows no links


def _verify(report: Report, result: ResultRecord, run: Path) -> None:
    where = run / ledger.IMAGES
    if report.sha256 != result.sha256:
        raise KitError(
            f"{where} is not the file that run.json describes (SHA-256 {report.sha256[:12]}…, "
            f"not {result.sha256[:12]}…)",
            "it was changed or cut after the run: train again",
        )
    if report.errors:
        more = f" and {len(report.errors) - 1:,} more" if len(report.errors) > 1 else ""
        raise KitError(f"{where}: {report.errors[0]}{more}", f"see `kit check {where}`")
    if report.pixels_sha256 != result.pixels_sha256:
        raise KitError(
            f"{where} decodes to other pixels here than where it was made",
            "pack it with the versions of Pillow that run.json names",
        )


def _source(run: Path, record: RunRecord, out: Path) -> Source:
    """The code that ran: the run's own copy, or the kit as it is now where that is the same."""
    kept = run / ledger.SOURCE
    if kept.is_file():
        tree = tree_digest(read_source(kept))
        if tree != record.tree:
            raise KitError(f"{kept} is not the code that run.json describes", "train again")
        shutil.copyfile(kept, out)
        return Source(sha256=sha256(out), tree=tree, commit=record.commit, dirty=record.dirty)
    source = write_source(out)
    if source.tree != record.tree:
        commit = record.commit
        raise KitError(
            f"{run}: the kit has changed since this run, and the run kept no source.zip",
            f"check out {commit[:12]} and pack it there" if commit and not record.dirty else "train again",
        )
    return source


def _preview(part: Path) -> None:
    pictures = [pixels for _, pixels in read_pictures(part / ledger.IMAGES, limit=PREVIEW_COUNT)]
    with atomic(part / ledger.PREVIEW) as file:
        make_grid(np.stack(pictures), columns=PREVIEW_COLUMNS).save(file, "PNG")


def _scores(run: Path, record: RunRecord) -> tuple[list[dict[str, Any]], list[str]]:
    """The run's local scores, and what is to be said of one that was left out."""
    path = run / "score.json"
    if not path.exists():
        return [], []
    found = Score.load(path, remedy=REMEDY)
    if found.stale(record.result.sha256 if record.result else None):
        return [], [f"{path.name} is of another images.zip and was left out"]
    return [found.to_json()], []
