import contextlib
import gzip
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dog_files import BREEDS, LAYOUTS, DogFiles, below, clean_dogs, make_folder, make_zip, photo, voc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.competition import COMPETITIONS, DEFAULT, Competition, get
from kit.core.errors import KitError
from kit.core.lock import folder_lock
from kit.core.threads import VARIABLES
from kit.data import archives, crop_worker
from kit.data.crops import CROPS, CropSettings, cut
from kit.data.prepare import SIZES, describe, prepare
from kit.data.prepared_set import DatasetRecord, HoldoutCounts, InputCounts, PreparedSet, Sample, load

DOGS = get(DEFAULT)
MONET = get("gan-getting-started")
ARRAYS = ("images.npy", "labels.npy", "samples.jsonl", "whole.npy", "canvas.npy", "canvas_index.npy")


def make(
    source: Path, out: Path, policy: str | None = None, *, competition: Competition = DOGS, **options: Any
) -> PreparedSet:
    options = {"size": 16, "workers": 1, "max_rejected": 1.0, **options}
    return prepare(source, competition=competition, out=out, crop=CropSettings(policy=policy), **options)


def dogs_at(path: Path, dogs: DogFiles | None = None) -> Path:
    return LAYOUTS["two zips"](dogs or clean_dogs(), path)


def check_counts(record: DatasetRecord, samples: list[Sample]) -> None:
    """Every picture and every box is accounted for once."""
    counts, boxes = record.counts, record.counts.boxes
    assert counts.found == (
        counts.kept + counts.rejected + counts.duplicates + sum(counts.filtered.values()) + counts.copies
    )
    assert boxes.listed == boxes.kept + sum(boxes.dropped.values()) + sum(boxes.filtered.values())
    assert counts.samples == boxes.kept + counts.whole_pictures == len(samples)
    assert counts.kept == len({sample.file for sample in samples})
    assert boxes.kept == sum(sample.box is not None for sample in samples)
    listed = counts.rejected + counts.duplicates + counts.annotations_without_picture + counts.other_files
    assert len(record.rejected) == listed
    held = [sample.file for sample in samples if sample.holdout]
    assert counts.holdout == HoldoutCounts(pictures=len(set(held)), samples=len(held))
    assert not set(held) & {sample.file for sample in samples if not sample.holdout}


def check_set(prepared: PreparedSet, size: int, channels: int) -> None:
    """Every row is a picture of the stated size, with a source, a class or none, and a place in the counts."""
    samples = prepared.samples
    assert prepared.images.dtype == np.uint8
    assert prepared.images.shape == (len(samples), size, size, channels)
    assert prepared.whole.shape[1:] == (size, size, channels)
    check_counts(prepared.record, samples)
    used = {number for number in prepared.labels.tolist() if number >= 0}
    assert used == set(range(len(prepared.classes)))
    assert prepared.classes == sorted(prepared.classes)
    sheet = Image.open(prepared.path / "contact.png")
    assert sheet.mode == ("L" if channels == 1 else "RGB")
    assert sheet.width == min(8, len(samples)) * (size + 2) - 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_set_does_not_depend_on_how_the_source_is_packed(layout: str, tmp_path: Path) -> None:
    dogs = clean_dogs()
    expected = make(dogs_at(tmp_path / "plain", dogs), tmp_path / "expected", "mixed")
    found = make(LAYOUTS[layout](dogs, tmp_path / "source"), tmp_path / "found", "mixed")
    check_set(found, 16, 3)
    assert found.digest == expected.digest
    assert all((found.path / name).read_bytes() == (expected.path / name).read_bytes() for name in ARRAYS)


@pytest.mark.parametrize("policy", CROPS)
def test_every_row_is_the_box_it_says_of_the_picture_it_says(policy: str, tmp_path: Path) -> None:
    dogs = clean_dogs()
    prepared = make(dogs_at(tmp_path / "source", dogs), tmp_path / "set", policy)
    samples = prepared.samples
    assert len(samples) == (18 if CROPS[policy].region else 12)
    order: list[str] = []
    for row, sample in enumerate(samples):
        picture = Image.open(io.BytesIO(dogs.pictures[sample.file])).convert("RGB")
        if sample.file not in order:
            order.append(sample.file)
            resized = picture.resize((16, 16), Image.Resampling.LANCZOS, reducing_gap=2.5)
            np.testing.assert_array_equal(prepared.whole[len(order) - 1], np.asarray(resized))
        if sample.box is None:
            np.testing.assert_array_equal(prepared.images[row], prepared.whole[len(order) - 1])
        else:
            assert CROPS[policy].region is not None
            box = tuple(map(int, sample.box))
            expected = cut(np.asarray(picture), box, 16)  # type: ignore[arg-type]
            np.testing.assert_array_equal(prepared.images[row], expected)
        (breed,) = {
            key.split("/")[0].partition("-")[2] for key in dogs.annotations if key.endswith("/" + sample.file[:-4])
        }
        assert prepared.classes[prepared.labels[row]] == breed
    assert (prepared.path / "whole.npy").exists() == (policy != "whole")


