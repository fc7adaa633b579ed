"""What a source holds: a competition's pictures with or without boxes, any folder of pictures, or MNIST."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kit.competition import Competition
from kit.core.errors import KitError
from kit.data import idx
from kit.data.annotations import match_annotations
from kit.data.archives import Entry, Reader
from kit.data.collection import Collection, Files, Item, Named, folder_key, one_of_each_name, suffix_of, with_classes
from kit.data.decoding import HEAD_BYTES, SUFFIXES, looks_like_picture
from kit.data.tree import Tree

LOOK_AT = 50
"""Annotations that are looked at to see whether they are XML."""


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
    with tree.reader() as reader:
        files = _sort_files(tree, reader, competition)
        if competition.annotations and (files.pictures or files.annotations):
            if _are_xml(reader, files.annotations):
                return match_annotations(tree, competition, files)
            if boxes:
                raise _no_annotations(tree, competition, files.annotations)
        files.set_aside(files.annotations, "no annotation that is known")
        if competition.inputs and (files.pictures or files.inputs):
            return _two_halves(tree, competition, files)
    if files.pictures:
        files.set_aside(files.elsewhere, f"not in {competition.pictures[0]}")
        return _plain(tree, files.pictures, files)
    if part := idx.find(tree, tree.entries):
        return _idx(tree, part, files)
    return _plain(tree, _below_common_folder(files.elsewhere), files, classes=True)


def collect_inputs(tree: Tree) -> Collection:
    """Finds the pictures of a folder or zip that are to be translated; their folders mean nothing.

    Raises:
        KitError: there are none.
    """
    with tree.reader() as reader:
        files = _sort_files(tree, reader, None)
    return _plain(tree, _below_common_folder(files.elsewhere), files)


def kaggle_mount(competition: Competition, root: Path = Path("/kaggle/input")) -> Path | None:
    """Where a Kaggle kernel finds the competition's files, or None outside of one.

    Kaggle has mounted them at `competitions/SLUG`, at `SLUG`, and each archive by itself; elsewhere, as where somebody
    has put them into a dataset, they are known by the names of their folders or zips.
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
        if wanted & {folder_key(name) for name in (*folders, *files)}:
            return Path(where)
    return None


def _sort_files(tree: Tree, reader: Reader, competition: Competition | None) -> Files:
    folders: dict[str, str] = {}
    if competition:
        for what in ("pictures", "inputs", "annotations"):
            folders |= {name.casefold(): what for name in getattr(competition, what)}
    root = folders.get(folder_key(tree.path.absolute().name))  # the source itself may be that folder, or that zip

    def innermost(folder: str) -> tuple[str | None, int]:
        """What a folder's files are for, and where in their names the part below the folder of that name begins."""
        while folder:
            outer, _, name = folder.rpartition("/")
            if kind := folders.get(folder_key(name)):
                return kind, len(folder) + 1
            folder = outer
        return root, 0

    kinds: dict[str, tuple[str | None, int]] = {}
    files = Files(others=list(tree.unread))
    for entry in tree.entries:
        folder = entry.name.rpartition("/")[0]
        if folder not in kinds:
            kinds[folder] = innermost(folder)
        kind, below = kinds[folder]
        if kind == "annotations" and suffix_of(entry.name) not in SUFFIXES:
            files.annotations.append(entry)
        elif suffix_of(entry.name) not in SUFFIXES and not looks_like_picture(reader.head(entry, HEAD_BYTES)):
            record = suffix_of(entry.name) in (".tfrec", ".tfrecord")
            files.set_aside([entry], "a TFRecord, which holds copies of the pictures" if record else "no picture")
        elif kind == "pictures":
            files.pictures.append(Named(entry.name[below:], entry))
        elif kind == "inputs":
            files.inputs.append(Named(entry.name[below:], entry))
        elif kind == "annotations":
            files.set_aside([entry], "a picture among the annotations")
        else:
            files.elsewhere.append(entry)
    return files


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"{name}.zip" for name in names)


