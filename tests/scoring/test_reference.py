"""What is kept of a reference: found again, checked, rebuilt when damaged, never half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kit.scoring.reference import Cache

IDENTITY = {"what": "features", "set": "abc", "features": {"name": "x", "mean": [0.5, 0.5, 0.5]}}


class Builder:
    """Counts how often it is asked."""

    def __init__(self, value: float = 1.0) -> None:
        self.calls = 0
        self.value = value

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"a": np.full((3, 4), self.value, np.float32), "b": np.arange(5.0)}


def test_an_entry_is_built_once_and_mapped(tmp_path: Path) -> None:
    build = Builder()
    first, again = (Cache(tmp_path / "deep" / "cache").fetch(IDENTITY, build) for _ in range(2))
    assert build.calls == 1
    for entry in (first, again):
        assert isinstance(entry["a"], np.memmap)
        assert not entry["a"].flags.writeable
        np.testing.assert_array_equal(entry["a"], np.full((3, 4), 1, np.float32))
        np.testing.assert_array_equal(entry["b"], np.arange(5.0))
    assert not list((tmp_path / "deep" / "cache").glob(".*"))


def test_another_identity_is_another_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fetch(IDENTITY, Builder(1))
    for other in ({**IDENTITY, "features": {"name": "x", "mean": [0.5, 0.5, 0.4]}}, {**IDENTITY, "split": "all"}):
        assert cache.get(other) is None
        assert cache.fetch(other, Builder(2))["a"][0, 0] == 2
    assert cache.fetch(IDENTITY, Builder(3))["a"][0, 0] == 1


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": lambda entry: flip(entry / "a.npy"),
    "a cut": lambda entry: (entry / "a.npy").write_bytes((entry / "a.npy").read_bytes()[:-8]),
    "an array gone": lambda entry: (entry / "b.npy").unlink(),
    "no record": lambda entry: (entry / "entry.json").unlink(),
    "record cut": lambda entry: (entry / "entry.json").write_text('{"identity": '),
    "record of something else": lambda entry: (entry / "entry.json").write_text("[1, 2]"),
    "record of another entry": lambda entry: (entry / "entry.json").write_text('{"identity": {}, "sha256": {}}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_mended(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    cache.fetch(IDENTITY, Builder(1))
    DAMAGE[damage](next(tmp_path.iterdir()))
    assert cache.get(IDENTITY) is None
    assert cache.fetch(IDENTITY, Builder(2))["a"][0, 0] == 2
    assert cache.fetch(IDENTITY, Builder(3))["a"][0, 0] == 2


def test_nothing_is_kept_of_a_build_that_fails(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Cache(tmp_path).fetch(IDENTITY, fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["none", "a file is there"])
def test_without_a_place_on_disk_they_are_kept_in_memory(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(None if where == "none" else tmp_path / "file" / "cache")
    build = Builder()
    for _ in range(2):
        assert cache.fetch(IDENTITY, build)["a"][0, 0] == 1
    assert build.calls == 1