def test_a_canvas_is_the_whole_picture_at_its_own_shape(tmp_path: Path) -> None:
    dogs = clean_dogs()
    prepared = make(dogs_at(tmp_path / "source", dogs), tmp_path / "set", "mixed")
    assert prepared.canvas is not None
    assert prepared.canvas_index is not None
    assert len(prepared.canvas_index) == len(dogs.pictures)
    assert len(prepared.canvas) == sum(h * w for _, h, w in prepared.canvas_index)
    for (offset, height, width), name in zip(prepared.canvas_index, sorted(dogs.pictures), strict=True):
        assert min(height, width) == 16
        picture = Image.open(io.BytesIO(dogs.pictures[name])).convert("RGB")
        expected = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.5))
        found = prepared.canvas[offset : offset + height * width].reshape(height, width, 3)
        np.testing.assert_array_equal(found, expected)
        assert abs(width / height - picture.width / picture.height) < 0.05


@pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=COMPETITIONS)
def test_each_competition_has_its_own_size_and_crop(competition: Competition, tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source") if competition.annotations else monets(tmp_path / "source.zip")
    prepared = make(source, tmp_path / "set", competition=competition, size=None)
    check_set(prepared, competition.size, 3)
    assert prepared.record.crop.policy == competition.crop
    assert prepared.competition == competition.slug
    assert prepared.classes == ([] if not competition.annotations else ["Alpha", "Beta-hound", "Gamma"])


def test_workers_change_nothing_but_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does a trial of how many are fastest, here on a machine on which one is."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(crop_worker, "cores", lambda: 2)
    monkeypatch.setattr(crop_worker, "PAYS", 0)
    ticking = itertools.accumulate(itertools.cycle([0.1, 8.0, 0.1, 1.0]))  # a trial with two processes, one with one
    monkeypatch.setattr(crop_worker, "time", SimpleNamespace(monotonic=lambda: next(ticking)))
    monkeypatch.setattr(crop_worker, "POOL_FROM", 1)
    monkeypatch.setattr(crop_worker, "CHUNK", 2)
    dogs = clean_dogs(40)
    dogs.pictures["n01_0.jpg"] = dogs.pictures["n01_0.jpg"][:500]
    source = dogs_at(tmp_path / "source", dogs)
    sets = [make(source, tmp_path / str(n), workers=n) for n in (1, 3)]
    monkeypatch.setattr(crop_worker, "START_METHOD", "spawn")  # as on macOS and Windows
    sets.append(make(source, tmp_path / "spawned", workers=2))
    with caplog.at_level("INFO"):
        sets.append(make(source, tmp_path / "measured", workers=None))
    assert "1 of 2 processes: the fastest" in caplog.text
    assert len({prepared.digest for prepared in sets}) == 1
    assert all(prepared.record.counts.rejected == 1 for prepared in sets)


@pytest.mark.skipif(sys.platform != "linux", reason="only forked processes see the change made to them here")
def test_a_process_that_is_killed_is_an_error_and_not_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_worker, "POOL_FROM", 1)
    monkeypatch.setattr(crop_worker._Worker, "prepare", lambda self, number: os._exit(9))
    with pytest.raises(KitError, match="--workers 1"):
        make(dogs_at(tmp_path / "source"), tmp_path / "set", workers=2)
    assert not (tmp_path / "set").exists()


def invalid_dogs() -> DogFiles:
    dogs = clean_dogs(6)
    dogs.add("n01_cut", photo(300, 200, seed=20)[:1500], (1, 1, 50, 50))
    dogs.add("n01_png", photo(seed=21, kind="PNG", mode="RGBA"), (1, 1, 50, 39))
    dogs.add("n01_same", dogs.pictures["n01_0.jpg"], (2, 2, 20, 20))
    dogs.add("n01_beyond", photo(seed=22), (-5, 3, 70, 30), (5, 5, 20, 20))
    dogs.add("n01_outside", photo(seed=23), (100, 100, 120, 130))
    dogs.add("n01_xml", photo(seed=24))
    dogs.annotations["n01-Alpha/n01_xml"] = b"not XML"
    dogs.pictures["n01_alone.jpg"] = photo(seed=25)
    dogs.annotations["n01-Alpha/n01_gone"] = dogs.annotations["n01-Alpha/n01_0"]
    return dogs


