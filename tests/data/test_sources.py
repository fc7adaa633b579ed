import gzip
import io
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dog_files import LAYOUTS, DogFiles, below, clean_dogs, make_folder, make_zip, photo, voc
from PIL import Image

from kit.competition import COMPETITIONS, DEFAULT, get
from kit.core.errors import KitError
from kit.data import sources
from kit.data.idx import fetch_mnist
from kit.data.sources import Collection, collect, kaggle_mount
from kit.data.tree import open_tree

DOGS = get(DEFAULT)
MONET = get("gan-getting-started")


def look(path: Path, competition=DOGS) -> Collection:
    return collect(open_tree(path, spool=path.parent), competition)


def folders(dogs: DogFiles, root: Path) -> Path:
    return LAYOUTS["folders"](dogs, root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_collection(layout: str, tmp_path: Path) -> None:
    dogs = clean_dogs()
    found = look(LAYOUTS[layout](dogs, tmp_path / "source"))
    assert found.boxes
    assert [item.file for item in found.items] == sorted(dogs.pictures)
    labels = {name: breed.partition("-")[2] for breed, name in (key.split("/") for key in dogs.annotations)}
    assert {item.file[:-4]: item.label for item in found.items} == labels
    assert (found.rejected, found.orphans) == ([], [])
    assert found.copies == (len(dogs.pictures) if layout.endswith("extracted too") else 0)
    with found.tree.reader() as reader:
        for item in found.items:
            assert reader.read(item.picture) == dogs.pictures[item.file]
            assert item.annotation is not None
            assert reader.read(item.annotation) in dogs.annotations.values()


def test_what_has_no_counterpart_is_listed(tmp_path: Path) -> None:
    dogs = clean_dogs(4)
    dogs.pictures["n09_9.jpg"] = photo(seed=9)
    dogs.annotations["n01-Alpha/n01_missing"] = voc((1, 2, 3, 4))
    found = look(folders(dogs, tmp_path / "set"))
    assert [(row.file, row.reason) for row in found.rejected] == [("n09_9.jpg", "no annotation")]
    assert [(row.file, row.reason) for row in found.orphans] == [
        ("n01-Alpha/n01_missing", "annotation without a picture")
    ]
    assert found.found == 5


def test_names_that_collide_when_case_is_ignored_are_one_and_a_rejected_one(tmp_path: Path) -> None:
    dogs = clean_dogs(2)
    files = below("all-dogs", dogs.pictures) | below("Annotation", dogs.annotations)
    files["all-dogs/N01_0.JPG"] = photo(seed=99)
    files["all-dogs/n01_0.png"] = photo(seed=98)
    files["all-dogs/copies/n01_0.jpg"] = dogs.pictures["n01_0.jpg"]
    found = look(make_zip(tmp_path / "set.zip", files))
    reason = "its name is also that of N01_0.JPG, another picture"
    assert [(row.file, row.reason) for row in found.rejected] == [
        ("n01_0.jpg", reason),
        ("n01_0.jpg", reason),
        ("n01_0.png", reason),
    ]
    assert found.found == len(dogs.pictures) + 3
    assert len(found.items) + len(found.rejected) + found.copies == found.found
    assert len({item.file.casefold() for item in found.items}) == len(found.items) == 2


def test_an_annotation_in_two_breeds_rejects_the_picture(tmp_path: Path) -> None:
    dogs = clean_dogs(3)
    dogs.annotations["n02-Beta-hound/n01_0"] = dogs.annotations["n01-Alpha/n01_0"]
    found = look(folders(dogs, tmp_path / "set"))
    assert [(row.file, row.reason) for row in found.rejected] == [("n01_0.jpg", "annotated as Alpha and as Beta-hound")]


@pytest.mark.parametrize(
    ("breed", "words"),
    [
        ("n01-Omega", "two breeds with the number n01, n01-Alpha and n01-Omega"),
        ("n09-Alpha", "two classes with one name, Alpha and Alpha"),
        ("n09-ALPHA", "two classes with one name"),
    ],
)
def test_two_breeds_never_become_one_silently(breed: str, words: str, tmp_path: Path) -> None:
    dogs = clean_dogs(3)
    dogs.add("n09_1", photo(seed=50), (1, 1, 30, 30), breed=breed)
    with pytest.raises(KitError, match=words):
        look(folders(dogs, tmp_path / "set"))


def test_a_breed_folder_in_two_spellings_is_one_breed(tmp_path: Path) -> None:
    dogs = clean_dogs(3)
    dogs.add("n01_77", photo(seed=50), (1, 1, 30, 30), breed="N01-alpha")
    files = below("all-dogs", dogs.pictures) | below("Annotation", dogs.annotations)
    found = look(make_zip(tmp_path / "set.zip", files))
    assert {item.label for item in found.items if item.file.startswith("n01")} == {"alpha"}


def test_annotations_without_breed_folders_give_no_class(tmp_path: Path) -> None:
    dogs = clean_dogs(3)
    flat = {name.split("/")[1]: data for name, data in dogs.annotations.items()}
    make_folder(tmp_path / "set" / "all-dogs", dogs.pictures)
    make_folder(tmp_path / "set" / "Annotation", flat)
    assert {item.label for item in look(tmp_path / "set").items} == {None}


@pytest.mark.parametrize("competition", [record for record in COMPETITIONS.values() if record.annotations])
def test_pictures_without_annotations_are_refused_with_the_way_out(competition, tmp_path: Path) -> None:
    make_folder(tmp_path / "set" / competition.pictures[0], {"a.jpg": photo()})
    with pytest.raises(KitError) as error:
        look(tmp_path / "set", competition)
    assert str(tmp_path / "set") in error.value.problem
    assert "no annotations" in error.value.problem
    assert f"{competition.annotations[0]}.zip" in error.value.remedy
    with pytest.raises(KitError, match="no annotations"):
        look(make_zip(tmp_path / f"{competition.pictures[0]}.zip", {"a.jpg": photo()}), competition)


def test_annotations_without_pictures_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "set" / "Annotation" / "n01-Alpha", {"n01_1": voc()})
    with pytest.raises(KitError, match="no pictures"):
        look(tmp_path / "set")


