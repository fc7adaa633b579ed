from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.data import batches, prepared_set
from kit.data.batches import Batches
from kit.data.prepared_set import PreparedSet

MakeSet = Callable[..., PreparedSet]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plain(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_set(tmp_path_factory.mktemp("plain") / "set", n=40, size=8)


@pytest.fixture(scope="module")
def mixed(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_set(tmp_path_factory.mktemp("mixed") / "set", n=40, size=8, mixed=True)


def grey_levels(images: torch.Tensor) -> np.ndarray:
    """The stored pixels of a batch, uint8 (B, H, W, C); the way back must be exact."""
    levels = (images.double() + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def row_of(image: np.ndarray, prepared: PreparedSet) -> int:
    (rows,) = np.nonzero((prepared.images == image).all(axis=(1, 2, 3)))
    assert len(rows) == 1
    return int(rows[0])


@pytest.mark.parametrize(("split", "count"), [("all", 7), ("train", 1), ("holdout", 1000)])
def test_an_epoch_visits_every_row_of_its_split_once(plain: PreparedSet, split: prepared_set.Split, count: int) -> None:
    batches = Batches(plain, seed=1, device=CPU, flip=False, split=split)
    assert len(batches) == len(plain.rows(split))
    orders = []
    for epoch in range(2):
        begin, seen = epoch * len(batches), []
        for position in range(begin, begin + len(batches), count):
            images, labels = batches.draw(position, min(count, begin + len(batches) - position))
            found = [row_of(image, plain) for image in grey_levels(images)]
            assert labels.tolist() == plain.labels[found].tolist()
            seen += found
        assert sorted(seen) == plain.rows(split).tolist()
        orders.append(seen)
    assert orders[0] != orders[1]


@settings(max_examples=40)
@given(data=st.data())
def test_a_batch_is_its_parts_whatever_was_drawn_before(mixed: PreparedSet, data: st.DataObject) -> None:
    """Batches straddle epochs, resumed runs start anywhere, and micro-batches share out one batch."""
    position = data.draw(st.integers(0, 200))
    parts = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    at_once = Batches(mixed, seed=3, device=CPU, flip=True).draw(position, sum(parts))
    batches = Batches(mixed, seed=3, device=CPU, flip=True)
    starts = np.cumsum([position, *parts])[:-1].tolist()
    drawn = {}
    for k in data.draw(st.permutations(range(len(parts)))):
        drawn[k] = batches.draw(starts[k], parts[k])
    for whole, pieces in zip(at_once, zip(*(drawn[k] for k in range(len(parts))), strict=True), strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_what_a_batch_is_made_of(plain: PreparedSet) -> None:
    images, labels = Batches(plain, seed=0, device=CPU, flip=True).draw(5, 6)
    assert images.shape == (6, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.min() >= -1
    assert images.max() <= 1
    assert labels.shape == (6,)
    assert labels.dtype == torch.int64


def test_pixels_go_to_minus_one_and_one(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "set", n=1, size=16, channels=1, classes=0)
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.save(made.path / "images.npy", ramp)
    images, labels = Batches(prepared_set.load(made.path, verify=False), seed=0, device=CPU, flip=False).draw(0, 1)
    assert images.shape == (1, 1, 16, 16)
    np.testing.assert_allclose(images.flatten(), np.arange(256) / 127.5 - 1, atol=1e-7)
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.tolist() == [-1]


def test_seeds_differ_and_leave_the_global_state_alone(plain: PreparedSet) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index,union-attr]
    draws = [Batches(plain, seed=seed, device=CPU, flip=True).draw(0, 36)[0] for seed in range(3)]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]
    assert before[2] == random.getstate()


def test_half_of_the_pictures_are_mirrored_and_the_order_stays(plain: PreparedSet) -> None:
    straight, flipped = (Batches(plain, seed=2, device=CPU, flip=flip).draw(0, 20 * 35)[0] for flip in (False, True))
    mirrored = 0
    for one, other in zip(grey_levels(straight), grey_levels(flipped), strict=True):
        assert (other == one).all() or (other == one[:, ::-1]).all()
        mirrored += not (other == one).all()
    assert 300 < mirrored < 400  # 350 ± 13 for fair coins


def windows_of(mixed: PreparedSet, picture: int) -> np.ndarray:
    """Every window of a source picture, (rows, columns, size, size, C), the slow and plain way."""
    assert mixed.canvas is not None
    assert mixed.canvas_index is not None
    offset, height, width = mixed.canvas_index[picture].tolist()
    pixels = np.array(mixed.canvas[offset : offset + height * width]).reshape(height, width, -1)
    s = mixed.size
    return np.array([[pixels[y : y + s, x : x + s] for x in range(width - s + 1)] for y in range(height - s + 1)])


@pytest.mark.parametrize("flip", [False, True])
def test_half_of_the_draws_of_a_mixed_set_are_windows_of_their_own_picture(mixed: PreparedSet, flip: bool) -> None:
    batches = Batches(mixed, seed=4, device=CPU, flip=flip)
    train = set(mixed.pictures[mixed.rows("train")].tolist())
    crops, places = 0, Counter[tuple[int, int, int]]()
    pool = [(picture, windows_of(mixed, picture)) for picture in sorted(train)]
    epochs = 12
    for image in grey_levels(batches.draw(0, epochs * len(batches))[0]):
        views = (image, image[:, ::-1]) if flip else (image,)
        if any((mixed.images == view).all(axis=(1, 2, 3)).any() for view in views):
            crops += 1
            continue
        hits = [
            (picture, int(y), int(x))
            for view in views
            for picture, windows in pool
            for y, x in np.argwhere((windows == view).all(axis=(2, 3, 4)))
        ]
        assert hits, "a picture that is neither a crop nor a window of a training picture"
        places[hits[0]] += 1
    total = epochs * len(batches)
    assert abs(crops - total / 2) < 4 * np.sqrt(total / 4)
    assert len(places) > 100  # drawn afresh each epoch, not frozen
    last = int(mixed.pictures[mixed.rows("train")].max())
    assert max(y + x for picture, y, x in places if picture == last) > 0.7 * (
        windows_of(mixed, last).shape[0] + windows_of(mixed, last).shape[1] - 2
    )


def test_windows_keep_the_label_and_the_picture_of_their_row(mixed: PreparedSet) -> None:
    """The crops of the same seed in a set without canvas tell which row each draw is."""
    plain = PreparedSet(mixed.path, mixed.record, mixed.images, mixed.labels, mixed.whole)
    rows, labels = Batches(plain, seed=6, device=CPU, flip=False).draw(0, 70)
    images, same = Batches(mixed, seed=6, device=CPU, flip=False).draw(0, 70)
    assert torch.equal(labels, same)
    for crop, image in zip(grey_levels(rows), grey_levels(images), strict=True):
        if (crop != image).any():
            windows = windows_of(mixed, int(mixed.pictures[row_of(crop, plain)]))
            assert (windows == image).all(axis=(2, 3, 4)).any()


def test_an_empty_split_is_an_error(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(tmp_path / "set", n=3)  # too few for a hold-out
    with pytest.raises(KitError, match="no pictures in the holdout part; choose another --holdout"):
        Batches(made, seed=0, device=CPU, flip=False, split="holdout")


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
@pytest.mark.parametrize("fits", [True, False])
def test_every_device_draws_the_same(
    mixed: PreparedSet, monkeypatch: pytest.MonkeyPatch, device: str, fits: bool
) -> None:
    expected = Batches(mixed, seed=5, device=CPU, flip=True).draw(30, 64)
    monkeypatch.setattr(batches, "_fits", lambda stored, device: fits)
    drawn = Batches(mixed, seed=5, device=torch.device(device), flip=True).draw(30, 64)
    for one, other in zip(expected, drawn, strict=True):
        assert other.device.type == device
        assert torch.equal(one, other.cpu())


@pytest.fixture(scope="module")
def halves(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_set(tmp_path_factory.mktemp("halves") / "set", n=40, size=8, inputs=11)


def test_all_inputs_are_drawn_once_an_epoch_in_an_order_of_their_own(halves: PreparedSet) -> None:
    assert halves.inputs is not None
    batches = Batches(halves, seed=1, device=CPU, flip=False)
    orders = []
    for epoch in range(3):
        drawn = grey_levels(batches.draw_inputs(epoch * 11, 11))
        orders.append([int(np.flatnonzero((halves.inputs == image).all(axis=(1, 2, 3)))[0]) for image in drawn])
        assert sorted(orders[-1]) == list(range(11))
    assert orders[0] != orders[1] != orders[2]


@settings(max_examples=20)
@given(position=st.integers(0, 60), parts=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_inputs_are_a_function_of_the_seed_and_the_pictures_seen(
    halves: PreparedSet, position: int, parts: list[int]
) -> None:
    at_once = Batches(halves, seed=3, device=CPU, flip=True).draw_inputs(position, sum(parts))
    batches = Batches(halves, seed=3, device=CPU, flip=True)
    starts = np.cumsum([position, *parts])[:-1].tolist()
    pieces = [batches.draw_inputs(start, count) for start, count in reversed(list(zip(starts, parts, strict=True)))]
    assert torch.equal(at_once, torch.cat(pieces[::-1]))
    assert not torch.equal(at_once, Batches(halves, seed=4, device=CPU, flip=True).draw_inputs(position, sum(parts)))


def test_inputs_do_not_move_the_targets(halves: PreparedSet, make_set: MakeSet, tmp_path: Path) -> None:
    alone = make_set(tmp_path / "set", n=40, size=8)
    drawn = [Batches(made, seed=2, device=CPU, flip=True).draw(3, 50)[0] for made in (halves, alone)]
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="without pictures to be translated"):
        Batches(alone, seed=2, device=CPU, flip=True).draw_inputs(0, 1)
