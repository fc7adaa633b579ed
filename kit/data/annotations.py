"""Pascal VOC annotations: which boxes lie on a picture, and which picture an annotation belongs to."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from xml.parsers import expat

from kit.competition import Competition
from kit.core.errors import KitError
from kit.data.archives import BadFile, Entry
from kit.data.collection import (
    Collection,
    Files,
    Item,
    Named,
    base_name,
    folder_key,
    one_of_each_name,
    refuse_twins,
    with_classes,
)
from kit.data.prepared_set import Rejected
from kit.data.tree import Tree

MAX_BYTES = 2**20
"""One annotation; a real one has half a kilobyte."""

Corners = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax as they were written: they may lie anywhere, be swapped, or be NaN."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotation says of its picture."""

    size: tuple[int, int] | None  # width and height in pixels, where it states them
    boxes: tuple[Corners, ...]  # one an object, in pixels; NaN stands for a number that is missing or none


def parse(data: bytes) -> Annotation:
    """Reads an annotation.

    Args:
        data: the XML; `object/bndbox/{xmin,ymin,xmax,ymax}` and `size/{width,height}` are looked at.

    Raises:
        BadFile: it is no XML, or XML with a document type, which VOC never has and every entity bomb needs.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
        root = builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise BadFile(f"its annotation is no XML ({error})") from error
    boxes = tuple(
        (_number(box, "xmin"), _number(box, "ymin"), _number(box, "xmax"), _number(box, "ymax"))
        for box in (thing.find("bndbox") for thing in root.findall("object"))
    )
    stated = root.find("size")
    width, height = _number(stated, "width"), _number(stated, "height")
    known = math.isfinite(width) and math.isfinite(height)
    return Annotation((int(width), int(height)) if known else None, boxes)


def _number(parent: ET.Element | None, tag: str) -> float:
    text = parent.findtext(tag) if parent is not None else None
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _refuse_doctype(*_: object) -> None:
    raise BadFile("its annotation has a document type, which no annotation needs")


def match_annotations(tree: Tree, competition: Competition, files: Files) -> Collection:
    """Pictures that are matched with their annotations by name: n02085620_10074.jpg ↔ …/n02085620_10074."""
    annotations = files.annotations
    named = files.pictures
    if named:
        files.set_aside(files.elsewhere, f"not in {competition.pictures[0]}")
    else:  # the originals of these sets call their folder of pictures otherwise
        named = [Named(entry.name, entry) for entry in files.elsewhere]
    if not named:
        raise KitError(f"{tree.path}: annotations, but no pictures in it", "give the folder that holds both")
    breeds = _breeds(tree, annotations, competition.annotations)
    by_stem: dict[str, list[Entry]] = {}
    for entry in sorted(annotations, key=lambda entry: entry.name):
        by_stem.setdefault(_annotation_stem(entry), []).append(entry)

    bare = [Named(base_name(picture.file), picture.entry) for picture in named]
    chosen, rejected, copies = one_of_each_name(tree, bare, key=lambda picture: _stem(picture.file))
    items: list[Item] = []
    for picture in chosen:
        candidates = by_stem.get(_stem(picture.file), [])
        labels = {breeds.get(_folder(entry).casefold()) for entry in candidates}
        if not candidates:
            rejected.append(Rejected(picture.file, "no annotation"))
        elif len(labels) > 1:
            rejected.append(Rejected(picture.file, f"annotated as {' and as '.join(sorted(map(str, labels)))}"))
        else:
            items.append(Item(picture.file, picture.entry, candidates[0], labels.pop()))
    items, classless = with_classes(tree, items)
    rejected += classless
    stems = {_stem(picture.file) for picture in bare}
    orphans = [
        Rejected("/".join(entry.name.split("/")[-2:]), "annotation without a picture")
        for stem, entries in by_stem.items()
        if stem not in stems
        for entry in entries[:1]
    ]
    return Collection(tree, items, boxes=True, rejected=rejected, orphans=orphans, others=files.others, copies=copies)


def _annotation_stem(entry: Entry) -> str:
    return base_name(entry.name).casefold().removesuffix(".xml")


def _stem(file: str) -> str:
    """What a picture and its annotation have in common."""
    return file.rpartition(".")[0].casefold()


def _folder(entry: Entry) -> str:
    return entry.name.rpartition("/")[0].rpartition("/")[2]


def _breeds(tree: Tree, annotations: list[Entry], roots: Sequence[str]) -> dict[str, str]:
    """Class name by folder, case ignored: "n02085620-Chihuahua" holds the Chihuahua.

    Args:
        tree: for messages.
        annotations: in breed folders, or in the folder of all annotations itself, which is no breed.
        roots: names of the latter.

    Raises:
        KitError: two breeds share a number or a name; they would silently become one.
    """
    no_breeds = {"", *(name.casefold() for name in roots)}
    folders: dict[str, str] = {}
    for folder in sorted({_folder(entry) for entry in annotations}):
        if folder_key(folder) not in no_breeds:
            folders.setdefault(folder.casefold(), folder)
    numbers: dict[str, str] = {}
    breeds: dict[str, str] = {}
    for key, folder in folders.items():
        number, dash, name = folder.partition("-")
        breeds[key] = name if dash else folder
        other = numbers.setdefault(number.casefold(), folder) if dash else folder
        if other != folder:
            raise KitError(
                f"{tree.path}: two breeds with the number {number}, {other} and {folder}",
                "rename or remove one of the folders",
            )
    refuse_twins(tree, breeds.values())
    return breeds