def test_invalid_samples_are_repaired_or_left_out_and_told(tmp_path: Path) -> None:
    prepared = make(dogs_at(tmp_path / "source", invalid_dogs()), tmp_path / "set", "square", max_rejected=0.25)
    check_set(prepared, 16, 3)
    assert {row.file: row.reason for row in prepared.record.rejected} == {
        "n01-Alpha/n01_gone": "annotation without a picture",
        "n01_alone.jpg": "no annotation",
        "n01_cut.jpg": prepared.record.rejected[2].reason,
        "n01_same.jpg": "the same bytes as n01_0.jpg",
        "n01_xml.jpg": "its annotation is no XML (syntax error: line 1, column 0)",
    }
    assert prepared.record.rejected[2].reason.startswith("damaged (image file is truncated")
    repairs = {sample.file: sample.repair for sample in prepared.samples if sample.repair}
    assert repairs == {
        "n01_png.jpg": "laid on white",
        "n01_beyond.jpg": "box clamped to the picture",
        "n01_outside.jpg": "box 1 is outside: the whole picture taken",
    }
    assert prepared.record.counts.repaired == {
        "box clamped to the picture": 1,
        "laid on white": 1,
        "no good box, whole picture taken": 1,
    }
    told = "\n".join(describe(prepared))
    for words in (
        "13 found = 9 kept + 3 rejected + 1 duplicates",
        "1 outside",
        "n01_xml.jpg: its annotation",
        "n01_gone",
    ):
        assert words in told
    assert list(describe(prepared, reasons=1))[-1].startswith("left out 4 more")


def test_duplicates_can_be_kept_and_stay_on_one_side_of_the_hold_out(tmp_path: Path) -> None:
    dogs = clean_dogs(10)
    for i, name in enumerate(sorted(dogs.pictures)):
        dogs.add(f"n03_same{i}", dogs.pictures[name], (2, 2, 30, 30), breed=BREEDS[2])
    source = dogs_at(tmp_path / "source", dogs)
    assert make(source, tmp_path / "once", holdout=0.3).record.counts.duplicates == 10
    prepared = make(source, tmp_path / "twice", holdout=0.3, keep_duplicates=True)
    check_set(prepared, 16, 3)
    assert prepared.record.counts.duplicates == 0
    side = {sample.file: sample.holdout for sample in prepared.samples}
    sides_of = {
        data: {side[name] for name, other in dogs.pictures.items() if other == data} for data in dogs.pictures.values()
    }
    assert all(len(sides) == 1 for sides in sides_of.values())
    assert prepared.record.counts.holdout.pictures == 6


