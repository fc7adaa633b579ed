from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.core.errors import KitError
from kit.core.files import sha256
from kit.data.grid import make_grid
from kit.data.prepared_set import (
    RECORD,
    Counts,
    CropRecord,
    DatasetRecord,
    PreparedSet,
    class_key,
    latest,
    load,
    remember,
)
from kit.data.set_writer import GrowingArray

MakeSet = Callable[..., PreparedSet]

FILES = ("images.npy", "labels.npy", "samples.jsonl", "whole.npy", "canvas.npy", "canvas_index.npy")


def test_a_set_says_what_it_is(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "dogs", n=20, size=12, channels=1, classes=3)
    assert (made.name, made.size, made.channels, made.competition) == ("dogs", 12, 1, "generative-dog-images")
    assert made.classes == ["breed_0", "breed_1", "breed_2"]
    assert made.images.shape == (20, 12, 12, 1)
    assert isinstance(made.images, np.memmap)
    assert made.canvas is None
    with pytest.raises(ValueError, match="read-only"):
        made.images[0] = 0


def test_splits_are_by_source_picture(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "set", n=40)
    files = [sample.file for sample in made.samples]
    held = {sample.file for sample in made.samples if sample.holdout}
    assert held
    assert sorted([*made.rows("train"), *made.rows("holdout")]) == list(made.rows("all")) == list(range(40))
    assert {files[row] for row in made.rows("holdout")} == held
    assert {files[row] for row in made.rows("train")} == set(files) - held

    distinct = list(dict.fromkeys(files))  # the order that `whole` is in
    assert [distinct[k] for k in made.pictures] == files
    assert {distinct[k] for k in made.whole_rows("holdout")} == held
    assert len(made.whole_rows("train")) + len(held) == len(made.whole_rows("all")) == len(made.whole)


def test_pictures_that_are_whole_are_stored_once(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "set", n=3)  # the first three pictures have a row each
    (made.path / "whole.npy").unlink()
    rewrite(made.path, lambda info: info["files"].pop("whole.npy"))
    again = load(made.path)
    assert again.whole is again.images


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *, refresh: bool = True) -> None:
    """Changes dataset.json, and its digests to match, as damage that digests alone would not find."""
    content = json.loads((path / RECORD).read_text())
    change(content)
    if refresh:
        content["files"] = {name: sha256(path / name) for name in content["files"] if (path / name).exists()}
    (path / RECORD).write_text(json.dumps(content))
    if refresh:
        record = DatasetRecord.load(path / RECORD)
        dataclasses.replace(record, digest=record.content_digest()).save(path / RECORD)


