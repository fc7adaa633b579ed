"""What a source holds: a competition's pictures with or without boxes, any folder of pictures, or MNIST."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit.competition import Competition
from kit.core.errors import KitError
from kit.data import idx
from kit.data.archives import BadFile, Entry, Reader, Tree
from kit.data.decoding import SUFFIXES


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to be prepared."""

    file: str  # its name in the set, the same however the source is packed
    picture: Entry
    annotation: Entry | None = None  # None: it needs none
    label: str | None = None  # name of its class


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that is left out."""

    file: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The pictures of a source, found but not yet read. Found = items + rejected + copies."""

    tree: Tree
    items: list[Item]  # in the order of their names
    boxes: bool  # whether pictures come with annotations
    rejected: list[Rejected] = field(default_factory=list)  # pictures that cannot be used
    orphans: list[Rejected] = field(default_factory=list)  # annotations without a picture
    copies: int = 0  # the same file a second time, as where a zip lies beside what was extracted from it
    size: int | None = None  # a side that suits the source better than the competition's
    channels: int = 3  # 1 where all pictures are known to be grey
    mirror: bool = True  # whether a picture is as good seen in a mirror: a dog is, a 4 is not
    extra: list[Entry] = field(default_factory=list)  # read to find the items, besides theirs

    @property
    def found(self) -> int:
        """Pictures that the source lists."""
        return len(self.items) + len(self.rejected) + self.copies

    def used(self) -> Iterator[Entry]:
        """All files that the set is made from."""
        yield from self.extra
        for item in self.items:
            # The pictures of an IDX file lie in a store that the tree itself does not list.
            if item.picture.store < len(self.tree.stores) and not self.extra:
                yield item.picture
            if item.annotation:
                yield item.annotation


def collect(tree: Tree, competition: Competition) -> Collection:
    """Finds the pictures of a source.

    The competition's own folders (or zips of that name) are looked for first, at any depth and whatever their case;
    then MNIST's IDX files; then any pictures, classed by the folders they lie in.

    Args:
        tree: the source.
        competition: names its folders of pictures and annotations.

    Raises:
        KitError: there are no pictures, or no annotations where the competition has them; two breeds share a number
            or a name.
    """
    pictures, annotations = _competition_files(tree, competition)
    if competition.annotations and (pictures or annotations):
        if not annotations:
            raise KitError(
                f"{tree.path}: no annotations in it ({' or '.join(competition.annotations)}, a folder or a zip)",
                f"give the folder that holds {_listed(competition.pictures)} and {_listed(competition.annotations)}, "
                "or a folder of another name to take its pictures whole",
            )
        # The originals of these sets call their folder of pictures otherwise.
        anywhere = [_Named(entry.name, entry) for entry in _pictures(tree.entries)]
        return _annotated(tree, competition, pictures or anywhere, annotations)
    if pictures:
        return _plain(tree, pictures)
    if found := idx.pairs(tree.entries):
        return _idx(tree, found)
    return _plain(tree, _below_common_folder(_pictures(tree.entries)), classes=True)


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
        if wanted & {_folder_name(name) for name in (*folders, *files)}:
            return Path(where)
    return None


def fetch_mnist(folder: Path) -> Path:
    """MNIST's IDX files, fetched by torchvision unless they are there.

    Args:
        folder: where they are kept.

    Returns:
        The folder to prepare from.

    Raises:
        KitError: they cannot be fetched.
    """
    from torchvision.datasets import MNIST

    try:
        MNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise KitError(
            f"MNIST cannot be fetched ({error})", "put its four -ubyte.gz files into a folder and give `--from FOLDER`"
        ) from error
    return folder / "MNIST" / "raw"


@dataclass(frozen=True, slots=True)
class _Named:
    """A picture file and its name in the set."""

    file: str
    entry: Entry


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _folder_name(name: str) -> str:
    """A folder's name, or that of a zip standing for it, as names are compared."""
    return name.casefold().removesuffix(".zip")


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"{name}.zip" for name in names)


def _is_picture(name: str) -> bool:
    base = _base(name)
    return "." in base and base[base.rindex(".") :].lower() in SUFFIXES


def _pictures(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if _is_picture(entry.name)]


