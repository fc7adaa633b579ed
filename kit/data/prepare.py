"""`kit data`: from a source of pictures to a prepared set on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import atomic_folder, require_space, sha256, write_json
from kit.core.machine import cores
from kit.core.seeds import derive
from kit.data.archives import open_tree
from kit.data.crop_worker import Job, outcomes
from kit.data.crops import CROPS, FILTER, MAX_CANVAS_ASPECT, REDUCING_GAP, CropSettings
from kit.data.dataset import FORMAT_VERSION, PreparedSet, load, set_digest
from kit.data.decoding import KEEP
from kit.data.prepare_stats import PrepareStats
from kit.data.sources import Collection, collect
from kit.data.writing import SetWriter, contact_sheet

SIZES = tuple(sorted(base << k for base in (4, 5, 6, 7) for k in range(2, 7) if 16 <= base << k <= 256))
"""Sides that a network can grow to: b·2^k with b from 4 to 7."""


def nothing(done: int, total: int) -> None:
    """Reports to nobody."""


def prepare(
    source: Path,
    *,
    competition: Competition,
    out: Path,
    crop: CropSettings | None = None,
    size: int | None = None,
    channels: int | None = None,
    holdout: float = 0.05,
    max_rejected: float = 0.05,
    keep_duplicates: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] = nothing,
) -> PreparedSet:
    """Makes a prepared set, whole or not at all; where the same set stands already, nothing changes.

    Dirt in single files is repaired or left out, listed and counted. The result depends on the pictures and the
    settings, not on how the source is packed, nor on the number of workers.

    Args:
        source: a folder or a zip, see `kit.data.sources.collect`.
        competition: whose folders are looked for, and whose size and crop policy are the defaults.
        out: the set's folder; a set that is there is replaced.
        crop: policy, margins, and filters on the shape of boxes.
        size: side of a sample in pixels, one of SIZES; None: the competition's, or the digits' own 28.
        channels: 1 for grey, 3 for RGB; None: what suits the source.
        holdout: share of the pictures never to be trained on, 0 to below 1. All samples of a picture and of its exact
            duplicates are on one side; the file's bytes and the seed decide which.
        max_rejected: share of the pictures that may be left out for dirt, 0 to 1.
        keep_duplicates: keep files of the very same bytes; otherwise the first of them is kept.
        seed: decides the hold-out.
        workers: processes; None: one a core.
        progress: called with pictures done and in all.

    Raises:
        KitError: the source cannot be used, nothing is left of it, too much had to be rejected, the disk is full.
    """
    settings = crop or CropSettings()
    _check_numbers(size=size, channels=channels, holdout=holdout, max_rejected=max_rejected, workers=workers)
    _refuse_other_folder(out)
    with tempfile.TemporaryDirectory(prefix="kit-") as spool:
        collection = collect(open_tree(source, spool=Path(spool)), competition)
        job = Job(
            tree=collection.tree,
            items=collection.items,
            policy=_policy(collection, settings, competition),
            settings=settings,
            size=size or collection.size or competition.size,
            channels=channels or collection.channels,
        )
        recipe = {
            "version": FORMAT_VERSION,
            "name": out.name,
            "competition": competition.slug,
            "source": str(source),
            "crop": _crop_record(job),
            "size": job.size,
            "channels": job.channels,
            "mirror": collection.mirror,
            "holdout": {"share": holdout, "seed": seed},
            "keep_duplicates": keep_duplicates,
            "sources": collection.tree.fingerprint(collection.used()),
        }
        standing = _standing(out)
        if standing and _same_recipe(standing, recipe) and _rejected_share(standing) <= max_rejected:
            return load(out, verify=False)
        require_space(out, _needed_bytes(job))

        tally = PrepareStats(collection, keep_duplicates)
        with contextlib.suppress(_Unchanged), atomic_folder(out) as folder:
            with (
                SetWriter(folder, job) as writer,
                contextlib.closing(outcomes(job, workers=workers or cores())) as results,
            ):
                for done, (item, outcome) in enumerate(zip(job.items, results, strict=True), 1):
                    if tally.keeps(item, outcome):
                        writer.add(item, outcome)
                    progress(done, len(job.items))
            _check_left(source, tally, max_rejected)
            held_out = _held_out(writer.digests(), holdout, seed)
            classes = writer.finish(held_out)
            info = {
                **recipe,
                "classes": classes,
                "counts": {**tally.counts(), "holdout": writer.count(held_out)},
                "rejected": tally.left_out(),
                "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
            }
            info["digest"] = set_digest(info)
            if standing and standing["digest"] == info["digest"]:
                raise _Unchanged
            contact_sheet(folder, size=job.size, seed=seed).save(folder / "contact.png")
            write_json(folder / "dataset.json", info)
    return load(out, verify=False)  # its digests were just taken


def describe(prepared: PreparedSet, *, reasons: int = 10) -> Iterator[str]:
    """What `kit data` says at its end, a line each: what was found, kept, mended and left out, and why.

    Args:
        prepared: the set.
        reasons: files left out that are named with their reason; the rest is in dataset.json.
    """
    info = prepared.info
    counts, crop = info["counts"], info["crop"]
    boxes, held = counts["boxes"], counts["holdout"]
    filtered, dropped, small = (
        sum(part.values()) for part in (counts["filtered"], boxes["dropped"], boxes["filtered"])
    )
    yield (
        f"{counts['samples']:,} samples of {prepared.size}×{prepared.size}×{prepared.channels} from {counts['kept']:,} "
        f"pictures, crop {crop['policy']}, {len(prepared.classes)} classes, digest {prepared.digest[:12]}"
    )
    yield (
        f"pictures: {counts['found']:,} found = {counts['kept']:,} kept + {counts['rejected']:,} rejected + "
        f"{counts['duplicates']:,} duplicates + {filtered:,} filtered + {counts['copies']:,} copies"
    )
    if boxes["listed"]:
        yield (
            f"boxes: {boxes['listed']:,} listed = {boxes['kept']:,} kept + {dropped:,} unusable + {small:,} filtered; "
            f"{counts['whole_pictures']:,} pictures taken whole"
        )
    yield f"hold-out: {held['pictures']:,} pictures with {held['samples']:,} samples"
    for title, kinds in (
        ("repaired", counts["repaired"]),
        ("unusable boxes", boxes["dropped"]),
        ("filtered", Counter(counts["filtered"]) + Counter(boxes["filtered"])),
    ):
        if kinds:
            yield f"{title}: " + ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
    if counts["annotations_without_picture"]:
        yield f"annotations without a picture: {counts['annotations_without_picture']:,}"
    left_out = info["rejected"]
    for row in left_out[:reasons]:
        yield f"left out {row['file']}: {row['reason']}"
    if len(left_out) > reasons:
        yield f"left out {len(left_out) - reasons:,} more, listed in {prepared.path / 'dataset.json'}"


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


def _refuse_other_folder(out: Path) -> None:
    """A set that stands there is replaced as a whole; anything else of the user's must not be."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise KitError(f"{out}: there is something that is no folder", "choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "dataset.json").exists():
        raise KitError(f"{out}: a folder of other things, which a prepared set would replace", "choose another --out")