def _are_xml(reader: Reader, annotations: list[Entry]) -> bool:
    """Whether these are Pascal VOC annotations; a folder of that name may hold those of COCO or YOLO as well."""
    heads = (reader.head(entry, HEAD_BYTES) for entry in sorted(annotations, key=lambda entry: entry.name)[:LOOK_AT])
    return any(head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<") for head in heads)


def _no_annotations(tree: Tree, competition: Competition, annotations: list[Entry]) -> KitError:
    both = f"{_listed(competition.pictures)} and {_listed(competition.annotations)}"
    if not annotations:
        return KitError(
            f"{tree.path}: no annotations in it ({' or '.join(competition.annotations)}, a folder or a zip)",
            f"give the folder that holds {both}, or --crop whole to take its pictures whole",
        )
    first = min(entry.name for entry in annotations)
    return KitError(
        f"{tree.path}: {posixpath.dirname(first) or 'it'} holds no Pascal VOC annotations ({first} is no XML)",
        f"give --crop whole to take the pictures without them, or the folder that holds {both}",
    )


def _below_common_folder(entries: list[Entry]) -> list[Named]:
    """Names that do not tell how the set was packed: without the folders that all pictures lie in."""
    if not entries:
        return []
    common = posixpath.commonpath([entry.name.rpartition("/")[0] for entry in entries])
    return [Named(entry.name.removeprefix(f"{common}/"), entry) for entry in entries]


def _plain(tree: Tree, named: list[Named], files: Files, *, classes: bool = False) -> Collection:
    """Pictures without boxes; with `classes` the first folder of a name is its class."""
    if not named:
        aside = ", ".join(f"{row.file}: {row.reason}" for row in files.others[:1])
        raise KitError(
            f"{tree.path}: no pictures in it" + (f" ({len(files.others):,} other files; {aside})" if aside else ""),
            "give a folder or a zip of JPEG, PNG, WebP, GIF, BMP, TIFF or PPM",
        )
    chosen, rejected, copies = one_of_each_name(tree, named, key=lambda picture: picture.file.casefold())
    items = [Item(picture.file, picture.entry) for picture in chosen]
    if classes:
        items, classless = with_classes(tree, [replace(item, label=_class_folder(item.file)) for item in items])
        rejected += classless
    return Collection(tree, items, rejected=rejected, copies=copies, others=files.others)


def _two_halves(tree: Tree, competition: Competition, files: Files) -> Collection:
    """Target pictures, and the pictures to be translated."""
    for found, names in ((files.pictures, competition.pictures), (files.inputs, competition.inputs)):
        if not found:
            other = competition.inputs if names is competition.pictures else competition.pictures
            raise KitError(
                f"{tree.path}: {other[0]} is in it, and no pictures in {names[0]}",
                f"give the folder that holds {names[0]} and {other[0]}, or two folders: --from TARGETS --inputs INPUTS",
            )
    files.set_aside(files.elsewhere, f"neither in {competition.pictures[0]} nor in {competition.inputs[0]}")
    return replace(_plain(tree, files.pictures, files), inputs=_plain(tree, files.inputs, Files()))


def _class_folder(file: str) -> str | None:
    folder, inside, _ = file.partition("/")
    return folder.removesuffix(".zip") if inside else None


def _idx(tree: Tree, part: idx.Pair, files: Files) -> Collection:
    """One part of MNIST or of a set like it."""
    split, pictures, labels = part
    digits = idx.read(tree.stores[labels.store], labels)
    store = idx.IdxStore(tree.stores[pictures.store], pictures)
    shape = idx.read(store.store, pictures).shape
    if digits.ndim != 1 or len(shape) != 3 or shape[:1] != digits.shape:
        raise KitError(f"{tree.path}: {pictures.name} and {labels.name} do not fit each other", "download them again")
    width = len(str(max(digits, default=0)))
    numbers = len(str(len(digits) - 1))
    size = shape[1] * shape[2]
    items = [
        Item(f"{split}/{i:0{numbers}}", Entry(f"{split}/{i}", size, len(tree.stores), i), label=f"{digit:0{width}}")
        for i, digit in enumerate(digits.tolist())
    ]
    files.set_aside(files.elsewhere, f"not in {pictures.name}")
    return Collection(
        replace(tree, stores=[*tree.stores, store]),
        items,
        others=[row for row in files.others if row.file not in (pictures.name, labels.name)],
        size=shape[1],
        channels=1,
        mirror=False,
        extra=[pictures, labels],
    )
