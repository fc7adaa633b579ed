"""What a source holds: a competition's pictures with or without boxes, any folder of pictures, or MNIST.

The pictures are found but not yet read. Each has a name of its own, and all have a class or none has.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from kit.competition import Competition
from kit.core.errors import KitError
from kit.data import idx
from kit.data.archives import BadFile, Entry, Reader
from kit.data.decoding import HEAD_BYTES, SUFFIXES, looks_like_picture
from kit.data.prepared_set import Rejected, SourceRecord, class_key
from kit.data.tree import Tree

LOOK_AT = 50
"""Annotations that are looked at to see whether they are XML."""

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
    extra: list[Entry] = field(default_factory=list)  # read in place of the items' own entries

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
        yield from self.extra or (item.picture for item in self.items)
        yield from (item.annotation for item in self.items if item.annotation)


@dataclass
class _Files:
    pictures: list[Item] = field(default_factory=list)  # below the competition's folder of them
    inputs: list[Item] = field(default_factory=list)  # below its folder of pictures to be translated
    annotations: list[Entry] = field(default_factory=list)  # below its folder of annotations
    elsewhere: list[Entry] = field(default_factory=list)  # other pictures
    others: list[Rejected] = field(default_factory=list)  # no pictures, and what cannot be opened

    def set_aside(self, entries: Iterable[Entry], reason: str) -> None:
        self.others += [Rejected(entry.name, reason) for entry in entries]


def collect(tree: Tree, competition: Competition, *, boxes: bool = True) -> Collection:
    """Finds the pictures of a source.

    The competition's own folders (or zips of that name) are looked for first, at any depth and whatever their case;
    then MNIST's IDX files; then any pictures, classed by the folders they lie in. A file is a picture by its name or by
    its first bytes; every other file is listed.

    Args:
        tree: the source.
        competition: names its folders of pictures, of annotations, and of pictures to be translated.
        boxes: whether boxes are wanted where the competition has them; without, annotations may be missing.

    Raises:
        KitError: there are no pictures, or no annotations or no pictures to be translated where the competition has
            them; two classes share a number or a name, or there are too many of them; it is not clear which of several
            parts is meant.
    """
    files = _sort_files(tree, competition)
    if competition.annotations and (files.pictures or files.annotations):
        if _are_xml(tree, files.annotations):
            return _match_annotations(tree, competition, files)
        if boxes:
            raise _no_annotations(tree, competition, files.annotations)
    files.set_aside(files.annotations, "no annotation that is known")
    if competition.inputs and (files.pictures or files.inputs):
        return _two_halves(tree, competition, files)
    if files.pictures:
        files.set_aside(files.elsewhere, f"not in {competition.pictures[0]}")
        return _plain(tree, files.pictures, files)
    if part := idx.find(tree):
        return _idx(tree, part, files)
    return _plain(tree, _below_common_folder(files.elsewhere), files, classes=True)


def collect_inputs(tree: Tree) -> Collection:
    """Finds the pictures of a folder or zip that are to be translated; their folders mean nothing."""
    files = _sort_files(tree, None)
    return _plain(tree, _below_common_folder(files.elsewhere), files)


def kaggle_mount(competition: Competition, root: Path = Path("/kaggle/input")) -> Path | None:
    """Where a Kaggle kernel finds the competition's files, or None outside of one.

    Kaggle has mounted them at `competitions/SLUG` and at `SLUG`. Elsewhere, as where somebody has put them into a
    dataset, they are known by the names of their folders or zips.
    """
    for folder in (root / "competitions" / competition.slug, root / competition.slug):
        if folder.is_dir():
            return folder
    places = [_first_with(names, root) for names in (competition.pictures, competition.annotations) if names]
    if places[0] is None:
        return None
    # Pictures and annotations may lie in two datasets; what holds both is the source.
    return Path(os.path.commonpath([place for place in places if place]))


def _first_with(names: Sequence[str], root: Path) -> Path | None:
    """The first folder, from the root down, that holds a folder or a zip of one of these names."""
    wanted = {name.casefold() for name in names}
    for where, folders, files in os.walk(root):
        if wanted & {_folder_key(name) for name in (*folders, *files)}:
            return Path(where)
    return None


def _sort_files(tree: Tree, competition: Competition | None) -> _Files:
    folders: dict[str, str] = {}
    if competition:
        for what in ("pictures", "inputs", "annotations"):
            folders |= {name.casefold(): what for name in getattr(competition, what)}
    root = folders.get(_folder_key(tree.path.absolute().name))  # the source itself may be that folder, or that zip

    def innermost(folder: str) -> tuple[str | None, int]:
        """What a folder's files are for, and where in their names the part below the folder of that name begins."""
        while folder:
            outer, _, name = folder.rpartition("/")
            if kind := folders.get(_folder_key(name)):
                return kind, len(folder) + 1
            folder = outer
        return root, 0

    kinds: dict[str, tuple[str | None, int]] = {}
    files = _Files(others=list(tree.unread))
    with tree.reader() as reader:
        for entry in tree.entries:
            folder = posixpath.dirname(entry.name)
            if folder not in kinds:
                kinds[folder] = innermost(folder)
            kind, below = kinds[folder]
            suffix = posixpath.splitext(entry.name)[1].lower()
            if kind == "annotations" and suffix in SUFFIXES:
                files.set_aside([entry], "a picture among the annotations")
            elif kind == "annotations":
                files.annotations.append(entry)
            elif suffix not in SUFFIXES and not looks_like_picture(reader.head(entry, HEAD_BYTES)):
                record = suffix in (".tfrec", ".tfrecord")
                files.set_aside([entry], "a TFRecord, which holds copies of the pictures" if record else "no picture")
            elif kind is None:
                files.elsewhere.append(entry)
            else:
                (files.pictures if kind == "pictures" else files.inputs).append(Item(entry.name[below:], entry))
    return files


