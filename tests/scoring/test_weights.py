"""Weights files: every honest one loads, every other is refused by name, and none runs code."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from kit.core.errors import KitError
from kit.scoring import weights as feature_weights
from kit.scoring.features import build
from kit.scoring.weights import MissingWeightsError, load_exactly, read_weights, weights_digest


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


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
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
    loaded = fit(write(tmp_path / "w.pt", {"epoch": 3, "state_dict": state}), network(seed=1)).state_dict()
    assert loaded["0.weight"].dtype == torch.float32
    assert torch.equal(loaded["0.weight"], network().state_dict()["0.weight"].half().float())


def test_the_digest_is_of_names_shapes_and_values() -> None:
    reshaped, counted = network(), network()
    reshaped[0].weight = nn.Parameter(reshaped[0].weight.reshape(4, 27))
    renamed = nn.Sequential(collections.OrderedDict(a=network()))
    assert len({weights_digest(n) for n in (network(), network(seed=1), network(channels=5), renamed, reshaped)}) == 5
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
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.95])
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


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"model": {"a": torch.zeros(1)}}])
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any) -> None:
    with pytest.raises(KitError, match=r"thing\.pt: holds no state dict"):
        read_weights(write(tmp_path / "thing.pt", content))


@pytest.mark.parametrize("name", ["text.pt", "text.safetensors"])
def test_a_file_of_another_kind_or_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(KitError, match="no such weights file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_text("<html>404</html>")
    with pytest.raises(KitError, match=name):
        read_weights(tmp_path / name)


# Pretrained weights: found in each place, downloaded from a hub, or an error that is quick and says what to do


NAME = "mobilenetv3_small_050.lamb_in1k"  # timm's smallest with weights on the hub
BUILD = f"from kit.scoring.features import build; print(build('timm:{NAME}').record.weights)"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the hub has it, with weights made here."""
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    safetensors.torch.save_file(pretrained_network().state_dict(), path)
    return path


def pretrained_network(*, classes: int = 1000) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made: torch.nn.Module = timm.create_model(NAME, num_classes=classes)
    return made


def expected_digest(weights: Path) -> str:
    made = timm.create_model(NAME)
    made.load_state_dict(safetensors.torch.load_file(weights))
    made.reset_classifier(0)
    return weights_digest(made)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights and without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(feature_weights, "KAGGLE_INPUT", tmp_path / "kaggle")
    return tmp_path


PLACES = {
    "Hugging Face cache": f"hf/models--timm--{NAME}/snapshots/123abc/model.safetensors",
    "Kaggle input, by name": f"kaggle/some-weights/{NAME}.safetensors",
    "Kaggle input, by folder": f"kaggle/models/deep/er/{NAME}/model.safetensors",
}


@pytest.mark.parametrize("place", PLACES)
def test_found_where_it_lies(nowhere: Path, weights: Path, place: str) -> None:
    path = nowhere / PLACES[place]
    path.parent.mkdir(parents=True)
    path.write_bytes(weights.read_bytes())
    if place == "Hugging Face cache":
        refs = nowhere / f"hf/models--timm--{NAME}/refs"
        refs.mkdir()
        (refs / "main").write_text("123abc")
    features = build(f"timm:{NAME}")
    assert str(features.record) == f"timm:{NAME}"
    assert features.record.weights == build(f"timm:{NAME}", weights=path).record.weights == expected_digest(weights)


def test_found_where_torchvision_left_it(nowhere: Path) -> None:
    url = timm.get_pretrained_cfg("resnet18.tv_in1k").url
    path = nowhere / "torch" / "hub" / "checkpoints" / Path(url).name
    path.parent.mkdir(parents=True)
    made = timm.create_model("resnet18")
    torch.save(made.state_dict(), path)
    made.reset_classifier(0)
    assert build("timm:resnet18.tv_in1k").record.weights == weights_digest(made)


def test_a_damaged_find_is_named(nowhere: Path, weights: Path) -> None:
    path = nowhere / PLACES["Kaggle input, by name"]
    path.parent.mkdir(parents=True)
    path.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(KitError, match=path.name):
        build(f"timm:{NAME}")


@pytest.mark.parametrize(
    ("features", "file"),
    [
        ("timm", "model.safetensors of timm/inception_v3.tv_in1k"),
        ("nasnet", "model.safetensors of timm/nasnetalarge.tf_in1k"),
        (f"timm:{NAME}", f"model.safetensors of timm/{NAME}"),
        ("kaggle", "pt_inception-2015-12-05-6726825d.pth"),
    ],
)
def test_nowhere_to_be_had(nowhere: Path, features: str, file: str) -> None:
    with pytest.raises(MissingWeightsError) as error:
        build(features)
    assert file in str(error.value)
    assert "--weights FILE" in error.value.remedy
    assert "Kaggle" in error.value.remedy
    assert "://" not in str(error.value)


def test_a_hub_that_does_not_answer_costs_one_request(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    limits = []

    def refuse(url: str, *, timeout: float) -> None:
        limits.append(timeout)
        raise requests.ConnectionError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(requests, "head", refuse)
    with pytest.raises(MissingWeightsError):
        build(f"timm:{NAME}")
    assert len(limits) == 1
    assert limits[0] <= 10


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as fetching one file takes."""

    file: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        found = self.path.split("?")[0] == f"/timm/{NAME}/resolve/main/model.safetensors"
        data = self.file.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(weights: Path) -> Iterator[str]:
    handler = type("Handler", (Hub,), {"file": weights})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def in_a_process(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Builds in a fresh process: the hub's client reads its settings when it is imported."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    keep |= {"HF_HOME": str(home / "hf"), "TORCH_HOME": str(home / "torch"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", BUILD], env=keep | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_fetched_once_then_found_without_a_network(hub: str, weights: Path, tmp_path: Path) -> None:
    fetched = in_a_process(tmp_path, HF_ENDPOINT=hub)
    assert fetched.stdout.split() == [expected_digest(weights)], fetched.stderr
    again = in_a_process(tmp_path, HF_HUB_OFFLINE="1")
    assert (again.stdout, again.stderr) == (fetched.stdout, "")
