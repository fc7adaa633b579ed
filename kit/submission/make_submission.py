"""From a run to a folder of `submissions/`, which holds all it takes to make the same bytes again."""

from __future__ import annotations

import contextlib
import filecmp
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kit import __version__, competition
from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import atomic, disk_error, sha256
from kit.core.progress import Progress, no_progress
from kit.core.provenance import SourceRecord, read_source, tree_digest, write_files, write_source
from kit.data.grid import make_grid
from kit.data.prepared_set import load as load_set
from kit.generation.pictures import read_pictures
from kit.generation.validate import Report, check
from kit.kaggle.kernel_spec import SLUG_LEAST, KernelSpec, spec_text
from kit.kaggle.kernels import read_kernel
from kit.kaggle.pushes import Push
from kit.models import registry
from kit.models.recipe import Recipe
from kit.scoring.score_record import REMEDY, Score
from kit.submission import submission_record
from kit.submission.submission_record import (
    IMAGES,
    PREVIEW,
    RECORD,
    SOURCE,
    ImagesRecord,
    KernelVersion,
    Submission,
    locked,
)
from kit.training import run_folder
from kit.training.run_record import DataRecord, ResultRecord, RunRecord

log = logging.getLogger(__name__)

# The grid of preview.png.
PREVIEW_COUNT = 64
PREVIEW_COLUMNS = 8

MARKER = ".being-packed"
"""Lies in a new folder until it is a submission: what a killed `kit pack` left can be told from a user's files."""


def make_submission(
    run: Path,
    *,
    out: Path | None = None,
    root: Path = Path("submissions"),
    kernel: KernelVersion | None = None,
    progress: Progress = no_progress,
) -> Submission:
    """Packs a run: `images.zip`, `source.zip`, `preview.png`, and at last `submission.json`, which makes it one.

    Packing the same pictures again brings the local scores up to date and keeps receipts and answers. Other files in
    the folder are left alone.

    Args:
        run: a run folder with its `images.zip`; where it holds a `source.zip`, that is the code that ran.
        out: the folder to write; None: the run's name under `root`.
        root: where submissions lie.
        kernel: the version on Kaggle that this run is the output of; None: it was made by `kit train`.
        progress: counts pictures checked.

    Raises:
        KitError: not a run, or one without a whole `images.zip`; pictures that the scorer would reject; something else
            in the folder; the code that ran is gone; another command works on the submission.
    """
    record = run_folder.read_run(run)
    if record.result is None:
        problem = f"{run}: no finished images.zip (its state is {record.state}{', ' * bool(record.why)}{record.why})"
        raise KitError(problem, "wait until the run ends, or train again")
    if Path(record.name).name != record.name or record.name in ("", ".."):
        raise KitError(f"{run / run_folder.RECORD}: name is {record.name!r}, not that of a folder")
    rules = competition.get(record.competition)
    out = out or root / record.name
    _require_free(out)
    # The number is compared with what the run was asked for, so that a trial run can be packed; `kit submit` compares
    # with the competition.
    report = _checked(run, record, record.result, progress=progress)
    scores, stale = _scores(run, record.result)
    with tempfile.TemporaryDirectory(prefix="kit-pack-") as name, _folder(out):
        code = Path(name) / SOURCE
        source = _source(run, record, code)
        old = submission_record.load(out) if (out / RECORD).exists() else None
        if old and old.images.sha256 != report.sha256:
            raise KitError(f"{out} holds another submission already", "choose another --out, or remove it first")
        submission = Submission(
            folder=out,
            name=out.name,
            kit=__version__,
            packed=old.packed if old else datetime.now(UTC).isoformat(timespec="seconds"),
            competition=rules.slug,
            run=record,
            source=source,
            images=ImagesRecord(
                count=report.count,
                bytes=(run / IMAGES).stat().st_size,
                sha256=report.sha256,
                pixels_sha256=record.result.pixels_sha256,
            ),
            warnings=[*report.lines(), *stale],
            scores=scores,
            receipts=old.receipts if old else [],
            answer=old.answer if old else None,
            kernel=kernel or (old.kernel if old else None),
        )
        _put(code, out / SOURCE)
        _put(run / IMAGES, out / IMAGES)
        if sha256(out / IMAGES) != report.sha256:
            raise KitError(f"{run / IMAGES} was changed while it was packed", "pack it again")
        _preview(out)
        return submission.update()