def test_no_pictures_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no pictures"):
        look(make_folder(tmp_path / "set", {"readme.txt": b"hello"}))


PLAIN = {
    "flat": ({"b.jpg": 1, "a.png": 2}, {"a.png": None, "b.jpg": None}),
    "one folder": ({"images/b.jpg": 1, "images/a.jpg": 2}, {"a.jpg": None, "b.jpg": None}),
    "classes": ({"x/cat/1.jpg": 1, "x/dog/1.jpg": 2}, {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}),
    "deep classes": ({"cat/a/1.jpg": 1, "dog/1.jpg": 2}, {"cat/a/1.jpg": "cat", "dog/1.jpg": "dog"}),
    "some without": ({"cat/1.jpg": 1, "2.jpg": 2}, {"cat/1.jpg": "cat"}),
    "most without": ({"cat/1.jpg": 1, "2.jpg": 2, "3.jpg": 3}, {"cat/1.jpg": None, "2.jpg": None, "3.jpg": None}),
    "other files too": ({"notes.txt": 0, "a/1.jpg": 1, "a/labels.csv": 0}, {"1.jpg": None}),
}


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("packed", [False, True])
def test_any_folder_of_pictures_is_classed_by_its_folders(case: str, packed: bool, tmp_path: Path) -> None:
    names, expected = PLAIN[case]
    files = {name: photo(seed=seed) if seed else b"1,2" for name, seed in names.items()}
    source = make_zip(tmp_path / "set.zip", files) if packed else make_folder(tmp_path / "set", files)
    found = look(source)
    assert {item.file: item.label for item in found.items} == expected
    assert [item.file for item in found.items] == sorted(expected)
    assert not found.boxes


def test_zips_may_be_the_classes(tmp_path: Path) -> None:
    make_zip(tmp_path / "set" / "cat.zip", {"1.jpg": photo(seed=1)})
    make_zip(tmp_path / "set" / "dog.zip", {"1.jpg": photo(seed=2)})
    assert [item.label for item in look(tmp_path / "set").items] == ["cat", "dog"]


def test_class_folders_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "set.zip", {"Cat/1.jpg": photo(seed=1), "cat/2.jpg": photo(seed=2)})
    with pytest.raises(KitError, match="Cat and cat"):
        look(source)


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">xxBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


def mnist(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) * 7 % 10).astype(np.uint8)


MNIST_NAMES = {
    "web": ("{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"),
    "unpacked": ("{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"),
    "kaggle": ("{0}-images.idx3-ubyte", "{0}-labels.idx1-ubyte"),
}


def mnist_files(names: str, splits: tuple[str, ...] = ("train", "t10k")) -> dict[str, bytes]:
    files = {}
    for i, split in enumerate(splits):
        for template, array in zip(MNIST_NAMES[names], mnist(12 - 5 * i), strict=True):
            data = idx_file(array)
            files[template.format(split)] = gzip.compress(data) if template.endswith(".gz") else data
    return files


