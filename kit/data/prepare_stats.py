"""What became of every picture and every box while a set was prepared, and how that is told."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kit.data.collection import Collection, Item
from kit.data.crop_worker import Outcome
from kit.data.prepared_set import BoxCounts, Counts, HoldoutCounts, InputCounts, PreparedSet, Rejected

CLAMPED = "box clamped to the picture"
WHOLE = "no good box, whole picture taken"


@dataclass
class PrepareStats:
    """Counts pictures as their outcomes come in, in order.

    Found pictures = kept + rejected + duplicates + filtered + copies, and listed boxes = kept + dropped + filtered.
    """

    collection: Collection
    keep_duplicates: bool
    kept: int = 0
    samples: int = 0
    boxes_listed: int = 0
    boxes_kept: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: list[Rejected] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    boxes_dropped: Counter[str] = field(default_factory=Counter)
    boxes_filtered: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    _seen: dict[bytes, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rejected += self.collection.rejected

    def keeps(self, item: Item, outcome: Outcome) -> bool:
        """Counts a picture, and says whether its samples go into the set."""
        if outcome.rejected is not None:
            self.rejected.append(Rejected(item.file, outcome.rejected))
            return False
        first = self._seen.setdefault(outcome.digest, item.file)
        if first != item.file and not self.keep_duplicates:
            self.duplicates.append(Rejected(item.file, f"the same bytes as {first}"))
            return False
        plan = outcome.plan
        boxes_kept = sum(crop.box is not None for crop in plan.crops)
        self.boxes_listed += plan.listed
        self.boxes_kept += boxes_kept
        self.boxes_dropped += plan.dropped
        self.boxes_filtered += plan.filtered
        if plan.left_out is not None:
            self.filtered[plan.left_out] += 1
            return False
        self.kept += 1
        self.samples += len(plan.crops)
        self.repaired.update(outcome.repairs)
        self.repaired.update(
            {CLAMPED: plan.clamped, WHOLE: int(any(crop.box is None and crop.repair for crop in plan.crops))}
        )
        return True

    def counts(self, *, holdout: HoldoutCounts, inputs: InputCounts | None) -> Counts:
        """Everything that was counted, for the set's record."""
        return Counts(
            found=self.collection.found,
            kept=self.kept,
            rejected=len(self.rejected),
            duplicates=len(self.duplicates),
            filtered=dict(sorted(self.filtered.items())),
            copies=self.collection.copies,
            annotations_without_picture=len(self.collection.orphans),
            other_files=len(self.collection.others),
            boxes=BoxCounts(
                listed=self.boxes_listed,
                kept=self.boxes_kept,
                dropped=dict(sorted(self.boxes_dropped.items())),
                filtered=dict(sorted(self.boxes_filtered.items())),
            ),
            samples=self.samples,
            whole_pictures=self.samples - self.boxes_kept,
            repaired={kind: number for kind, number in sorted(self.repaired.items()) if number},
            holdout=holdout,
            inputs=inputs,
        )

    def left_out(self) -> list[Rejected]:
        """Each file that is not in the set for what it is, with the reason."""
        files = [*self.rejected, *self.duplicates, *self.collection.orphans, *self.collection.others]
        return sorted(files, key=lambda one: one.file)


@dataclass
class InputStats:
    """Counts the pictures that are to be translated; those of the same bytes are all kept."""

    collection: Collection
    kept: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rejected += self.collection.rejected

    def keeps(self, item: Item, outcome: Outcome) -> bool:
        """Counts a picture, and says whether it goes into the set."""
        if outcome.rejected is not None:
            self.rejected.append(Rejected(item.file, outcome.rejected))
            return False
        self.kept += 1
        self.duplicates += outcome.digest in self._seen
        self._seen.add(outcome.digest)
        return True

    def counts(self) -> InputCounts:
        """Everything that was counted, for the set's record."""
        return InputCounts(
            found=self.kept + len(self.rejected),
            kept=self.kept,
            rejected=len(self.rejected),
            duplicates=self.duplicates,
        )


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