def submission_of_push(push: Push, *, root: Path = Path("submissions"), progress: Progress = no_progress) -> Submission:
    """Makes a submission of what a kernel's version left and was fetched; a second time it is the one made first.

    Raises:
        KitError: the version failed, or the output is another push's or no submission.
    """
    folder, version = push.output, push.version
    if push.submission and (root / push.submission / RECORD).is_file():
        return submission_record.load(root / push.submission)
    if push.failed:
        raise KitError(
            f"{version} ended as {push.status}: Kaggle takes only versions that ran to their end",
            f"what it left lies in {folder}",
        )
    record = run_folder.read_run(folder)
    receipt = record.kernel.receipt if record.kernel else None
    if receipt != push.receipt.id:
        raise KitError(
            f"{folder}: the output of another push (receipt {receipt}, not {push.receipt.id})",
            f"see which version is which at {version.page}",
        )
    carried = read_kernel(push.folder / push.code)
    write_files(carried.files, folder / SOURCE)
    submission = make_submission(
        folder,
        out=root / f"{push.slug}-v{version.number}",
        kernel=KernelVersion(
            version=str(version),
            receipt=push.receipt.id,
            pushed=push.receipt.when,
            code=push.code,
            code_sha256=carried.digest,
            recipe=spec_text(carried.spec),
            status=push.status,
        ),
        progress=progress,
    )
    push.update(submission=submission.name)
    log.info("%s: the run itself, for `kit sample` and `kit report`", folder)
    return submission


def kernel_from_run(submission: Submission) -> KernelSpec:
    """The kernel that trains what a local submission's run trained: same model, settings, seed, crop and size.

    The budget is the run's own, where it had one; so is the crop policy, if its prepared set is still here, and else it
    is the competition's.

    Raises:
        KitError: the recipe or the budget is none that a kernel can have.
    """
    run = submission.run
    if run.recipe.source:
        raise KitError(
            f"{submission.name}: {run.recipe.model} was made by a model file of its own, which is code",
            "build its kernel with `kit kernel build --model FILE.py --slug NAME`, then `kit kernel run NAME`",
        )
    spec = KernelSpec(
        slug=_slug(submission.name),
        model=run.recipe.model,
        budget=show_duration(run.budget_s) if run.budget_s else KernelSpec.budget,
        competition=submission.competition,
        seed=run.seed,
        crop=_crop(run.data),
        size=run.data.size,
        settings=_settings(run.recipe),
    )
    if registry.get(spec.model).override(list(spec.settings)) != run.recipe:
        raise KitError(
            f"{submission.name}: this kit's {spec.model} cannot be set to what the run's was",
            "write a kernels/SLUG/kernel.toml by hand, then `kit kernel run SLUG`",
        )
    return spec


# ---- packing