def _competition_files(tree: Tree, competition: Competition) -> tuple[list[_Named], list[Entry]]:
    """The files below the competition's folder of pictures, and those below its folder of annotations."""
    folders = {name.casefold(): "pictures" for name in competition.pictures}
    folders |= {name.casefold(): "annotations" for name in competition.annotations}
    root = folders.get(_folder_name(tree.path.absolute().name))  # the source itself may be that folder, or that zip

    def innermost(folder: str) -> tuple[str | None, int]:
        """Which of both a folder lies in, and where in a name the part below it begins."""
        while folder:
            outer, _, name = folder.rpartition("/")
            if kind := folders.get(_folder_name(name)):
                return kind, len(folder) + 1
            folder = outer
        return root, 0

    kinds: dict[str, tuple[str | None, int]] = {}
    pictures: list[_Named] = []
    annotations: list[Entry] = []
    for entry in tree.entries:
        folder = entry.name.rpartition("/")[0]
        if folder not in kinds:
            kinds[folder] = innermost(folder)
        kind, below = kinds[folder]
        if kind == "pictures" and _is_picture(entry.name):
            pictures.append(_Named(entry.name[below:], entry))
        elif kind == "annotations" and not _is_picture(entry.name):
            annotations.append(entry)
    return pictures, annotations


def _below_common_folder(entries: list[Entry]) -> list[_Named]:
    """Names that do not tell how the set was packed: without the folders that all pictures lie in."""
    if not entries:
        return []
    common = posixpath.commonpath([entry.name.rpartition("/")[0] for entry in entries])
    return [_Named(entry.name.removeprefix(f"{common}/"), entry) for entry in entries]


def _plain(tree: Tree, named: list[_Named], *, classes: bool = False) -> Collection:
    """Pictures without boxes; with `classes` the first folder of a name is its class."""
    if not named:
        raise KitError(f"{tree.path}: no pictures in it", f"they are known by {', '.join(sorted(SUFFIXES))}")
    chosen, rejected, copies = _one_of_each_name(tree, named, key=lambda picture: picture.file.casefold())
    items = [Item(picture.file, picture.entry) for picture in chosen]
    if classes:
        items = [replace(item, label=_class_folder(item.file)) for item in items]
        _refuse_twins(tree, sorted({item.label for item in items if item.label}))
    return Collection(tree, items, boxes=False, rejected=rejected, copies=copies)


def _class_folder(file: str) -> str | None:
    folder, inside, _ = file.partition("/")
    return folder.removesuffix(".zip") if inside else None


def _idx(tree: Tree, pairs: dict[str, tuple[Entry, Entry]]) -> Collection:
    """MNIST. Its test pictures stay unseen: they are taken only where there are no others."""
    split = "train" if "train" in pairs else next(iter(pairs))
    pictures, labels = pairs[split]
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
    together = replace(tree, stores=[*tree.stores, store])
    return Collection(together, items, boxes=False, size=shape[1], channels=1, mirror=False, extra=[pictures, labels])


def _annotated(tree: Tree, competition: Competition, named: list[_Named], annotations: list[Entry]) -> Collection:
    """Pictures that are matched with their annotations by name: n02085620_10074.jpg ↔ …/n02085620_10074."""
    if not named:
        raise KitError(f"{tree.path}: annotations, but no pictures in it", "give the folder that holds both")
    breeds = _breeds(tree, annotations, competition.annotations)
    by_stem: dict[str, list[Entry]] = {}
    for entry in sorted(annotations, key=lambda entry: entry.name):
        by_stem.setdefault(_annotation_stem(entry), []).append(entry)

    bare = [_Named(_base(picture.file), picture.entry) for picture in named]
    chosen, rejected, copies = _one_of_each_name(tree, bare, key=lambda picture: _stem(picture.file))
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
    stems = {_stem(picture.file) for picture in bare}
    orphans = [
        Rejected("/".join(entry.name.split("/")[-2:]), "annotation without a picture")
        for stem, entries in by_stem.items()
        if stem not in stems
        for entry in entries[:1]
    ]
    return Collection(tree, items, boxes=True, rejected=rejected, orphans=orphans, copies=copies)


def _annotation_stem(entry: Entry) -> str:
    return _base(entry.name).casefold().removesuffix(".xml")


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
        if _folder_name(folder) not in no_breeds:
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
    _refuse_twins(tree, breeds.values())
    return breeds


def _refuse_twins(tree: Tree, names: Iterable[str]) -> None:
    """Each folder's class name: no two may be the same, also where case is ignored."""
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            raise KitError(
                f"{tree.path}: two classes with one name, {seen[name.casefold()]} and {name}",
                "rename or remove one of the folders",
            )
        seen[name.casefold()] = name


def _one_of_each_name(
    tree: Tree, named: list[_Named], key: Callable[[_Named], str]
) -> tuple[list[_Named], list[Rejected], int]:
    """The first picture of each name, case ignored; of the others those that differ are rejected, copies counted."""
    chosen: dict[str, _Named] = {}
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
