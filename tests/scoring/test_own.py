"""The set's own feature network: it learns what there is to learn, keeps to its time, and is kept with the set."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scoring_helpers import draw

from kit.core.errors import KitError
from kit.core.files import read_json
from kit.data.prepared_set import PreparedSet
from kit.scoring import features as feature_sets
from kit.scoring import own
from kit.scoring.extract import FeatureSet
from kit.scoring.own import CONFIG, TRAINED, OwnConfig, own_features, rotated, task_of, train
from kit.scoring.reference import default_cache

CPU = torch.device("cpu")
MakeSet = Callable[..., PreparedSet]

SMALL = OwnConfig(channels=(4, 4, 8, 8), pictures=64, batch=16, lr=3e-3)


@pytest.fixture
def prepared(make_set: MakeSet) -> PreparedSet:
    return labelled(make_set(draw(48), holdout=range(0, 48, 6)), np.arange(48) % 2)


def labelled(prepared: PreparedSet, labels: NDArray[Any]) -> PreparedSet:
    """The set with a class for each picture."""
    classes = [f"breed_{label}" for label in range(int(labels.max()) + 1)]
    return dataclasses.replace(
        prepared, labels=labels.astype(np.int16), record=dataclasses.replace(prepared.record, classes=classes)
    )


def same(one: own.Trained, other: own.Trained) -> bool:
    return all(np.array_equal(value, other.state[name]) for name, value in one.state.items())


def right(trained: own.Trained, config: OwnConfig, x: torch.Tensor, y: torch.Tensor, outputs: int) -> float:
    """The share of pictures that the trained network puts in their class."""
    import timm

    network = timm.create_model(config.architecture, channels=config.channels, num_classes=outputs).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in trained.state.items()})
    with torch.inference_mode():
        x = F.interpolate(x, size=(config.min_size,) * 2, mode="bicubic", antialias=True)
        return float((network(x).argmax(1) == y).float().mean())


def stripes(count: int, classes: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Noisy pictures (count, 16, 16, 3) whose class is how dense their stripes are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count).astype(np.int16)
    phase = rng.uniform(0, 6.28, (count, 1, 1, 1))
    waves = np.sin((1 + labels[:, None, None, None]) * np.arange(16)[:, None, None] * 0.6 + phase)
    return np.clip(128 + 70 * waves + rng.normal(0, 20, (count, 16, 16, 3)), 0, 255).astype(np.uint8), labels


def lit_from_above(count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures (count, 16, 16, 3) that are lighter at their top."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(60, -60, 16)[:, None, None] * rng.uniform(0.3, 1, (count, 1, 1, 1))
    return np.clip(128 + slope + rng.normal(0, 25, (count, 16, 16, 3)), 0, 255).astype(np.uint8)


def as_input(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


LONGER = dataclasses.replace(SMALL, pictures=1024, batch=32, lr=1e-2)


def test_it_learns_the_classes(make_set: MakeSet) -> None:
    images, labels = stripes(400, 3, seed=0)
    prepared = labelled(make_set(images), labels)
    assert task_of(prepared) == "classes"
    trained = train(prepared, device=CPU, config=LONGER)
    images, labels = stripes(300, 3, seed=1)
    assert right(trained, LONGER, as_input(images), torch.from_numpy(labels.astype(np.int64)), 3) > 0.7


def test_without_classes_it_learns_which_way_is_up(make_set: MakeSet) -> None:
    prepared = make_set(lit_from_above(400, seed=0))
    assert task_of(prepared) == "rotation"
    trained = train(prepared, device=CPU, config=LONGER)
    x, y = rotated(as_input(lit_from_above(300, seed=1)), np.random.default_rng(2))
    assert right(trained, LONGER, x, y, 4) > 0.7


def test_rotations_are_quarter_turns() -> None:
    x = torch.randn(40, 3, 8, 8)
    turned, turns = rotated(x, np.random.default_rng(0))
    assert set(turns.tolist()) == {0, 1, 2, 3}
    expected = [np.rot90(original, turn, axes=(1, 2)) for original, turn in zip(x.numpy(), turns.tolist(), strict=True)]
    np.testing.assert_array_equal(turned.numpy(), np.stack(expected))


@pytest.mark.parametrize(("unnamed", "task"), [(20, "classes"), (30, "rotation")])
def test_what_there_is_to_learn(make_set: MakeSet, unnamed: int, task: str) -> None:
    labels = np.arange(48, dtype=np.int16) % 2
    labels[:unnamed] = -1
    prepared = labelled(make_set(draw(48)), labels)
    assert task_of(prepared) == task
    trained = train(prepared, device=CPU, config=dataclasses.replace(SMALL, batch=2, pictures=32))
    assert all(np.isfinite(value).all() for value in trained.state.values())  # whole batches have no class at all


def test_it_is_a_function_of_the_set_and_the_seed(prepared: PreparedSet) -> None:
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = train(prepared, device=CPU, config=SMALL)
    torch.rand(3)
    assert same(first, train(prepared, device=CPU, config=SMALL))
    assert not same(first, train(prepared, device=CPU, config=dataclasses.replace(SMALL, seed=1)))
    torch.set_rng_state(state)
    train(prepared, device=CPU, config=SMALL)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers move
    assert (np.random.get_state()[1] == legacy).all()


def test_it_never_sees_the_hold_out(prepared: PreparedSet) -> None:
    images = np.array(prepared.images)
    images[prepared.rows("holdout")] = 0
    blind = dataclasses.replace(prepared, images=images)
    assert len(prepared.rows("holdout"))
    assert same(train(prepared, device=CPU, config=SMALL), train(blind, device=CPU, config=SMALL))


def built(prepared: PreparedSet, **arguments: Any) -> tuple[FeatureSet, bool]:
    """The features, and whether they were trained now."""
    seen: list[int] = []
    features = own_features(
        prepared,
        device=CPU,
        cache=default_cache(prepared),
        progress=lambda done, _: seen.append(done),
        **{"config": SMALL, **arguments},
    )
    return features, bool(seen)


def test_it_is_trained_once_and_kept_with_the_set(prepared: PreparedSet) -> None:
    first, trained = built(prepared)
    assert trained
    again, trained = built(prepared)
    assert not trained
    assert again.record == first.record
    pictures = np.array(prepared.images[:5])
    np.testing.assert_array_equal(again.extract(pictures), first.extract(pictures))
    assert first.extract(pictures).shape == (5, 8)
    assert (first.name, first.record.input_size, first.epsilon) == ("own", 32, None)

    other = dataclasses.replace(prepared, record=dataclasses.replace(prepared.record, digest="ab" * 32))
    assert built(other)[1]
    assert built(prepared, config=dataclasses.replace(SMALL, lr=1e-3))[1]


def test_it_keeps_to_its_time_and_full_config_replace_short_ones(
    prepared: PreparedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, pictures=16 * 10)
    endless = dataclasses.replace(config, pictures=10**9)
    monkeypatch.setattr(time, "perf_counter", (0.04 * look for look in count()).__next__)
    trained = train(prepared, device=CPU, seconds=1.0, config=endless)
    assert trained.seconds == pytest.approx(1.0, abs=0.13)
    assert 0 < trained.pictures < 10**9

    built(prepared, config=endless, seconds=0.4)
    assert not built(prepared, config=endless, seconds=0.5)[1]  # about the same: runs share a network
    assert built(prepared, config=endless, seconds=2.0)[1]  # more than twice the time: a better one
    assert not built(prepared, config=endless, seconds=0.4)[1]
    kept = {read_json(path)["identity"]["full"] for path in default_cache(prepared).rglob("own-*/entry.json")}
    assert kept == {False}

    built(prepared, config=config)
    assert not built(prepared, config=config, seconds=0.001)[1]  # a full one is always taken


def test_no_time_gives_an_untrained_network_and_says_so(prepared: PreparedSet) -> None:
    features, _ = built(prepared, seconds=0.0)
    assert not features.trained
    full, _ = built(prepared, config=dataclasses.replace(SMALL, pictures=TRAINED, batch=256))
    assert full.trained


@pytest.mark.parametrize(("size", "channels", "expected"), [(28, 1, 32), (96, 3, 64)])
def test_any_set_will_do(make_set: MakeSet, size: int, channels: int, expected: int) -> None:
    prepared = make_set(draw(16, side=size, channels=channels))
    features, _ = built(prepared, config=dataclasses.replace(SMALL, pictures=32))
    assert features.record.input_size == expected
    assert np.isfinite(features.extract(np.array(prepared.images[:3]))).all()


def test_it_is_built_by_name_with_a_set(prepared: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", (0.1 * look for look in count()).__next__)
    totals: set[int] = set()
    watch = lambda _, total: totals.add(total)  # noqa: E731
    features = feature_sets.build("own", prepared=prepared, seconds=1.0, device=CPU, progress=watch)
    assert (features.name, features.dim) == ("own", CONFIG.channels[-1])
    assert totals == {CONFIG.pictures}
    with pytest.raises(KitError, match="own is trained on a prepared set"):
        feature_sets.build("own", device=CPU)
    with pytest.raises(KitError, match="own takes no weights"):
        feature_sets.build("own", prepared=prepared, weights=Path("w.pt"))
