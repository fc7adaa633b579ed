"""What became of every picture and every box; the sums always add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kit.data.crop_worker import Outcome
from kit.data.sources import Collection, Item, Rejected

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
            {CLAMPED: plan.clamped, WHOLE: any(crop.box is None and crop.repair for crop in plan.crops)}
        )
        return True

    def counts(self) -> dict[str, Any]:
        """Everything that was counted, for dataset.json.

        `rejected` are pictures that could not be used, `filtered` those that the settings left out by reason,
        `copies` files of the same name and bytes in a second place. `repaired` counts boxes or pictures by kind.
        """
        return {
            "found": self.collection.found,
            "kept": self.kept,
            "rejected": len(self.rejected),
            "duplicates": len(self.duplicates),
            "filtered": dict(sorted(self.filtered.items())),
            "copies": self.collection.copies,
            "annotations_without_picture": len(self.collection.orphans),
            "boxes": {
                "listed": self.boxes_listed,
                "kept": self.boxes_kept,
                "dropped": dict(sorted(self.boxes_dropped.items())),
                "filtered": dict(sorted(self.boxes_filtered.items())),
            },
            "samples": self.samples,
            "whole_pictures": self.samples - self.boxes_kept,
            "repaired": {kind: number for kind, number in sorted(self.repaired.items()) if number},
        }

    def left_out(self) -> list[dict[str, str]]:
        """Each file that is not in the set for what it is, with the reason."""
        files = [*self.rejected, *self.duplicates, *self.collection.orphans]
        return [{"file": one.file, "reason": one.reason} for one in sorted(files, key=lambda one: one.file)]