def _policy(collection: Collection, settings: CropSettings, competition: Competition) -> str:
    policy = settings.policy or (competition.crop if collection.boxes else "whole")
    if CROPS[policy].region and not collection.boxes:
        raise KitError(
            f"{collection.tree.path}: no boxes for crop policy {policy!r}", "use --crop whole, or a source with boxes"
        )
    return policy


def _crop_record(job: Job) -> dict[str, Any]:
    """The policy with everything that moves a pixel."""
    return {
        **dataclasses.asdict(job.settings),
        "policy": job.policy,
        "filter": FILTER.name.lower(),
        "reducing_gap": REDUCING_GAP,
        "decoded_at_least": KEEP,
        "max_canvas_aspect": MAX_CANVAS_ASPECT if CROPS[job.policy].canvas else None,
    }


def _needed_bytes(job: Job) -> int:
    """Room for the set: the pictures, those of the boxes beyond the first (a tenth), and the whole ones."""
    policy = CROPS[job.policy]
    shares = 1.1 + (1 if policy.region else 0) + (1.6 if policy.canvas else 0)
    return int(shares * len(job.items) * job.size**2 * job.channels)


def _standing(out: Path) -> dict[str, Any] | None:
    """The description of the set that is there, if it is whole. Its files are let go: Windows replaces no open ones."""
    try:
        return load(out).info if out.is_dir() else None
    except KitError:
        return None


def _same_recipe(info: dict[str, Any], recipe: dict[str, Any]) -> bool:
    # Where the source lies does not matter, its digests are among the rest.
    return all(info.get(key) == value for key, value in recipe.items() if key != "source")


def _rejected_share(info: dict[str, Any]) -> float:
    return float(info["counts"]["rejected"] / info["counts"]["found"])


def _held_out(digests: set[bytes], share: float, seed: int) -> set[bytes]:
    """Which files are held out: the same ones in whatever order and company of copies they come."""
    salt = derive("holdout", seed).to_bytes(8, "little")
    ranked = sorted(digests, key=lambda digest: hashlib.sha256(salt + digest).digest())
    return set(ranked[: round(share * len(ranked))])


def _check_left(source: Path, tally: PrepareStats, max_rejected: float) -> None:
    first = f", {tally.rejected[0].file}: {tally.rejected[0].reason}" if tally.rejected else ""
    share = len(tally.rejected) / tally.collection.found
    if share > max_rejected:
        raise KitError(
            f"{source}: {len(tally.rejected):,} of {tally.collection.found:,} pictures ({share:.1%}) cannot be used, "
            f"and --max-rejected is {max_rejected:.1%}; the first{first}",
            "mend the source, or allow more",
        )
    if not tally.kept:
        filters = f"; {next(iter(tally.filtered))}" if tally.filtered else ""
        raise KitError(f"{source}: no picture left{filters}{first}", "loosen the filters, or give another source")