def _require_free(out: Path) -> None:
    """Refuses a folder that holds something and is no submission, nor what a killed `kit pack` left of one."""
    if not out.exists() or (out / RECORD).is_file() or (out / MARKER).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise KitError(f"{out} exists already and is no submission", "choose another --out")


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Holds the folder's lock while it is filled; of a new one that is no submission in the end nothing is left."""
    with locked(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
            if not (out / RECORD).exists():
                (out / MARKER).touch()
        except OSError as error:
            raise disk_error(error, out) from error
        try:
            yield
        finally:
            names = (IMAGES, SOURCE, PREVIEW, RECORD)
            ours = [path for name in names for path in out.glob(f".{name}.*.part")]
            if not (out / RECORD).exists():
                ours += [out / name for name in names]
            for path in (*ours, out / MARKER):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is a submission, or holds what is not the kit's
                out.rmdir()


def _checked(run: Path, record: RunRecord, result: ResultRecord, *, progress: Progress) -> Report:
    """The report of `kit check` on a run's pictures, which are those that its record describes."""
    path = run / IMAGES
    if not path.is_file():
        raise KitError(f"{path}: no such file", "train again")
    report = check(path, competition=competition.get(record.competition), count=record.count, progress=progress)
    if report.sha256 != result.sha256:
        raise KitError(
            f"{path} is not the file that run.json describes (SHA-256 {report.sha256[:12]}…, not "
            f"{result.sha256[:12]}…)",
            "it was changed or cut after the run: train again",
        )
    if report.errors:
        more = f" and {len(report.errors) - 1:,} more" if len(report.errors) > 1 else ""
        raise KitError(f"{path}: {report.errors[0]}{more}", f"see `kit check {path}`")
    if report.pixels_sha256 != result.pixels_sha256:
        raise KitError(
            f"{path} decodes to other pixels here than where it was made",
            "pack it with the versions of Pillow that run.json names",
        )
    return report


def _source(run: Path, record: RunRecord, out: Path) -> SourceRecord:
    """Writes the code that ran: the run's own copy, or the kit as it is now where that is the same."""
    kept = run / SOURCE
    if kept.is_file():
        files = read_source(kept)
        if tree_digest(files) != record.tree:
            raise KitError(f"{kept} is not the code that run.json describes", "train again")
        shutil.copyfile(kept, out)
        return SourceRecord(sha256=sha256(out), tree=record.tree, commit=record.commit, dirty=record.dirty)
    source = write_source(out)
    if source.tree != record.tree:
        raise KitError(
            f"{run}: the kit has changed since this run, and the run kept no source.zip",
            f"check out {record.commit[:12]} and pack it there"
            if record.commit and not record.dirty
            else "train again",
        )
    return source


def _put(source: Path, target: Path) -> None:
    """The same file under another name, whole or not at all: as a second link where the disk knows such."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            os.link(source, part)  # 90 MB need not be there twice
        except OSError:
            with atomic(target) as file, source.open("rb") as original:
                shutil.copyfileobj(original, file)
            return
        part.replace(target)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def _preview(folder: Path) -> None:
    pictures = [pixels for _, pixels in read_pictures(folder / IMAGES, limit=PREVIEW_COUNT)]
    with atomic(folder / PREVIEW) as file:
        make_grid(np.stack(pictures), columns=PREVIEW_COLUMNS).save(file, "PNG")


def _scores(run: Path, result: ResultRecord) -> tuple[list[Score], list[str]]:
    """The run's local scores, and what is to be said of one that was left out."""
    path = run / run_folder.SCORE
    if not path.exists():
        return [], []
    found = Score.load(path, remedy=REMEDY)
    if found.stale(result.sha256):
        return [], [f"{path.name} is of another images.zip and was left out"]
    return [found], []


# ---- a kernel like a run


def _settings(recipe: Recipe) -> tuple[str, ...]:
    """What differs from the model's row, as KEY=VALUE; the width always, where a kernel would choose one."""
    row = registry.get(recipe.model)
    usual = row.recipe
    different = {
        field.name: getattr(recipe, field.name)
        for field in fields(Recipe)
        if getattr(recipe, field.name) != getattr(usual, field.name) or (row.ladder and field.name == "width")
    }
    return tuple(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in different.items()
    )


def _crop(data: DataRecord) -> str | None:
    """The crop policy of a run's set; None where the set is gone or has been prepared anew."""
    try:
        prepared = load_set(Path(data.path))
    except KitError:
        return None
    return prepared.record.crop.policy if prepared.digest == data.digest else None


def _slug(name: str) -> str:
    """A name as Kaggle takes it: the same for the same submission, so that a second call finds the first one's push."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug if len(slug) >= SLUG_LEAST else f"kernel-{slug}"
