"""`kit data`: from a source of pictures to a prepared set on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import atomic_folder, clear_leftovers, require_space, sha256
from kit.core.lock import folder_lock
from kit.core.progress import Progress, no_progress
from kit.core.records import is_record
from kit.data import idx
from kit.data.crop_worker import CropJob, outcomes
from kit.data.crops import CROPS, FILTER, MAX_CANVAS_ASPECT, REDUCING_GAP, CropSettings
from kit.data.decoding import KEEP
from kit.data.grid import sample_grid
from kit.data.prepared_set import RECORD, WRITTEN, CropRecord, DatasetRecord, HoldoutRecord, PreparedSet, Rejected, load
from kit.data.set_writer import PrepareStats, SetWriter
from kit.data.sources import INPUTS, Collection, collect, collect_inputs
from kit.data.tree import Tree, open_tree, printable

log = logging.getLogger(__name__)

SIZES = tuple(sorted(base << k for base in (4, 5, 6, 7) for k in range(2, 7) if 16 <= base << k <= 256))
"""Sides that a network can grow to: b·2^k with b from 4 to 7."""


def prepare(
    source: Path,
    *,
    competition: Competition,
    out: Path,
    inputs: Path | None = None,
    crop: CropSettings | None = None,
    size: int | None = None,
    channels: int | None = None,
    holdout: float = 0.05,
    max_rejected: float = 0.05,
    keep_duplicates: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> PreparedSet:
    """Makes a prepared set, whole or not at all; where the same set stands already, nothing changes.

    Single files that are invalid are repaired or left out, listed and counted. The result depends on the pictures and
    the settings, not on how the source is packed, nor on the number of workers.

    Args:
        source: a folder or a zip, see `kit.data.sources.collect`; or one IDX file.
        competition: whose folders are looked for, and whose size and crop policy are the defaults.
        out: the set's folder. A set that is there is replaced; files in it that are not of the set stay.
        inputs: a folder or a zip of pictures to be translated into ones like the source's; None: those of the
            competition's own folder, if it has one.
        crop: policy, margins, and filters on the shape of boxes.
        size: side of a sample in pixels, one of SIZES; None: the competition's, or the digits' own 28.
        channels: 1 for grey, 3 for RGB; None: what suits the source.
        holdout: share of the pictures never to be trained on, 0 to below 1. All samples of a picture and of its exact
            duplicates are on one side; the file's bytes and the seed decide which. Pictures to be translated are not
            held out.
        max_rejected: share of the pictures that may be left out as invalid, 0 to 1.
        keep_duplicates: keep files of the very same bytes; otherwise the first of them is kept.
        seed: decides the hold-out.
        workers: processes; None: see `kit.data.crop_worker.outcomes`.
        progress: called with pictures done and in all.

    Raises:
        KitError: the source cannot be used, nothing is left of it, too much had to be rejected, the disk is full, or
            the folder holds what is not the kit's.
    """
    settings = crop or CropSettings()
    _check_numbers(size=size, channels=channels, holdout=holdout, max_rejected=max_rejected, workers=workers)
    for path in filter(None, (source, inputs)):
        _refuse_overlap(path, out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(out))
        clear_leftovers(out, owned=WRITTEN)
        _refuse_other_folder(out)
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kit-")))
        collection = collect(_open(source, spool / "source"), competition, boxes=settings.policy != "whole")
        if inputs is not None:
            collection = dataclasses.replace(collection, inputs=collect_inputs(_open(inputs, spool / "inputs")))
        job = CropJob(
            tree=collection.tree,
            items=collection.items,
            policy=_policy(collection, settings, competition),
            settings=settings,
            size=size or collection.size or competition.size,
            channels=channels or collection.channels,
        )
        recipe = DatasetRecord(
            name=printable(out.name),
            competition=competition.slug,
            source=printable(str(source)),
            size=job.size,
            channels=job.channels,
            mirror=collection.mirror,
            crop=_crop_record(job),
            holdout=HoldoutRecord(share=holdout, seed=seed),
            keep_duplicates=keep_duplicates,
            sources=collection.fingerprint(),
        )
        standing = _standing(out)
        if standing and _same_recipe(standing, recipe) and _rejected_share(standing) <= max_rejected:
            return load(out, verify=False)
        if standing and standing.sources != recipe.sources:
            log.warning(
                "%s: the set of other pictures that is there now (from %s, digest %s) is replaced; runs that were "
                "trained on it can no longer be scored against it",
                out, standing.source, standing.digest[:12],
            )  # fmt: skip
        require_space(out, _needed_bytes(job, collection.inputs))

        with contextlib.suppress(_Unchanged), atomic_folder(out, owned=WRITTEN) as folder:
            made = _write(folder, job, recipe, collection, max_rejected, workers, progress)
            if standing and standing.digest == made.digest:
                raise _Unchanged
            sample_grid(folder, size=job.size, seed=seed).save(folder / "contact.png")
            made.save(folder / RECORD)
    return load(out, verify=False)  # its digests were just taken


def _write(
    folder: Path,
    job: CropJob,
    recipe: DatasetRecord,
    collection: Collection,
    max_rejected: float,
    workers: int | None,
    progress: Progress,
) -> DatasetRecord:
    """Crops all pictures into the set's files, and says what became of them."""
    inputs = collection.inputs
    total = len(job.items) + (len(inputs.items) if inputs else 0)
    done = 0
    with SetWriter(folder, job, inputs=inputs is not None) as writer:
        stats = PrepareStats(collection, recipe.keep_duplicates)
        halves = [(job, stats, writer.add)]
        if inputs:  # taken whole
            whole = dataclasses.replace(
                job, tree=inputs.tree, items=inputs.items, policy="whole", settings=CropSettings()
            )
            halves.append((whole, PrepareStats(inputs, keep_duplicates=True), writer.add_input))
        for half, counting, add in halves:
            with contextlib.closing(outcomes(half, workers=workers)) as results:
                for item, outcome in zip(half.items, results, strict=True):
                    if counting.keeps(item, outcome):
                        add(item, outcome)
                    progress(done := done + 1, total)
            counting.check(max_rejected)
    classes, holdout = writer.finish(recipe.holdout)
    left_out = stats.left_out()
    if inputs:
        other = inputs.others if inputs.tree is not collection.tree else []
        left_out += [Rejected(f"{INPUTS}{row.file}", row.reason) for row in (*halves[1][1].rejected, *other)]
    made = dataclasses.replace(
        recipe,
        classes=classes,
        counts=stats.counts(holdout=holdout, inputs=halves[1][1].input_counts() if inputs else None),
        rejected=left_out,
        files={file.name: sha256(file) for file in sorted(folder.iterdir())},
    )
    return dataclasses.replace(made, digest=made.content_digest())


