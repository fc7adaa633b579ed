"""The pictures of a source, found but not yet read: each has a name of its own, and all have a class or none has."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from kit.core.errors import KitError
from kit.data.archives import BadFile, Entry, Reader
from kit.data.prepared_set import Rejected, SourceRecord, class_key
from kit.data.tree import Tree

MAX_CLASSES = int(np.iinfo(np.int16).max)
"""Labels are int16."""

INPUTS = "inputs/"
"""What the names of files begin with, in lists, where they are of a second source."""


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to be prepared."""

    file: str  # its name in the set, the same however the source is packed
    picture: Entry
    annotation: Entry | None = None  # None: it needs none
    label: str | None = None  # name of its class


@dataclass(frozen=True)
class Collection:
    """The pictures of a source, found but not yet read. Found = items + rejected + copies."""

    tree: Tree
    items: list[Item]  # in the order of their names
    boxes: bool = False  # whether pictures come with annotations
    rejected: list[Rejected] = field(default_factory=list)  # pictures that cannot be used
    orphans: list[Rejected] = field(default_factory=list)  # annotations without a picture
    others: list[Rejected] = field(default_factory=list)  # files that are no pictures, and what cannot be opened
    inputs: Collection | None = None  # the pictures to be translated
    copies: int = 0  # the same file a second time, as where a zip lies beside what was extracted from it
    size: int | None = None  # a side that suits the source better than the competition's
    channels: int = 3  # 1 where all pictures are known to be grey
    mirror: bool = True  # whether a picture is as good seen in a mirror: a dog is, a 4 is not
    extra: list[Entry] = field(default_factory=list)  # read to find the items, besides theirs

    @property
    def found(self) -> int:
        """Pictures that the source lists."""
        return len(self.items) + len(self.rejected) + self.copies

    def fingerprint(self) -> list[SourceRecord]:
        """What identifies all files that the set is made from."""
        if self.inputs is None:
            return self.tree.fingerprint(self._used())
        if self.inputs.tree is self.tree:
            return self.tree.fingerprint([*self._used(), *self.inputs._used()])
        rows = self.inputs.tree.fingerprint(self.inputs._used())
        return [*self.tree.fingerprint(self._used()), *(replace(row, file=f"{INPUTS}{row.file}") for row in rows)]

    def _used(self) -> Iterator[Entry]:
        yield from self.extra
        for item in self.items:
            # The pictures of an IDX file lie in a store that the tree itself does not list.
            if not self.extra:
                yield item.picture
            if item.annotation:
                yield item.annotation


@dataclass(frozen=True, slots=True)
class Named:
    """A picture file and its name in the set."""

    file: str
    entry: Entry


@dataclass
class Files:
    """All files of a source by what they are for."""

    pictures: list[Named] = field(default_factory=list)  # below the competition's folder of them
    inputs: list[Named] = field(default_factory=list)  # below its folder of pictures to be translated
    annotations: list[Entry] = field(default_factory=list)  # below its folder of annotations
    elsewhere: list[Entry] = field(default_factory=list)  # other pictures
    others: list[Rejected] = field(default_factory=list)  # no pictures, and what cannot be opened

    def set_aside(self, entries: Iterable[Entry], reason: str) -> None:
        """Lists files that are not used."""
        self.others += [Rejected(entry.name, reason) for entry in entries]


def base_name(name: str) -> str:
    """The name of a file without its folders."""
    return name.rsplit("/", 1)[-1]


def suffix_of(name: str) -> str:
    """The suffix of a file in lower case, with its dot; "" where it has none."""
    return posixpath.splitext(base_name(name))[1].lower()


def folder_key(name: str) -> str:
    """A folder's name, or that of a zip standing for it, as names are compared."""
    return name.casefold().removesuffix(".zip")


def with_classes(tree: Tree, items: list[Item]) -> tuple[list[Item], list[Rejected]]:
    """Either all pictures have a class or none has: those of the smaller part that have none are left out.

    Raises:
        KitError: two classes with the same name, or more of them than labels can hold.
    """
    labels = Counter(item.label for item in items)
    without = labels.pop(None, 0)
    if len(labels) > MAX_CLASSES:
        raise KitError(
            f"{tree.path}: {len(labels):,} folders that would be classes, and there can be {MAX_CLASSES:,}",
            "put the pictures into one folder, or into fewer",
        )
    refuse_twins(tree, sorted(label for label in labels if label is not None))
    if not without or not labels:
        return items, []
    if without > len(items) / 2:
        return [replace(item, label=None) for item in items], []
    return (
        [item for item in items if item.label is not None],
        [Rejected(item.file, "it has no class, and the others have") for item in items if item.label is None],
    )


def refuse_twins(tree: Tree, names: Iterable[str]) -> None:
    """Each folder's class name: no two may be the same in the form in which names are compared."""
    seen: dict[str, str] = {}
    for name in names:
        key = class_key(name)
        if key in seen:
            raise KitError(
                f"{tree.path}: two classes with one name, {seen[key]} and {name}", "rename or remove one of the folders"
            )
        seen[key] = name


def one_of_each_name(
    tree: Tree, named: list[Named], key: Callable[[Named], str]
) -> tuple[list[Named], list[Rejected], int]:
    """The first picture of each name, case ignored; of the others those that differ are rejected, copies counted."""
    chosen: dict[str, Named] = {}
    rejected: list[Rejected] = []
    copies = 0
    with tree.reader() as reader:
        for picture in sorted(named, key=lambda picture: (picture.file, picture.entry.name)):
            first = chosen.setdefault(key(picture), picture)
            if first is picture:
                continue
            if _same_bytes(reader, first.entry, picture.entry):
                copies += 1
            else:
                rejected.append(Rejected(picture.file, f"its name is also that of {first.file}, another picture"))
    return list(chosen.values()), rejected, copies


def _same_bytes(reader: Reader, one: Entry, other: Entry) -> bool:
    try:
        return one.size == other.size and reader.read(one) == reader.read(other)
    except BadFile:
        return False
