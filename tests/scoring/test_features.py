"""Pictures → features: each set against plain timm, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy import ndimage
from scoring_helpers import Pixels, draw, features_record, small_features
from timm.data.transforms_factory import create_transform
from torch import nn

from kit.competition import COMPETITIONS
from kit.core.errors import KitError
from kit.core.threads import VARIABLES, Trial, num_threads
from kit.scoring import extract
from kit.scoring.extract import CPU_BATCH as BATCH
from kit.scoring.extract import feature_set
from kit.scoring.features import FEATURES, FeatureSet, build
from kit.scoring.frechet import frechet_distance, gaussian
from kit.scoring.inception2015 import EPSILON


def trained_looking(architecture: str, *, classes: int) -> nn.Module:
    """A timm network with weights and batch-norm statistics that are neither 0 nor 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network: nn.Module = timm.create_model(architecture, num_classes=classes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.uniform_(module.bias, -0.1, 0.1)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return network.eval()


def describe(path: Path, architecture: str, **changes: object) -> None:
    """Writes the JSON beside a file of weights; a change to None leaves the key out."""
    content = {"model": architecture, "input_size": 64, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    content |= {"num_classes": 7, **changes}
    path.with_suffix(".json").write_text(
        json.dumps({key: value for key, value in content.items() if value is not None})
    )


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A described file of ResNet weights."""
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    torch.save(trained_looking("resnet10t", classes=7).state_dict(), path)
    describe(path, "resnet10t")
    return path


def by_plain_timm(network: nn.Module, pictures: Pixels, *, side: int, mean: object, std: object) -> np.ndarray:
    """One picture at a time, with timm's own transform for the whole picture, no layout, no folding."""
    transform = create_transform(
        (3, side, side), interpolation="bicubic", crop_pct=1.0, crop_mode="squash", mean=mean, std=std
    )
    with torch.no_grad():
        rows = [
            network.forward_head(network.forward_features(transform(Image.fromarray(p))[None]), pre_logits=True)
            for p in pictures
        ]
    return torch.cat(rows).numpy()


def test_a_described_file_equals_plain_timm(resnet: Path) -> None:
    pictures = draw(BATCH + 3, side=48)
    features = build("timm:resnet10t", weights=resnet)
    network = trained_looking("resnet10t", classes=7)
    expected = by_plain_timm(network, pictures, side=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    given = features.extract(pictures)
    assert given.dtype == np.float32
    assert given.shape == (BATCH + 3, features.dim)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_default_network_equals_plain_timm_at_its_own_size(tmp_path: Path) -> None:
    network = trained_looking("inception_v3", classes=1000)
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    features = build("timm", weights=tmp_path / "inception.pth")
    assert (features.name, features.record.input_size, features.dim) == ("timm:inception_v3", 299, 2048)
    assert features.record.mean == features.record.std == (0.5, 0.5, 0.5)
    pictures = draw(2, side=64)
    expected = by_plain_timm(network, pictures, side=299, mean=(0.5,) * 3, std=(0.5,) * 3)
    np.testing.assert_allclose(features.extract(pictures), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_the_json_beside_the_file_names_the_network(resnet: Path) -> None:
    assert build("timm", weights=resnet).record == build("timm:resnet10t", weights=resnet).record


def test_grey_pictures_are_grey_in_three_channels(resnet: Path) -> None:
    features = build("timm", weights=resnet)
    grey = draw(4, channels=1)
    assert (features.extract(grey) == features.extract(grey.repeat(3, axis=3))).all()


def test_bf16_is_close_and_another_identity(resnet: Path) -> None:
    pictures = draw(8, side=64)
    full, half = (build("timm", weights=resnet, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert full.record != half.record
    assert full.record.weights == half.record.weights
    one, other = full.extract(pictures), half.extract(pictures)
    assert other.dtype == np.float32
    assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_nan_features_are_refused_with_the_pictures_number() -> None:
    class Logarithm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x.mean(dim=(2, 3)))

    record = dataclasses.replace(features_record(Logarithm(), side=16, name="log"), mean=(0.0, 0.0, 0.0))
    features = feature_set(Logarithm(), record, device=torch.device("cpu"))
    pictures = draw(40)
    pictures[36] = 0
    with pytest.raises(KitError, match="log: the features of picture 37 are not finite"):
        features.extract(pictures)


def random_set() -> FeatureSet:
    return build("random")


def test_random_is_the_same_network_every_time_and_takes_nobodys_random_numbers() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = random_set()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = random_set()
    assert first.record == second.record
    pictures = draw(5, side=64)
    assert (first.extract(pictures) == second.extract(pictures)).all()
    assert not first.trained


@pytest.mark.parametrize("speeds", [{2: 1.0, 1: 9.0}, {2: 9.0, 1: 1.0}])
def test_features_come_with_the_fastest_number_of_threads_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    features, pictures = small_features(), draw(160)
    used: list[int] = []
    take, forward = Trial.measured, FeatureSet._forward
    with num_threads(2):
        expected = features.extract(pictures)
        monkeypatch.setattr(extract, "TRIED_FROM", 1)
        monkeypatch.setattr(Trial, "measured", lambda self, _: take(self, speeds[self.number]))
        monkeypatch.setattr(
            FeatureSet, "_forward", lambda self, x: used.append(torch.get_num_threads()) or forward(self, x)
        )
        np.testing.assert_allclose(features.extract(pictures, total=160), expected, rtol=1e-5, atol=1e-6)
        assert torch.get_num_threads() == 2
    assert used == [2, 1, 2, 1, 2, 1] + [max(speeds, key=lambda number: speeds[number])] * 4


def test_random_is_not_degenerate_and_ranks_noise_behind_blur_behind_pictures() -> None:
    features = random_set()
    train, held = draw(240, side=64, seed=1), draw(120, side=64, seed=2)
    # Blurred by 1 and by 3 pixels.
    worse = {
        "held out": held,
        "blurred": ndimage.gaussian_filter(held, (0, 1, 1, 0)),
        "very blurred": ndimage.gaussian_filter(held, (0, 3, 3, 0)),
        "noise": np.random.default_rng(3).integers(0, 256, held.shape, dtype=np.uint8),
    }
    real = features.extract(train)
    assert (real.std(axis=0) > 1e-3 * real.std()).mean() > 0.95
    fitted = gaussian(real)
    fids = []
    for pictures in worse.values():
        given = gaussian(features.extract(pictures))
        fids.append(frechet_distance(given.mean, given.covariance, fitted.mean, fitted.covariance))
    assert fids == sorted(fids)
    assert fids[1] > 1.3 * fids[0]
    assert fids[3] > 3 * fids[2]


@pytest.mark.parametrize(
    ("name", "weights", "match"),
    [
        ("tim", False, "unknown feature set 'tim'; did you mean 'timm'"),
        ("timm:", False, "use timm:NAME"),
        ("random:resnet18", False, "use random"),
        ("random", True, "takes no weights"),
        ("timm:resnet10", True, "unknown timm network 'resnet10'; did you mean"),
        ("timm:resnet18", True, "says it is a resnet10t, not a resnet18; use --features timm:resnet10t"),
        ("timm:resnet10t.nope", True, "unknown timm network 'resnet10t.nope'; did you mean 'resnet10t.c3_in1k'"),
        ("kaggle", True, "mine.pt: not the weights of the 2015 Inception"),
    ],
)
def test_what_is_no_feature_set(resnet: Path, name: str, weights: bool, match: str) -> None:
    with pytest.raises(KitError, match=match):
        build(name, weights=resnet if weights else None)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": None}, "no field model"),
        ({"mean": [0.5, 0.5]}, "mean is a list, not 3 values"),
        ({"input_size": "big"}, "input_size is 'big', not a whole number"),
        ({"model": "resnet1000"}, "unknown timm network 'resnet1000'"),
        ({"num_classes": 8}, "fc.weight is 7×512 in place of 8×512"),
    ],
)
def test_a_wrong_description(tmp_path: Path, resnet: Path, change: dict[str, object], match: str) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(resnet.read_bytes())
    describe(path, "resnet10t", **change)
    with pytest.raises(KitError, match=match) as error:
        build("timm", weights=path)
    assert "mine" in str(error.value) or "resnet1000" in str(error.value)


def test_a_network_that_cannot_take_the_size_or_gives_no_vectors() -> None:
    for kernel, match in ((9, "odd: does not take pictures of 8×8"), (3, "a vector per picture")):
        network = nn.Conv2d(3, 4, kernel)
        with pytest.raises(KitError, match=match):
            feature_set(network, features_record(network, side=8, name="odd"), device=torch.device("cpu"))


def test_every_competitions_scorer_is_a_feature_set_with_its_threshold() -> None:
    thresholds = {"kaggle": EPSILON}
    for record in COMPETITIONS.values():
        assert record.scorer in FEATURES
        assert thresholds[record.scorer] == record.epsilon


@pytest.mark.slow
def test_nasnet_equals_plain_timm_at_the_private_scorers_size(tmp_path: Path) -> None:
    network = trained_looking("nasnetalarge", classes=1000)
    torch.save(network.state_dict(), tmp_path / "nasnet.pth")
    features = build("nasnet", weights=tmp_path / "nasnet.pth")
    assert (features.record.input_size, features.dim, features.epsilon) == (331, 4032, 0.25)
    pictures = draw(1, side=64)
    expected = by_plain_timm(network, pictures, side=331, mean=(0.5,) * 3, std=(0.5,) * 3)
    np.testing.assert_allclose(features.extract(pictures), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
