"""Weights files: every honest one loads, every other is refused by name, and none runs code."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from kit.core.errors import KitError
from kit.scoring.weights import load_exactly, read_weights, weights_digest


def network(*, channels: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(content), path)
    else:
        torch.save(content, path)
    return path


def fit(path: Path, into: nn.Module) -> nn.Module:
    load_exactly(into, read_weights(path), source=str(path), architecture="small")
    return into


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_the_container_does_not_matter(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, network().state_dict())
    loaded = fit(path, network(seed=1))
    assert weights_digest(loaded) == weights_digest(network())
    for key, value in network().state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_a_checkpoints_state_dict_and_half_precision_and_training_leftovers(tmp_path: Path) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in network().state_dict().items()}
    del state["1.num_batches_tracked"]
    state["AuxLogits.fc.weight"] = torch.zeros(2, 2)
    loaded = fit(write(tmp_path / "w.pt", {"epoch": 3, "state_dict": state}), network(seed=1))
    assert loaded.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(loaded.state_dict()["0.weight"], network().state_dict()["0.weight"].half().float())


def test_the_digest_is_of_names_shapes_and_values() -> None:
    digests = {weights_digest(network()), weights_digest(network(seed=1)), weights_digest(network(channels=5))}
    digests.add(weights_digest(nn.Sequential(collections.OrderedDict(a=network()))))
    reshaped = network()
    reshaped[0].weight = nn.Parameter(reshaped[0].weight.reshape(4, 27))
    digests.add(weights_digest(reshaped))
    assert len(digests) == 5
    counted = network()
    counted[1].num_batches_tracked += 7
    assert weights_digest(counted) == weights_digest(network())


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    state = {**network().state_dict(), **changes}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (changed(**{"0.weight": None}), "0.weight is missing"),
        (changed(**{"fc.weight": torch.zeros(1)}), "fc.weight is unknown"),
        (changed(**{"0.weight": torch.zeros(4, 3, 5, 5)}), "0.weight is 4×3×5×5 in place of 4×3×3×3"),
        (changed(**{"0.weight": None, "0.bias": None, "x": torch.zeros(1)}), "and 2 more"),
    ],
)
def test_weights_of_another_architecture(tmp_path: Path, state: dict[str, Tensor], problem: str) -> None:
    path = write(tmp_path / "other.pt", state)
    before = weights_digest(target := network(seed=1))
    with pytest.raises(KitError, match=problem) as error:
        fit(path, target)
    assert "other.pt" in str(error.value)
    assert "small" in str(error.value)
    assert weights_digest(target) == before


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file(tmp_path: Path, name: str, kept: float) -> None:
    path = write(tmp_path / name, network(channels=64).state_dict())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(KitError, match=name):
        read_weights(path)


class Trap:
    """Makes a file when it is unpickled by a loader that trusts what it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("bare", [True, False], ids=["pickle", "torch.save"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, bare: bool) -> None:
    path, sprung = tmp_path / "trap.pt", tmp_path / "sprung"
    content = {**network().state_dict(), "trap": Trap(sprung)}
    if bare:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(KitError, match=r"trap\.pt"):
        read_weights(path)
    assert not sprung.exists()
    if not bare:
        torch.load(path, weights_only=False)
        assert sprung.exists()  # it is a trap indeed


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2), {"model": {"a": torch.zeros(1)}}])
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any) -> None:
    with pytest.raises(KitError, match=r"thing\.pt: holds no state dict"):
        read_weights(write(tmp_path / "thing.pt", content))


@pytest.mark.parametrize("name", ["text.pt", "text.safetensors"])
def test_a_file_of_another_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html>404</html>")
    with pytest.raises(KitError, match=name):
        read_weights(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no such weights file"):
        read_weights(tmp_path / "none.pt")