@pytest.mark.parametrize(("names", "packed"), [("web", False), ("unpacked", True), ("kaggle", False)])
def test_mnist_is_its_training_pictures(names: str, packed: bool, tmp_path: Path) -> None:
    files = mnist_files(names)
    found = look(make_zip(tmp_path / "m.zip", files) if packed else make_folder(tmp_path / "m", files))
    pictures, labels = mnist()
    assert (found.size, found.channels, found.boxes) == (28, 1, False)
    assert [int(item.label or -1) for item in found.items] == labels.tolist()
    assert [item.file for item in found.items] == [f"train/{i:02}" for i in range(12)]
    with found.tree.reader() as reader:
        for item, expected in zip(found.items, pictures, strict=True):
            image = Image.open(io.BytesIO(reader.read(item.picture)))
            np.testing.assert_array_equal(np.asarray(image), expected)
    rows = found.fingerprint()
    assert len(rows) == 1
    assert rows[0].bytes == sum(len(data) for name, data in files.items() if "train" in name) or packed


@pytest.mark.parametrize("damage", ["cut", "cut gz", "other kind", "one label fewer", "text"])
def test_damaged_mnist_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    files = mnist_files("unpacked", ("train",))
    images, labels = (template.format("train") for template in MNIST_NAMES["unpacked"])
    if damage == "cut":
        files[images] = files[images][:-1]
    elif damage == "cut gz":
        files[images] = gzip.compress(files[images])[:-20]
    elif damage == "other kind":
        files[images] = b"\0\0\x0d" + files[images][3:]
    elif damage == "one label fewer":
        files[labels] = idx_file(mnist()[1][:-1])
    else:
        files[images] = b"<html>"
    with pytest.raises(KitError, match=images):
        look(make_folder(tmp_path / "m", files))


def test_mnist_that_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    make_folder(tmp_path / "MNIST" / "raw", mnist_files("unpacked"))
    folder = fetch_mnist(tmp_path)
    assert len(look(folder).items) == 12


def test_mnist_that_cannot_be_fetched_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    def offline(self: MNIST) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(MNIST, "download", offline)
    with pytest.raises(KitError, match="give `--from FOLDER`"):
        fetch_mnist(tmp_path)


def with_mount(place: str) -> Callable[[Path, Callable[[Path], object]], None]:
    return lambda root, put: put(root / place)


def each_by_itself(root: Path, put: Callable[[Path], object]) -> None:
    """Pictures and annotations in two datasets."""
    put(root / "somewhere")
    (root / "elsewhere").mkdir()
    for path in list((root / "somewhere").iterdir()):
        if path.name.casefold().startswith("annotation"):
            path.rename(root / "elsewhere" / path.name)


MOUNTS = {
    "now": with_mount("competitions/generative-dog-images"),
    "before": with_mount("generative-dog-images"),
    "before that": with_mount("."),
    "a dataset": with_mount("datasets/somebody/dogs"),
    "two datasets": each_by_itself,
}


@pytest.mark.parametrize(
    ("mount", "layout"), [*((mount, "two zips") for mount in MOUNTS), *(("now", layout) for layout in LAYOUTS)]
)
def test_in_each_mount_of_a_kernel_everything_is_found(mount: str, layout: str, tmp_path: Path) -> None:
    dogs = clean_dogs()
    root = tmp_path / "input"
    make_folder(root / "another-dataset", {"x.csv": b"", "all-cats/1.jpg": b""})
    MOUNTS[mount](root, lambda place: LAYOUTS[layout](dogs, place))
    found = kaggle_mount(DOGS, root)
    assert found is not None
    collection = collect(open_tree(found, spool=tmp_path), DOGS)
    assert len(collection.items) == 12
    assert all(item.annotation for item in collection.items)


def test_outside_of_a_kernel_there_is_no_mount(tmp_path: Path) -> None:
    assert kaggle_mount(DOGS, tmp_path / "nowhere") is None
    assert kaggle_mount(DOGS, tmp_path) is None