def the_error(path: Path, *, verify: bool = True) -> str:
    with pytest.raises(KitError) as caught:
        load(path, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, "changed") for name in (*FILES, "dataset.json")),
        *(("images.npy", damage) for damage in ("absent", "empty", "cut")),
        *(("dataset.json", damage) for damage in ("absent", "empty", "cut")),
    ],
)
def test_damage_is_named_with_the_way_out(make_set: MakeSet, tmp_path: Path, name: str, damage: str) -> None:
    file = make_set(tmp_path / "set", mixed=True).path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": file.read_bytes()[:-3], "changed": bytes(content)}[damage])
    message = the_error(file.parent)
    assert str(file) in message
    assert "run `kit data` again" in message


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, "dtype") for name in FILES if name.endswith(".npy")),
        *(("labels.npy", damage) for damage in ("cut", "longer", "pickle", "noise")),
    ],
)
def test_arrays_are_checked_without_digests_too(make_set: MakeSet, tmp_path: Path, name: str, damage: str) -> None:
    file = make_set(tmp_path / "set", mixed=True).path / name
    array = np.load(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "noise":
        file.write_bytes(b"noise" * 99)
    elif damage == "longer":
        np.save(file, array[..., None])
    elif damage == "dtype":
        np.save(file, array.astype(np.float64))
    else:
        np.save(file, array.astype(object), allow_pickle=True)
    message = the_error(file.parent, verify=False)
    assert str(file) in message
    assert "run `kit data` again" in message


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images.npy", lambda a: a[:, :-1]),
        ("labels.npy", lambda a: a[:-1]),
        ("labels.npy", lambda a: a + np.int16(2)),
        ("labels.npy", lambda a: a - np.int16(2)),
        ("canvas.npy", lambda a: a[:-1]),
        ("canvas_index.npy", lambda a: a[:-1]),
        ("canvas_index.npy", lambda a: a - 1),
    ],
)
def test_files_that_do_not_fit_together(
    make_set: MakeSet, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = make_set(tmp_path / "set", mixed=True).path
    np.save(path / name, change(np.load(path / name)))
    rewrite(path, lambda info: None)
    assert name.split(".")[0].split("_")[0] in the_error(path)


@pytest.mark.parametrize(
    "lines", ["", "{}\n", "[]\n", '{"file": "a.jpg", "box": null, "repair": null, "holdout": false}\n']
)
def test_samples_that_do_not_fit(make_set: MakeSet, tmp_path: Path, lines: str) -> None:
    path = make_set(tmp_path / "set").path
    (path / "samples.jsonl").write_text(lines)
    rewrite(path, lambda info: None)
    assert "samples.jsonl" in the_error(path)


@pytest.mark.parametrize(
    ("change", "refresh", "said"),
    [
        (lambda info: info.update(version=1), False, "another version"),
        (lambda info: info.pop("format"), False, "not a kit-dataset file"),  # as the kit wrote before
        (lambda info: info.pop("size"), False, "size"),
        (lambda info: info.update(classes="dogs"), False, "classes"),
        (lambda info: info.update(size=64), False, "digest"),
        (lambda info: info["files"].pop("whole.npy"), False, "digest"),
        (lambda info: info["files"].pop("labels.npy"), True, "labels.npy"),
        (lambda info: info["files"].pop("canvas.npy"), True, "canvas.npy"),
        (lambda info: info["files"].update({"../labels.npy": ""}), False, "outside the folder"),
    ],
)
def test_a_description_that_does_not_fit(
    make_set: MakeSet, tmp_path: Path, change: Callable[[dict[str, Any]], object], refresh: bool, said: str
) -> None:
    path = make_set(tmp_path / "set", mixed=True).path
    rewrite(path, change, refresh=refresh)
    message = the_error(path)
    assert "dataset.json" in message
    assert said in message


def test_no_such_set(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nothing'}: no such prepared set" in the_error(tmp_path / "nothing")


def test_digest_is_of_the_content_alone(make_set: MakeSet, tmp_path: Path) -> None:
    record = make_set(tmp_path / "set").record
    renamed = dataclasses.replace(record, name="other", source="elsewhere", counts=Counts())
    assert renamed.content_digest() == record.digest
    for change in ({"size": 9}, {"channels": 1}, {"classes": []}, {"crop": CropRecord(policy="whole")}, {"files": {}}):
        assert dataclasses.replace(record, **change).content_digest() != record.digest  # type: ignore[arg-type]


def test_the_last_set_is_remembered(make_set: MakeSet, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(KitError, match="run `kit data` first"):
        latest(root)
    first, second = (make_set(root / name).path for name in ("first", "second"))
    remember(first)
    remember(second)
    assert latest(root) == second
    assert (root / ".latest").read_text() == "second"  # so that the folder can be moved with its sets
    for name in (" odd [name] ", os.fsdecode(b"caf\xe9")):
        remember(make_set(root / name).path)
        assert latest(root) == root / name

    elsewhere = make_set(tmp_path / "elsewhere").path
    remember(elsewhere, root=root)
    assert latest(root) == elsewhere
    elsewhere.rename(tmp_path / "gone")
    with pytest.raises(KitError, match=r"elsewhere: .*gone; run `kit data` first"):
        latest(root)


@pytest.mark.parametrize("name", ["golden_retriever", "Golden Retriever", "golden-retriever", " golden  retriever "])
def test_names_of_classes_are_compared_in_one_form(name: str) -> None:
    assert class_key(name) == class_key("golden retriever") != class_key("goldenretriever")


def test_inputs_are_read_with_their_names(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "set", n=4, inputs=3)
    assert made.inputs is not None
    assert made.inputs.shape == (3, 16, 16, 3)
    assert made.input_files == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert make_set(tmp_path / "plain", n=4).inputs is None
    with (made.path / "inputs.jsonl").open("a") as lines:
        lines.write('{"file": "one too many.jpg"}\n')
    rewrite(made.path, lambda info: None)
    assert "inputs.jsonl" in the_error(made.path)


def test_a_power_cut_between_the_renames_of_a_replacement_loses_nothing(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "data" / "set")
    remember(made.path)
    made.path.rename(tmp_path / "data" / ".set.0123456789ab.old")
    assert latest(tmp_path / "data") == made.path
    assert load(made.path).digest == made.digest


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns", "gap", "scale"), [(1, 8, 0, 1), (6, 3, 2, 1), (7, 3, 3, 2)])
def test_every_picture_stands_in_its_place_on_white(
    channels: int, count: int, columns: int, gap: int, scale: int
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (count, 4, 5, channels), np.uint8)  # never 255: that is white
    sheet = make_grid(images, columns=columns, gap=gap, scale=scale)
    assert sheet.mode == {1: "L", 3: "RGB"}[channels]
    across, down = min(count, columns), -(-count // columns)
    width, height = 5 * scale, 4 * scale
    assert sheet.size == (across * width + (across - 1) * gap, down * height + (down - 1) * gap)

    for i, image in enumerate(images):
        left, top = i % columns * (width + gap), i // columns * (height + gap)
        tile = np.asarray(sheet.crop((left, top, left + width, top + height))).reshape(height, width, channels)
        for y, x in np.ndindex(height, width):
            assert (tile[y, x] == image[y // scale, x // scale]).all()
    drawn = np.asarray(sheet).reshape(*sheet.size[::-1], channels) != 255
    assert drawn.any(axis=2).sum() == count * width * height


@pytest.mark.parametrize(
    ("row", "dtype", "parts"),
    [((3,), np.int64, (1,)), ((4, 5, 3), np.uint8, (3, 0, 9)), ((3,), np.uint8, (4096, 70_000)), ((), np.uint8, ())],
)
def test_it_reads_back_as_numpy_would_have_saved_it(
    row: tuple[int, ...], dtype: type[np.generic], parts: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    chunks = [rng.integers(0, 256, (n, *row)).astype(dtype) for n in parts]
    with GrowingArray(tmp_path / "a.npy", row, dtype) as array:
        for chunk in chunks:
            array.append(chunk)
        assert array.length == sum(parts)
    expected = np.concatenate([np.empty((0, *row), dtype), *chunks])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    np.save(tmp_path / "b.npy", expected)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