@pytest.mark.parametrize("share", [0, 0.25])
def test_the_hold_out_is_a_share_of_the_pictures_by_their_bytes(share: float, tmp_path: Path) -> None:
    dogs = clean_dogs(20)
    prepared = make(dogs_at(tmp_path / "a", dogs), tmp_path / "set", holdout=share)
    held = {sample.file for sample in prepared.samples if sample.holdout}
    assert len(held) == round(share * 20)
    # Other names, other order, same bytes: the same pictures.
    renamed = DogFiles()
    other_name = {name: f"z{len(dogs.pictures) - i}.jpg" for i, name in enumerate(sorted(dogs.pictures))}
    for key, note in dogs.annotations.items():
        breed, name = key.split("/")
        renamed.pictures[other_name[f"{name}.jpg"]] = dogs.pictures[f"{name}.jpg"]
        renamed.annotations[f"{breed}/{other_name[f'{name}.jpg'][:-4]}"] = note
    again = make(dogs_at(tmp_path / "b", renamed), tmp_path / "other", holdout=share)
    assert {sample.file for sample in again.samples if sample.holdout} == {other_name[name] for name in held}
    if share:
        reseeded = make(dogs_at(tmp_path / "a", dogs), tmp_path / "seeded", holdout=share, seed=1)
        assert {sample.file for sample in reseeded.samples if sample.holdout} != held


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_the_same_set_again_changes_nothing(tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source")
    first = make(source, tmp_path / "set")
    before = stamps(first.path)
    seen: list[int] = []
    again = make(source, tmp_path / "set", progress=lambda done, total: seen.append(done))
    assert stamps(again.path) == before
    assert seen == []
    # Packed otherwise it has to be read, and is found to be the same.
    make(LAYOUTS["folders"](clean_dogs(), tmp_path / "loose"), tmp_path / "set")
    assert stamps(first.path) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("change", ["settings", "source", "damage", "version"])
def test_a_set_that_is_another_or_damaged_is_replaced_whole(change: str, tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source")
    first = make(source, tmp_path / "set", "mixed")
    options: dict[str, Any] = {"policy": "mixed"}
    if change == "settings":
        options = {"policy": "box"}
    elif change == "source":
        dogs_at(tmp_path / "source", clean_dogs(13))
    elif change == "damage":
        with (first.path / "images.npy").open("r+b") as file:
            file.seek(500)
            file.write(b"damage")
    else:
        info = json.loads((first.path / "dataset.json").read_text())
        (first.path / "dataset.json").write_text(json.dumps({**info, "version": 0}))
    again = make(source, tmp_path / "set", **options)
    check_set(load(again.path), 16, 3)
    assert (again.digest == first.digest) == (change in ("damage", "version"))
    assert (again.path / "canvas.npy").exists() == (change != "settings")


def test_a_stricter_limit_is_not_passed_by_an_earlier_set(tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source", invalid_dogs())
    first = make(source, tmp_path / "set", max_rejected=0.5)
    with pytest.raises(KitError, match="max-rejected"):
        make(source, tmp_path / "set", max_rejected=0.1)
    assert load(first.path).digest == first.digest


FOREIGN = {
    "pictures": {"holiday.jpg": b"mine"},
    "StyleGAN's layout": {"dataset.json": b'{"labels": [["00000/a.png", 0]]}', "00000/a.png": photo(kind="PNG")},
    "a dataset.json with a version": {"dataset.json": b'{"version": 2, "files": {}}', "a.npy": b"mine"},
    "a run": {"run.json": b'{"format": "kit-run", "version": 2}'},
}


@pytest.mark.abuse("B6")
@pytest.mark.parametrize("kind", FOREIGN)
def test_folders_of_the_user_are_never_replaced(kind: str, tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source")
    out = make_folder(tmp_path / "mine", FOREIGN[kind])
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "file").write_text("mine")
    for place in (out, tmp_path / "link", tmp_path / "file"):
        with pytest.raises(KitError, match="choose another --out"):
            make(source, place)
    assert {
        file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()
    } == FOREIGN[kind]
    (tmp_path / "empty").mkdir()
    make(source, tmp_path / "empty")


@pytest.mark.abuse("B6")
def test_what_the_user_put_into_a_set_stays_when_the_set_is_replaced(tmp_path: Path) -> None:
    source = dogs_at(tmp_path / "source")
    first = make(source, tmp_path / "set", "mixed")
    make_folder(first.path, {"notes.md": b"mine", "more/a.txt": b"mine, too"})
    again = make(source, tmp_path / "set", "box")
    assert again.digest != first.digest
    assert (again.path / "notes.md").read_bytes() == b"mine"
    assert (again.path / "more" / "a.txt").read_bytes() == b"mine, too"
    assert not (again.path / "canvas.npy").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "source"]


@pytest.mark.abuse("F23")
def test_a_set_of_other_pictures_is_named_before_it_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cats = dogs_at(tmp_path / "cats")
    first = make(cats, tmp_path / "set")
    make(cats, tmp_path / "set", "box")
    assert not caplog.messages  # the same pictures
    make(dogs_at(tmp_path / "dogs", clean_dogs(13)), tmp_path / "set")
    (message,) = caplog.messages
    assert str(tmp_path / "cats") in message
    assert first.path.name in message


@pytest.mark.abuse("F25")
@pytest.mark.parametrize("source", ["set", ".", "set/below"])
def test_a_source_that_is_or_holds_or_lies_in_the_output_is_refused(source: str, tmp_path: Path) -> None:
    files = {"a.jpg": photo(), "set/b.jpg": photo(seed=1), "set/below/c.jpg": photo(seed=2)}
    make_folder(tmp_path, files)
    with pytest.raises(KitError, match="choose another --out"):
        make(tmp_path / source, tmp_path / "set")
    assert all((tmp_path / name).read_bytes() == data for name, data in files.items())


@pytest.mark.abuse("F25")
def test_a_prepared_set_is_no_source(tmp_path: Path) -> None:
    prepared = make(dogs_at(tmp_path / "source"), tmp_path / "set")
    with pytest.raises(KitError, match=r"made by the kit \(dataset.json\)"):
        make(prepared.path, tmp_path / "other")


@pytest.mark.abuse("B8")
def test_two_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "set"), pytest.raises(KitError, match="in use by process"):
        make(dogs_at(tmp_path / "source"), tmp_path / "set")


@pytest.mark.abuse("D15")
@pytest.mark.skipif(sys.platform != "linux", reason="other file systems allow no such names")
def test_names_that_are_no_utf8_are_taken_as_they_are(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 [x] ")
    source = make_folder(tmp_path / odd, {f"{odd}.jpg": photo(seed=1), "b.jpg": photo(seed=2)})
    prepared = make(source, tmp_path / "out" / odd)
    assert load(prepared.path).name == "caf\\udce9 [x] "
    assert [sample.file for sample in prepared.samples] == ["b.jpg", "caf\\udce9 [x] .jpg"]


@pytest.mark.abuse("F33")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_more_zips_than_a_process_may_open(tmp_path: Path) -> None:
    import resource

    for k in range(80):
        make_zip(tmp_path / "source" / f"{k:02}.zip", {f"{k}.jpg": photo(20, 20, seed=k)})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = os.dup(0)  # the lowest number that is free
    os.close(used)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + archives.MAX_OPEN + 12, before[1]))
    try:
        prepared = make(tmp_path / "source", tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(prepared.images) == 80


def children(pid: int) -> list[int]:
    """The processes that another one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.abuse("B9")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_processes_and_no_parts(number: signal.Signals, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_folder(source, {"0.png": photo(600, 400, kind="PNG")})
    for k in range(1, 1500):
        os.link(source / "0.png", source / f"{k}.png")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", "from kit.cli import main; main()", *("data", "--from", source, "--workers", "2")],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(workers := children(process.pid)) < 2 and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}.get(number, 128 + number), said
    assert "Traceback" not in said
    while any(map(alive, workers)):
        time.sleep(0.05)
    if number != signal.SIGKILL:  # after which the next `kit data` clears up
        assert list((tmp_path / "tmp").iterdir()) == []
        assert list((tmp_path / "data").iterdir()) == []


def monets(path: Path, targets: int = 4, inputs: int = 6) -> Path:
    files = {f"monet_jpg/{k}.jpg": photo(256, 256, seed=k) for k in range(targets)}
    files |= {f"photo_jpg/{k}.jpg": photo(256, 256, seed=100 + k) for k in range(inputs)}
    return make_zip(path, files | {"photo_jpg/again.jpg": files["photo_jpg/0.jpg"], "photo_tfrec/0.tfrec": b"record"})


def test_targets_and_inputs_are_two_halves_of_one_set(tmp_path: Path) -> None:
    prepared = make(monets(tmp_path / "monet.zip"), tmp_path / "set", competition=MONET, holdout=0.25)
    check_set(prepared, 16, 3)
    assert prepared.inputs is not None
    assert prepared.input_files == [*(f"{k}.jpg" for k in range(6)), "again.jpg"]
    np.testing.assert_array_equal(prepared.inputs[0], prepared.inputs[-1])
    assert prepared.record.counts.inputs == InputCounts(found=7, kept=7, duplicates=1)
    assert len(prepared.images) == 4
    assert not (prepared.path / "whole.npy").exists()
    told = "\n".join(describe(prepared))
    assert "pictures to be translated: 7 found = 7 kept (1 of them duplicates) + 0 rejected" in told
    assert "a TFRecord" in told
    assert load(prepared.path).digest == prepared.digest
    # In two folders of any names it is the same set.
    with zipfile.ZipFile(tmp_path / "monet.zip") as archive:
        archive.extractall(tmp_path / "loose")
    loose = tmp_path / "loose"
    again = make(loose / "monet_jpg", tmp_path / "other", inputs=loose / "photo_jpg", competition=DOGS, holdout=0.25)
    assert again.digest == prepared.digest
    assert again.input_files == prepared.input_files


BAD_INPUTS: dict[str, tuple[dict[str, bytes], str]] = {
    "none": ({"readme.txt": b"x"}, "no pictures in it"),
    "no pictures": ({"a.jpg": b"x", "b.jpg": b"y"}, "cannot be used"),
    "too many damaged": ({"a.jpg": photo(), "b.jpg": photo()[:300]}, "1 of 2 pictures"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_that_cannot_be_used_are_named(case: str, tmp_path: Path) -> None:
    files, words = BAD_INPUTS[case]
    inputs = make_folder(tmp_path / "inputs", files)
    targets = make_folder(tmp_path / "targets", {"a.jpg": photo()})
    with pytest.raises(KitError, match=words) as error:
        make(targets, tmp_path / "set", inputs=inputs, max_rejected=0.1)
    assert str(inputs) in error.value.problem
    assert not (tmp_path / "set").exists()


def test_inputs_of_any_kind_become_the_sets_size(tmp_path: Path) -> None:
    kinds = {
        "grey.jpg": photo(mode="L"),
        "huge.jpg": photo(900, 700),
        "tiny.png": photo(1, 1, kind="PNG"),
        "bad.jpg": b"x",
    }
    targets = make_folder(tmp_path / "targets", {"a.jpg": photo()})
    prepared = make(targets, tmp_path / "set", inputs=make_folder(tmp_path / "inputs", kinds))
    assert prepared.inputs is not None
    assert prepared.inputs.shape == (3, 16, 16, 3)
    assert prepared.record.counts.inputs == InputCounts(found=4, kept=3, rejected=1)
    assert [row.file for row in prepared.record.rejected] == ["inputs/bad.jpg"]


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"size": 30}, "a size of 30 px"),
    "channels": ({"channels": 2}, "2 channels"),
    "holdout": ({"holdout": 1.0}, "hold-out of 1.0"),
    "max_rejected": ({"max_rejected": 1.5}, "max-rejected of 1.5"),
    "workers": ({"workers": 0}, "0 workers"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_values_that_make_no_sense_are_refused_before_anything(case: str, tmp_path: Path) -> None:
    options, words = BAD_ARGUMENTS[case]
    with pytest.raises(KitError, match=words) as error:
        make(tmp_path / "missing", tmp_path / "set", **options)
    assert error.value.remedy


def one_dog(picture: bytes) -> DogFiles:
    dogs = DogFiles()
    dogs.add("n01_1", picture, (1, 1, 30, 30))
    return dogs


UNUSABLE: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no such path": (lambda path: path / "nowhere", {}, "no such file"),
    "no zip": (lambda path: make_folder(path, {"x.zip": b"<html>"}) / "x.zip", {}, "no zip archive"),
    "all damaged": (lambda path: dogs_at(path, one_dog(b"x")), {}, "no picture left"),
    "too much damaged": (lambda path: dogs_at(path, one_dog(b"x")), {"max_rejected": 0.5}, "1 of 1 pictures"),
    "all filtered": (
        lambda path: dogs_at(path, one_dog(photo())),
        {"crop": CropSettings(min_side=35)},
        "no picture left",
    ),
    "no boxes": (
        lambda path: make_folder(path, {"a.jpg": photo()}),
        {"crop": CropSettings(policy="box")},
        "--crop whole",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_source_that_cannot_be_used_is_one_line_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    make_source, options, words = UNUSABLE[case]
    source = make_source(tmp_path / "source")
    options = {"crop": None, "max_rejected": 1.0, **options}
    with pytest.raises(KitError) as error:
        prepare(source, competition=DOGS, out=tmp_path / "out" / "set", size=16, workers=1, **options)
    assert words in str(error.value)
    assert str(source) in str(error.value)
    assert error.value.remedy
    assert not list((tmp_path / "out").glob("*")) or not (tmp_path / "out").exists()


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dogs_at(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))  # type: ignore[attr-defined]
    with pytest.raises(KitError, match="MB are needed"):
        make(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_disk_that_fills_up_leaves_the_old_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dogs_at(tmp_path / "source")
    first = make(source, tmp_path / "set")

    def full(self: object, rows: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kit.data.set_writer.GrowingArray.append", full)
    with pytest.raises(KitError, match="the disk is full"):
        make(source, tmp_path / "set", "box")
    assert load(first.path).digest == first.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "source"]


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (112, 3), (256, 3)])
def test_every_size_and_both_depths(size: int, channels: int, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", {f"{i}.png": photo(20 + i, 30, seed=i, kind="PNG") for i in range(2)})
    prepared = make(source, tmp_path / "set", size=size, channels=channels)
    check_set(prepared, size, channels)


def test_sizes_are_those_of_the_networks() -> None:
    from kit.models.layers import split_size

    for size in range(1, 300):
        if size in SIZES:
            base, doublings = split_size(size)
            assert size == base << doublings
        else:
            with pytest.raises(KitError):
                split_size(size)


def test_class_folders_become_classes(tmp_path: Path) -> None:
    files = below("cat", {"1.jpg": photo(seed=1), "2.jpg": photo(seed=2)}) | below("ant", {"1.jpg": photo(seed=3)})
    prepared = make(make_zip(tmp_path / "set.zip", files | {"bad/1.jpg": b"no picture"}), tmp_path / "set")
    check_set(prepared, 16, 3)
    assert prepared.classes == ["ant", "cat"]  # a class without a picture left is none
    assert prepared.labels.tolist() == [0, 1, 1]
    assert [sample.file for sample in prepared.samples] == ["ant/1.jpg", "cat/1.jpg", "cat/2.jpg"]


# Whatever comes: any part of a set may be invalid in any way, a few at a time.
GOOD_PICTURES = st.builds(
    photo,
    st.integers(1, 90),
    st.integers(1, 90),
    seed=st.integers(0, 9),
    kind=st.sampled_from(["JPEG", "PNG", "GIF"]),
    mode=st.sampled_from(["RGB", "L"]),
)
ODD_PICTURES = st.one_of(
    st.builds(photo, seed=st.integers(0, 3), kind=st.just("PNG"), mode=st.sampled_from(["RGBA", "LA", "1", "P"])),
    st.builds(photo, seed=st.integers(0, 3), mode=st.just("CMYK")),
    st.builds(lambda n: photo(60, 60)[:n], st.integers(0, 700)),
    st.binary(max_size=20),
)
GOOD_BOXES = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(21, 60), st.integers(21, 40))
ODD_NUMBERS = st.integers(-30, 120) | st.sampled_from(["nan", "", "x", "1e400", "12.5"])
ODD_BOXES = st.tuples(ODD_NUMBERS, ODD_NUMBERS, ODD_NUMBERS, ODD_NUMBERS)
ODD_NOTES = st.sampled_from([b"", b"<annotation>", b'<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', voc()])
NUMBERS = ("1", "2", "3", "é", "x y")


def now_and_then(draw: st.DrawFn, odds: int) -> bool:
    return draw(st.integers(1, odds)) == odds


def size_of(data: bytes) -> tuple[int, int]:
    try:
        return Image.open(io.BytesIO(data)).size
    except OSError:
        return 0, 0


@st.composite
def invalid_sets(draw: st.DrawFn) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for breed in BREEDS:
        for number in draw(st.lists(st.sampled_from(NUMBERS), max_size=4, unique=True)):
            name = f"{breed.partition('-')[0]}_{number}"
            suffix = draw(st.sampled_from([".jpg", ".jpg", ".JPG", ".png", ".txt"]))
            folder = "Annotation/n01-Other" if now_and_then(draw, 60) else f"Annotation/{breed}"
            boxes = draw(st.lists(ODD_BOXES if now_and_then(draw, 3) else GOOD_BOXES, max_size=3))
            if not now_and_then(draw, 10):
                files[f"all-dogs/{name}{suffix}"] = draw(ODD_PICTURES if now_and_then(draw, 4) else GOOD_PICTURES)
            if not now_and_then(draw, 10):
                files[f"{folder}/{name}"] = draw(ODD_NOTES) if now_and_then(draw, 6) else voc(*boxes)
            if now_and_then(draw, 8):  # another of its name
                other = draw(st.sampled_from([f"{name.upper()}.JPG", f"more/{name}.jpg", f"{name}.gif"]))
                files[f"all-dogs/{other}"] = draw(GOOD_PICTURES)
    if now_and_then(draw, 4):
        prefix = draw(st.sampled_from(["", "Annotation/", "__MACOSX/", "all-dogs/", "../"]))
        files[f"{prefix}stray.jpg"] = draw(GOOD_PICTURES)
    if now_and_then(draw, 5):  # no competition's set at all
        files = {name.replace("all-dogs", "a").replace("Annotation", "b"): data for name, data in files.items()}
    return files


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=invalid_sets(),
    policy=st.sampled_from([None, *CROPS]),
    channels=st.sampled_from([None, 1, 3]),
    min_side=st.sampled_from([0, 0, 25]),
    holdout=st.sampled_from([0.0, 0.3]),
    keep_duplicates=st.booleans(),
    max_rejected=st.sampled_from([1.0, 1.0, 0.3]),
)
def test_whatever_comes_it_ends_in_a_traced_set_or_one_line(
    files: dict[str, bytes],
    policy: str | None,
    channels: int | None,
    min_side: int,
    holdout: float,
    keep_duplicates: bool,
    max_rejected: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("invalid")
    source = make_zip(folder / "set.zip", files)
    out = folder / "out" / "set"
    try:
        prepared = prepare(
            source,
            competition=DOGS,
            out=out,
            crop=CropSettings(policy=policy, min_side=min_side),
            size=16,
            channels=channels,
            holdout=holdout,
            max_rejected=max_rejected,
            keep_duplicates=keep_duplicates,
            workers=1,
        )
    except KitError as error:
        line, remedy = str(error), error.remedy
        assert str(source) in line
        assert "\n" not in line
        assert remedy
        assert not out.exists()
        return
    check_set(load(out), 16, channels or 3)
    assert prepared.record.counts.rejected <= max_rejected * prepared.record.counts.found
    names = {name.rsplit("/", 1)[-1] for name in files}
    for sample in prepared.samples:
        assert sample.file.rsplit("/", 1)[-1] in names
        if sample.box is not None:
            of_that_name = [data for name, data in files.items() if name.endswith("/" + sample.file)]
            xmin, ymin, xmax, ymax = sample.box
            assert 0 <= xmin < xmax
            assert 0 <= ymin < ymax
            assert any(xmax <= width and ymax <= height for width, height in map(size_of, of_that_name))


def test_one_idx_file_is_a_source_with_its_labels(tmp_path: Path) -> None:
    files = {}
    for number, part in enumerate(("letters-train", "digits-train")):
        for what, array in (("images-idx3", np.full((3, 28, 28), number, np.uint8)), ("labels-idx1", np.arange(3))):
            shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
            files[f"{part}-{what}-ubyte"] = bytes((0, 0, 8, array.ndim)) + shape + array.astype(np.uint8).tobytes()
    source = make_folder(tmp_path / "emnist", files)
    with pytest.raises(KitError, match="name the file of pictures itself"):
        make(source, tmp_path / "set")
    prepared = make(
        source / "digits-train-images-idx3-ubyte", tmp_path / "set", size=28, holdout=0, keep_duplicates=True
    )
    assert (prepared.images == 1).all()
    assert prepared.classes == ["0", "1", "2"]


def test_real_photographs_come_through(shared: Path, tmp_path: Path) -> None:
    prepared = prepare(shared / "dogs-originals", competition=DOGS, out=tmp_path / "set", workers=2)
    check_set(prepared, 64, 3)
    with zipfile.ZipFile(shared / "dogs-originals" / "Annotation.zip") as archive:
        breeds = {name.split("/")[1].partition("-")[2] for name in archive.namelist()}
    assert set(prepared.classes) == breeds
    assert prepared.record.counts.found == 557
    assert prepared.record.counts.boxes.listed == 533 + 2 * 20 + 3 * 4  # objects in the XML, counted apart
    assert prepared.record.rejected == []


def test_real_anime_faces_and_digits_come_through(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "anime-faces.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")][::20]
        source = make_zip(tmp_path / "faces.zip", {name: archive.read(name) for name in names})
    faces = prepare(source, competition=DOGS, out=tmp_path / "faces")
    check_set(faces, 64, 3)
    assert faces.classes == []
    assert faces.record.counts.found == len(names)
    files = {file.name: file.read_bytes() for file in (shared / "mnist").glob("t10k-*")}
    pictures, labels = (gzip.decompress(files[name]) for name in sorted(files))
    count = (1000).to_bytes(4, "big")
    first = {
        "t10k-images-idx3-ubyte": pictures[:4] + count + pictures[8 : 16 + 1000 * 784],
        "t10k-labels-idx1-ubyte": labels[:4] + count + labels[8:1008],
    }
    digits = prepare(make_folder(tmp_path / "mnist", first), competition=DOGS, out=tmp_path / "digits")
    check_set(digits, 28, 1)
    assert digits.classes == [str(digit) for digit in range(10)]
    assert np.bincount(digits.labels).tolist() == [85, 126, 116, 107, 110, 87, 87, 99, 89, 94]  # known of MNIST


def test_real_monets_and_photographs_are_one_set(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "monet" / "gan-getting-started.zip") as archive:
        names = archive.namelist()
        for folder, count in (("monet_jpg", 60), ("photo_jpg", 90)):
            some = [name for name in names if f"{folder}/" in name and not name.endswith("/")][:count]
            make_folder(tmp_path / "monet", {name: archive.read(name) for name in some})
    prepared = prepare(tmp_path / "monet", competition=MONET, out=tmp_path / "set", size=64, workers=1)
    assert prepared.inputs is not None
    assert (len(prepared.images), len(prepared.inputs)) == (60, 90)
    assert all(len(name) == 14 and name.endswith(".jpg") for name in prepared.input_files)  # ten hexadecimal digits