@pytest.mark.abuse("F27")
@pytest.mark.parametrize("name", ["a.jfif", "b.JPG", "c.Pgm", "no suffix", "misleading.txt", "data.bin"])
def test_what_begins_like_a_picture_is_one_whatever_its_name(name: str, tmp_path: Path) -> None:
    kind = "PPM" if name == "c.Pgm" else "JPEG"
    files = {"first.png": photo(seed=1, kind="PNG"), name: photo(seed=2, kind=kind)}
    for source in (make_folder(tmp_path / "set", files), make_zip(tmp_path / "set.zip", files)):
        assert {item.file for item in look(source).items} == {"first.png", name}


@pytest.mark.abuse("F27")
def test_nothing_is_left_out_in_silence(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a/1.jpg": photo(seed=1), "a/labels.csv": b"1,2", "a/x.tfrec": b"record"})
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "itself").symlink_to(root / "itself")
    (root / "a" / "up").symlink_to(root)
    os.mkfifo(root / "pipe.jpg")
    make_zip(root / "b.zip", {".": b"x", "2.jpg": photo(seed=2)})
    found = look(root)
    assert {row.file: row.reason.partition(" (")[0] for row in found.others} == {
        "a/labels.csv": "no picture",
        "a/x.tfrec": "a TFRecord, which holds copies of the pictures",
        "gone.jpg": "a link that leads nowhere",
        "itself": "cannot be read",
        "a/up/": "a link back to a folder that it lies in",
        "pipe.jpg": "neither a file nor a folder",
        "b.zip/.": "no name of a file",
    }
    assert {item.file for item in found.items} == {"a/1.jpg", "b.zip/2.jpg"}


@pytest.mark.abuse("F27")
def test_a_folder_that_cannot_be_entered_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "set", {"open/1.jpg": photo(seed=1), "shut/2.jpg": photo(seed=2)})
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may enter everything
    found = look(root)
    assert [(row.file, row.reason) for row in found.others] == [
        ("shut/", "a folder that cannot be read (Permission denied)")
    ]


@pytest.mark.abuse("D15")
def test_a_folder_of_any_depth_is_read(tmp_path: Path) -> None:
    deep = tmp_path / "set"
    deep.mkdir()
    here = Path.cwd()
    try:
        os.chdir(deep)
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        Path("deep.jpg").write_bytes(photo(seed=1))
    finally:
        os.chdir(here)
    make_folder(deep, {"e/flat.jpg": photo(seed=2)})
    assert [item.file for item in look(deep).items] == ["d/" * 1200 + "deep.jpg", "e/flat.jpg"]
    subprocess.run(["rm", "-rf", deep], check=True)  # too deep for Python's own, with which pytest clears up


OWN = {
    "a prepared set": {"dataset.json": b"{}", "samples.jsonl": b"", "contact.png": photo(kind="PNG")},
    "a run": {"run.json": b"{}", "progress.jsonl": b"", "samples/1.png": photo(kind="PNG")},
    "a submission": {"submission.json": b"{}", "source.zip": b"", "preview.png": photo(kind="PNG")},
}


@pytest.mark.abuse("F25")
@pytest.mark.parametrize("kind", OWN)
def test_what_the_kit_made_is_no_source(kind: str, tmp_path: Path) -> None:
    files = {f"x/y/{name}": data for name, data in OWN[kind].items()}
    with pytest.raises(KitError, match="made by the kit"):
        look(make_folder(tmp_path / "set", {"a.jpg": photo(), **files}))


@pytest.mark.abuse("F26")
def test_pictures_without_a_class_are_left_out_where_the_others_have_one(tmp_path: Path) -> None:
    files = {"cat/1.jpg": 1, "cat/2.jpg": 2, "dog/1.jpg": 3, "loose.jpg": 4}
    found = look(make_folder(tmp_path / "set", {name: photo(seed=seed) for name, seed in files.items()}))
    assert {item.label for item in found.items} == {"cat", "dog"}
    assert [(row.file, row.reason) for row in found.rejected] == [("loose.jpg", "it has no class, and the others have")]


@pytest.mark.abuse("F26")
def test_more_classes_than_labels_can_hold_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert np.iinfo(np.int16).max == sources.MAX_CLASSES
    monkeypatch.setattr(sources, "MAX_CLASSES", 2)
    with pytest.raises(KitError, match="3 folders that would be classes, and there can be 2"):
        look(make_folder(tmp_path / "set", {f"{k}/1.jpg": photo(seed=k) for k in range(3)}))


@pytest.mark.abuse("F29")
def test_class_folders_that_differ_only_between_their_words_are_refused(tmp_path: Path) -> None:
    names = ("golden retriever", "golden_retriever")
    with pytest.raises(KitError, match="golden retriever and golden_retriever"):
        look(make_folder(tmp_path / "set", {f"{name}/1.jpg": photo(seed=k) for k, name in enumerate(names)}))