class _Unchanged(Exception):  # noqa: N818 (no error: it leaves the old folder where it is)
    """The set that was made is the one that stands there."""


def _check_numbers(
    *, size: int | None, channels: int | None, holdout: float, max_rejected: float, workers: int | None
) -> None:
    if size is not None and size not in SIZES:
        raise KitError(f"a size of {size} px", f"choose from {', '.join(map(str, SIZES))}")
    if channels not in (None, 1, 3):
        raise KitError(f"{channels} channels", "give 1 for grey or 3 for RGB")
    if not 0 <= holdout < 1:
        raise KitError(f"a hold-out of {holdout}", "give a share of the pictures from 0 to below 1")
    if not 0 <= max_rejected <= 1:
        raise KitError(f"max-rejected of {max_rejected}", "give a share of the pictures from 0 to 1")
    if workers is not None and workers < 1:
        raise KitError(f"{workers} workers", "give 1 or more")


def _open(source: Path, spool: Path) -> Tree:
    """The files of a source; those of an IDX file are itself and its counterpart."""
    spool.mkdir()
    if source.is_file() and idx.is_idx_name(source.name):
        return idx.only_part(open_tree(source.parent, spool=spool), source.name)
    return open_tree(source, spool=spool)


def _refuse_other_folder(out: Path) -> None:
    """A set that stands there is replaced; anything else of the user's must not be."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise KitError(f"{out}: there is something that is no folder", "choose another --out")
    # A set of format 1 did not name its format.
    older = all((out / name).is_file() for name in (RECORD, "images.npy", "labels.npy", "samples.jsonl"))
    if out.is_dir() and any(out.iterdir()) and not older and not is_record(out / RECORD, DatasetRecord):
        raise KitError(f"{out}: a folder of other things, which a prepared set would replace", "choose another --out")


def _refuse_overlap(source: Path, out: Path) -> None:
    one, other = (Path(os.path.realpath(path)) for path in (source, out))
    if one == other or one in other.parents or other in one.parents:
        raise KitError(
            f"{source}: the prepared set would lie in its own source, or the source in the set ({out})",
            "give a folder that holds the pictures alone, or choose another --out",
        )


def _policy(collection: Collection, settings: CropSettings, competition: Competition) -> str:
    policy = settings.policy or (competition.crop if collection.boxes else "whole")
    if CROPS[policy].region and not collection.boxes:
        raise KitError(
            f"{collection.tree.path}: no boxes for crop policy {policy!r}", "use --crop whole, or a source with boxes"
        )
    return policy


def _crop_record(job: CropJob) -> CropRecord:
    settings = {**dataclasses.asdict(job.settings), "policy": job.policy}
    return CropRecord(
        **settings,
        filter=FILTER.name.lower(),
        reducing_gap=REDUCING_GAP,
        decoded_at_least=KEEP,
        max_canvas_aspect=MAX_CANVAS_ASPECT if CROPS[job.policy].canvas else None,
    )


def _needed_bytes(job: CropJob, inputs: Collection | None) -> int:
    """Room for the set: the pictures, those of the boxes beyond the first (a tenth), the whole ones, the inputs."""
    policy = CROPS[job.policy]
    shares = 1.1 + (1 if policy.region else 0) + (1.6 if policy.canvas else 0)
    pictures = shares * len(job.items) + (len(inputs.items) if inputs else 0)
    return int(pictures * job.size**2 * job.channels)


def _standing(out: Path) -> DatasetRecord | None:
    """The record of the set that is there, if it is whole. Its files are closed: Windows replaces no open ones."""
    try:
        return load(out).record if out.is_dir() else None
    except KitError:
        return None


def _same_recipe(one: DatasetRecord, other: DatasetRecord) -> bool:
    # Where the source lies does not matter, its digests are among the rest.
    asked = ("name", "competition", "size", "channels", "mirror", "crop", "holdout", "keep_duplicates", "sources")
    return all(getattr(one, name) == getattr(other, name) for name in asked)


def _rejected_share(record: DatasetRecord) -> float:
    inputs = record.counts.inputs
    shares = [(record.counts.rejected, record.counts.found), *([(inputs.rejected, inputs.found)] if inputs else [])]
    return max(rejected / found if found else 0.0 for rejected, found in shares)


def describe(prepared: PreparedSet, *, reasons: int = 10) -> Iterator[str]:
    """What `kit data` says at its end, a line each: what was found, kept, repaired and left out, and why.

    Args:
        prepared: the set.
        reasons: files left out that are named with their reason; the rest is in dataset.json.
    """
    record = prepared.record
    counts, boxes, held = record.counts, record.counts.boxes, record.counts.holdout
    filtered, dropped, small = (sum(part.values()) for part in (counts.filtered, boxes.dropped, boxes.filtered))
    yield (
        f"{counts.samples:,} samples of {prepared.size}×{prepared.size}×{prepared.channels} from {counts.kept:,} "
        f"pictures, crop {record.crop.policy}, {len(prepared.classes)} classes, digest {prepared.digest[:12]}"
    )
    yield (
        f"pictures: {counts.found:,} found = {counts.kept:,} kept + {counts.rejected:,} rejected + "
        f"{counts.duplicates:,} duplicates + {filtered:,} filtered + {counts.copies:,} copies"
    )
    if counts.inputs:
        yield (
            f"pictures to be translated: {counts.inputs.found:,} found = {counts.inputs.kept:,} kept "
            f"({counts.inputs.duplicates:,} of them duplicates) + {counts.inputs.rejected:,} rejected"
        )
    if boxes.listed:
        yield (
            f"boxes: {boxes.listed:,} listed = {boxes.kept:,} kept + {dropped:,} unusable + {small:,} filtered; "
            f"{counts.whole_pictures:,} pictures taken whole"
        )
    yield f"hold-out: {held.pictures:,} pictures with {held.samples:,} samples"
    for title, kinds in (
        ("repaired", counts.repaired),
        ("unusable boxes", boxes.dropped),
        ("filtered", dict(Counter(counts.filtered) + Counter(boxes.filtered))),
    ):
        if kinds:
            yield f"{title}: {_listed(kinds)}"
    if counts.annotations_without_picture:
        yield f"annotations without a picture: {counts.annotations_without_picture:,}"
    if counts.other_files:
        yield f"other files: {counts.other_files:,}"
    # Alike ones are told together: a thousand labels of another format are one line.
    groups: dict[tuple[str, str], list[Rejected]] = {}
    for row in record.rejected:
        groups.setdefault((row.reason, posixpath.splitext(row.file)[1]), []).append(row)
    for rows in list(groups.values())[:reasons]:
        more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        yield f"left out {rows[0].file}{more}: {rows[0].reason}"
    told = sum(len(rows) for rows in list(groups.values())[:reasons])
    if len(record.rejected) > told:
        yield f"left out {len(record.rejected) - told:,} more, listed in {prepared.path / 'dataset.json'}"


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
