"""Checkpoints: what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import pickle

import pytest
import torch
from training_tools import FAMILIES, start

from kit.core.errors import KitError
from kit.training import checkpoint

SHAPE = checkpoint.Shape(size=16, channels=3, classes=("beagle", "pug"))


@pytest.fixture
def saved(prepared, tmp_path):
    def save(name="dcgan"):
        recipe, state, _ = start(name, prepared)
        state.pictures = 1234
        path = tmp_path / "checkpoint.pt"
        checkpoint.save(path, state, recipe, SHAPE)
        return path, state, recipe

    return save


@pytest.mark.parametrize("name", FAMILIES)
def test_the_generator_comes_back_as_it_was(saved, name):
    path, state, recipe = saved(name)
    generator, read_recipe, shape, pictures = checkpoint.load_generator(path)
    assert (read_recipe, shape, pictures) == (recipe, SHAPE, 1234)
    assert checkpoint.weights_digest(generator) == checkpoint.weights_digest(state.ema.module)
    assert not generator.training


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(saved, keep):
    path, _, _ = saved()
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(KitError, match=r"checkpoint\.pt: damaged"):
        checkpoint.load_generator(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(KitError, match=r"nowhere\.pt: no such checkpoint"):
        checkpoint.load_generator(tmp_path / "nowhere.pt")


def test_another_version_is_refused(saved):
    path, _, _ = saved()
    record = torch.load(path, weights_only=True)
    torch.save({**record, "version": 99}, path)
    with pytest.raises(KitError, match=r"version 99.*reads version 2"):
        checkpoint.load_generator(path)


@pytest.mark.parametrize("change", [{"recipe": {"model": "dcgan"}}, {"ema": {}}, {"shape": {"size": 16}}])
def test_a_checkpoint_with_a_part_missing_is_damaged(saved, change):
    path, _, _ = saved()
    checkpoint.write(path, {**torch.load(path, weights_only=True), **change})
    with pytest.raises(KitError, match="damaged"):
        checkpoint.load_generator(path)


@pytest.mark.abuse("B10")
@pytest.mark.parametrize("place", range(6))
def test_no_damaged_byte_is_loaded_in_silence(saved, place):
    """Also where torch notices nothing: a byte within a tensor's storage."""
    path, _, _ = saved()
    intact = checkpoint.weights_digest(checkpoint.load_generator(path)[0])
    content = bytearray(path.read_bytes())
    content[len(content) * (2 * place + 1) // 12] ^= 0x10
    path.write_bytes(content)
    found = intact  # a byte of padding, or of a table that nothing reads
    with contextlib.suppress(KitError):
        found = checkpoint.weights_digest(checkpoint.load_generator(path)[0])
    assert found == intact


@pytest.mark.abuse("B10")
def test_a_changed_weight_is_told(saved):
    path, _, _ = saved()
    content = torch.load(path, weights_only=True)
    next(iter(content["ema"]["G"].values())).add_(1)
    torch.save(content, path)
    with pytest.raises(KitError, match="damaged checkpoint"):
        checkpoint.load_generator(path)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_no_code_runs_from_a_checkpoint(tmp_path):
    path, marker = tmp_path / "checkpoint.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(KitError, match="damaged"):
        checkpoint.load_generator(path)
    torch.save({"version": 2, "recipe": Evil(marker)}, path)
    with pytest.raises(KitError, match="damaged"):
        checkpoint.load_generator(path)
    assert not marker.exists()