FOREIGN_LABELS = {
    "COCO": {"annotation/instances.json": b'{"images": []}'},
    "YOLO": {"Annotation/1.txt": b"0 0.5 0.5 1 1", "Annotation/2.txt": b"0 0.1 0.1 1 1"},
}


@pytest.mark.abuse("F30")
@pytest.mark.parametrize("kind", FOREIGN_LABELS)
def test_labels_of_another_format_are_named_as_the_cause_and_do_not_hinder_whole_pictures(
    kind: str, tmp_path: Path
) -> None:
    pictures = {f"images/{k}.jpg": photo(seed=k) for k in (1, 2)}
    source = make_folder(tmp_path / "set", FOREIGN_LABELS[kind] | pictures)
    with pytest.raises(KitError, match=r"(?i)annotation holds no Pascal VOC annotations .*--crop whole"):
        look(source)
    found = collect(open_tree(source, spool=tmp_path), DOGS, boxes=False)
    assert [item.file for item in found.items] == ["1.jpg", "2.jpg"]
    assert len(found.others) == len(FOREIGN_LABELS[kind])


IDX_PARTS = {
    "test beside training": (["train", "t10k"], "train"),
    "names of EMNIST": (["emnist-letters-test", "emnist-letters-train"], "emnist-letters-train"),
    "parts of EMNIST": (["emnist-letters-train", "emnist-digits-train"], None),
    "a test part alone": (["t10k"], "t10k"),
    "test parts alone": (["emnist-letters-test", "emnist-digits-test"], None),
    "one of each name": (["qmnist", "qmnist-test"], "qmnist"),
    "two sets": (["a/train", "b/train"], None),
}


@pytest.mark.abuse("F28")
@pytest.mark.parametrize("case", IDX_PARTS)
def test_the_test_part_is_never_trained_on_and_several_are_asked_about(case: str, tmp_path: Path) -> None:
    parts, chosen = IDX_PARTS[case]
    files = {
        template.format(part): idx_file(array)
        for part in parts
        for template, array in zip(MNIST_NAMES["unpacked"], mnist(), strict=True)
    }
    source = make_folder(tmp_path / "set", files)
    if chosen:
        assert {item.file.rpartition("/")[0] for item in look(source).items} == {chosen}
        return
    with pytest.raises(KitError) as error:
        look(source)
    assert all(name in error.value.problem for name in files)


@pytest.mark.abuse("F28")
def test_a_training_part_without_its_labels_is_not_replaced_by_the_test_part(tmp_path: Path) -> None:
    files = mnist_files("unpacked")
    del files["train-labels-idx1-ubyte"]
    with pytest.raises(KitError, match="train-images-idx3-ubyte without its labels"):
        look(make_folder(tmp_path / "m", files))


@pytest.mark.abuse("F33")
def test_an_empty_idx_file_is_refused(tmp_path: Path) -> None:
    files = {
        "train-images-idx3-ubyte": np.empty((0, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.empty(0, np.uint8),
    }
    with pytest.raises(KitError, match="there is nothing in it"):
        look(make_folder(tmp_path / "m", {name: idx_file(array) for name, array in files.items()}))


MONET_FILES = {"monet_jpg/a.jpg": 1, "photo_jpg/b.jpg": 2, "photo_jpg/c.jpg": 3, "photo_tfrec/x.tfrec": 0}


def test_the_two_halves_of_a_translation(tmp_path: Path) -> None:
    files = {name: photo(seed=seed) if seed else b"record" for name, seed in MONET_FILES.items()}
    for source in (make_folder(tmp_path / "set", files), make_zip(tmp_path / "set.zip", files)):
        found = look(source, MONET)
        assert found.inputs is not None
        assert [item.file for item in found.items] == ["a.jpg"]
        assert [item.file for item in found.inputs.items] == ["b.jpg", "c.jpg"]
        assert [row.reason for row in found.others] == ["a TFRecord, which holds copies of the pictures"]


@pytest.mark.parametrize("missing", ["monet_jpg", "photo_jpg"])
def test_a_translation_with_one_half_missing_is_refused(missing: str, tmp_path: Path) -> None:
    files = {name: photo(seed=seed) for name, seed in MONET_FILES.items() if seed and missing not in name}
    with pytest.raises(KitError, match=f"no pictures in {missing}.*--inputs"):
        look(make_folder(tmp_path / "set", files), MONET)