def _folder_key(name: str) -> str:
    """A folder's name, or that of a zip standing for it, as names are compared."""
    return name.casefold().removesuffix(".zip")


def _are_xml(tree: Tree, annotations: list[Entry]) -> bool:
    """Whether these are Pascal VOC annotations; a folder of that name may hold those of COCO or YOLO as well."""
    with tree.reader() as reader:
        heads = [reader.head(entry, HEAD_BYTES) for entry in sorted(annotations, key=attrgetter("name"))[:LOOK_AT]]
    return any(head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<") for head in heads)


def _no_annotations(tree: Tree, competition: Competition, annotations: list[Entry]) -> KitError:
    pictures, notes = (
        " or ".join(f"{name}.zip" for name in names) for names in (competition.pictures, competition.annotations)
    )
    if not annotations:
        return KitError(
            f"{tree.path}: no annotations in it ({' or '.join(competition.annotations)}, a folder or a zip)",
            f"give the folder that holds {pictures} and {notes}, or --crop whole to take its pictures whole",
        )
    first = min(entry.name for entry in annotations)
    return KitError(
        f"{tree.path}: {posixpath.dirname(first) or 'it'} holds no Pascal VOC annotations ({first} is no XML)",
        f"give --crop whole to take the pictures without them, or the folder that holds {pictures} and {notes}",
    )


def _match_annotations(tree: Tree, competition: Competition, files: _Files) -> Collection:
    """Pictures that are matched with their annotations by name: n02085620_10074.jpg ↔ …/n02085620_10074."""
    pictures = files.pictures
    if pictures:
        files.set_aside(files.elsewhere, f"not in {competition.pictures[0]}")
    else:  # the originals of these sets call their folder of pictures otherwise
        pictures = [Item(entry.name, entry) for entry in files.elsewhere]
    if not pictures:
        raise KitError(f"{tree.path}: annotations, but no pictures in it", "give the folder that holds both")
    breeds = _breeds(tree, files.annotations, competition.annotations)
    by_stem: dict[str, list[Entry]] = {}
    for entry in sorted(files.annotations, key=attrgetter("name")):
        by_stem.setdefault(posixpath.basename(entry.name).casefold().removesuffix(".xml"), []).append(entry)

    def stem(picture: Item) -> str:
        return picture.file.rpartition(".")[0].casefold()

    pictures = [replace(picture, file=posixpath.basename(picture.file)) for picture in pictures]
    chosen, rejected, copies = _one_of_each_name(tree, pictures, key=stem)
    items: list[Item] = []
    for picture in chosen:
        notes = by_stem.get(stem(picture), [])
        labels = {breeds.get(_parent(entry).casefold()) for entry in notes}
        if not notes:
            rejected.append(Rejected(picture.file, "no annotation"))
        elif len(labels) > 1:
            rejected.append(Rejected(picture.file, f"annotated as {' and as '.join(sorted(map(str, labels)))}"))
        else:
            items.append(replace(picture, annotation=notes[0], label=labels.pop()))
    items, classless = _with_classes(tree, items)
    stems = set(map(stem, pictures))
    orphans = [
        Rejected("/".join(entries[0].name.split("/")[-2:]), "annotation without a picture")
        for name, entries in by_stem.items()
        if name not in stems
    ]
    return Collection(tree, items, True, [*rejected, *classless], orphans, files.others, copies=copies)


def _parent(entry: Entry) -> str:
    """The name of the folder that a file lies in."""
    return posixpath.basename(posixpath.dirname(entry.name))


def _breeds(tree: Tree, annotations: list[Entry], roots: Sequence[str]) -> dict[str, str]:
    """Class name by folder, case ignored: "n02085620-Chihuahua" holds the Chihuahua.

    The folder of all annotations itself, called as in `roots`, is no breed. Two breeds that share a number or a name
    would silently become one: they are a KitError.
    """
    no_breeds = {"", *(name.casefold() for name in roots)}
    numbers: dict[str, str] = {}
    breeds: dict[str, str] = {}
    for folder in sorted(set(map(_parent, annotations))):
        if _folder_key(folder) in no_breeds or folder.casefold() in breeds:
            continue
        number, dash, name = folder.partition("-")
        breeds[folder.casefold()] = name if dash else folder
        other = numbers.setdefault(number.casefold(), folder) if dash else folder
        if other != folder:
            raise KitError(
                f"{tree.path}: two breeds with the number {number}, {other} and {folder}",
                "rename or remove one of the folders",
            )
    _refuse_twins(tree, breeds.values())
    return breeds


def _below_common_folder(entries: list[Entry]) -> list[Item]:
    """Names that do not tell how the set was packed: without the folders that all pictures lie in."""
    common = posixpath.commonpath([posixpath.dirname(entry.name) for entry in entries]) if entries else ""
    return [Item(entry.name.removeprefix(f"{common}/"), entry) for entry in entries]


def _plain(tree: Tree, pictures: list[Item], files: _Files, *, classes: bool = False) -> Collection:
    """Pictures without boxes; with `classes` the first folder of a name is its class."""
    if not pictures:
        aside = ", ".join(f"{row.file}: {row.reason}" for row in files.others[:1])
        raise KitError(
            f"{tree.path}: no pictures in it" + (f" ({len(files.others):,} other files; {aside})" if aside else ""),
            "give a folder or a zip of JPEG, PNG, WebP, GIF, BMP, TIFF or PPM",
        )
    items, rejected, copies = _one_of_each_name(tree, pictures, key=lambda picture: picture.file.casefold())
    if classes:
        folders = ((item, item.file.partition("/")) for item in items)
        items = [replace(item, label=name.removesuffix(".zip") if sep else None) for item, (name, sep, _) in folders]
        items, classless = _with_classes(tree, items)
        rejected += classless
    return Collection(tree, items, rejected=rejected, others=files.others, copies=copies)


def _two_halves(tree: Tree, competition: Competition, files: _Files) -> Collection:
    """Target pictures, and the pictures to be translated."""
    targets, inputs = competition.pictures[0], competition.inputs[0]
    for found, name, other in ((files.pictures, targets, inputs), (files.inputs, inputs, targets)):
        if not found:
            raise KitError(
                f"{tree.path}: {other} is in it, and no pictures in {name}",
                f"give the folder that holds {name} and {other}, or two folders: --from TARGETS --inputs INPUTS",
            )
    files.set_aside(files.elsewhere, f"neither in {targets} nor in {inputs}")
    return replace(_plain(tree, files.pictures, files), inputs=_plain(tree, files.inputs, _Files()))


def _idx(tree: Tree, part: idx.Part, files: _Files) -> Collection:
    """One part of MNIST or of a set like it."""
    labels, (height, width), store = idx.open_part(tree, part)
    digits, numbers = len(str(max(labels))), len(str(len(labels) - 1))
    items = [
        Item(
            f"{part.split}/{i:0{numbers}}",
            Entry(part.pictures.name, height * width, len(tree.stores), i),
            label=f"{label:0{digits}}",
        )
        for i, label in enumerate(labels)
    ]
    files.set_aside(files.elsewhere, f"not in {part.pictures.name}")
    others = [row for row in files.others if row.file not in (part.pictures.name, part.labels.name)]
    tree = replace(tree, stores=[*tree.stores, store])
    extra = [part.pictures, part.labels]
    return Collection(tree, items, others=others, size=height, channels=1, mirror=False, extra=extra)


def _with_classes(tree: Tree, items: list[Item]) -> tuple[list[Item], list[Rejected]]:
    """Either all pictures have a class or none has: those of the smaller part that have none are left out."""
    labels = Counter(item.label for item in items)
    without = labels.pop(None, 0)
    if len(labels) > MAX_CLASSES:
        raise KitError(
            f"{tree.path}: {len(labels):,} folders that would be classes, and there can be {MAX_CLASSES:,}",
            "put the pictures into one folder, or into fewer",
        )
    _refuse_twins(tree, sorted(label for label in labels if label is not None))
    if not without or not labels:
        return items, []
    if without > len(items) / 2:
        return [replace(item, label=None) for item in items], []
    rejected = [Rejected(item.file, "it has no class, and the others have") for item in items if item.label is None]
    return [item for item in items if item.label is not None], rejected


def _refuse_twins(tree: Tree, names: Iterable[str]) -> None:
    """Each folder's class name: no two may be the same in the form in which names are compared."""
    seen: dict[str, str] = {}
    for name in names:
        key = class_key(name)
        if key in seen:
            raise KitError(
                f"{tree.path}: two classes with one name, {seen[key]} and {name}", "rename or remove one of the folders"
            )
        seen[key] = name


def _one_of_each_name(
    tree: Tree, pictures: list[Item], key: Callable[[Item], str]
) -> tuple[list[Item], list[Rejected], int]:
    """The first picture of each name, case ignored; of the others those that differ are rejected, copies counted."""
    chosen: dict[str, Item] = {}
    rejected: list[Rejected] = []
    copies = 0
    with tree.reader() as reader:
        for item in sorted(pictures, key=lambda item: (item.file, item.picture.name)):
            first = chosen.setdefault(key(item), item)
            if first is not item and _same_bytes(reader, first.picture, item.picture):
                copies += 1
            elif first is not item:
                rejected.append(Rejected(item.file, f"its name is also that of {first.file}, another picture"))
    return list(chosen.values()), rejected, copies


def _same_bytes(reader: Reader, one: Entry, other: Entry) -> bool:
    try:
        return one.size == other.size and reader.read(one) == reader.read(other)
    except BadFile:
        return False
