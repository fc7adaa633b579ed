"""The same numbers from independent tools, each on features or with a weights file made here.

`pip install -e .[peers]` brings them; what is missing is skipped, by name.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models.inception as torchvision_inception
from PIL import Image
from torch import nn

from kit.scoring.features import build
from kit.scoring.frechet import frechet_distance, gaussian, sqrtm_reference
from kit.scoring.inception2015 import OUTPUTS
from kit.scoring.kid import kid
from kit.scoring.memorization import memorization_distance
from kit.scoring.mifid import mifid
from kit.scoring.prdc import prdc

COUNT, DIM = 300, 48


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    """Generated and real features of full rank, float32; both positive, as pooled activations are."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(DIM, DIM)) / np.sqrt(DIM)
    generated = np.abs(rng.normal(size=(COUNT, DIM)) @ mix + 0.3)
    real = np.abs(rng.normal(size=(COUNT + 50, DIM)) + 0.1)
    return generated.astype(np.float32), real.astype(np.float32)


def statistics(features: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    wide = [rows.astype(np.float64) for rows in features]
    return [array for rows in wide for array in (rows.mean(0), np.cov(rows, rowvar=False))]


def ours(features: tuple[np.ndarray, np.ndarray]) -> float:
    fitted = [gaussian(rows) for rows in features]
    return frechet_distance(fitted[0].mean, fitted[0].covariance, fitted[1].mean, fitted[1].covariance)


def pytorch_fid(given: list[np.ndarray]) -> float:
    module = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid is not installed")
    return float(module.calculate_frechet_distance(*given))


def clean_fid(given: list[np.ndarray]) -> float:
    module = pytest.importorskip("cleanfid.fid", reason="clean-fid is not installed")
    return float(module.frechet_distance(*given))


def torch_fidelity(given: list[np.ndarray]) -> float:
    module = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is not installed")
    sides = [{"mu": given[i], "sigma": given[i + 1]} for i in (0, 2)]
    return float(module.fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"])


PEERS = {"pytorch-fid": pytorch_fid, "clean-fid": clean_fid, "torch-fidelity": torch_fidelity}


def asked(peer: str, given: list[np.ndarray]) -> float:
    """A peer's FID; older ones call a function of SciPy that is no more."""
    try:
        return PEERS[peer](given)
    except TypeError as error:
        if "disp" in str(error):
            pytest.skip(f"{peer} does not run with this SciPy ({error})")
        raise


@pytest.mark.parametrize("peer", PEERS)
def test_fid_at_full_rank(features: tuple[np.ndarray, np.ndarray], peer: str) -> None:
    theirs = asked(peer, statistics(features))
    assert ours(features) == pytest.approx(theirs, rel=1e-6)
    assert sqrtm_reference(*statistics(features)) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.001, 0.9])
def test_mifid_is_torchmetrics_with_its_distance_turned_round(
    features: tuple[np.ndarray, np.ndarray], epsilon: float
) -> None:
    module = pytest.importorskip("torchmetrics.image.mifid", reason="torchmetrics is not installed")
    metric = module.MemorizationInformedFrechetInceptionDistance(nn.Identity(), cosine_distance_eps=epsilon)
    generated, real = features
    metric.update(torch.from_numpy(real.astype(np.float64)), real=True)
    metric.update(torch.from_numpy(generated.astype(np.float64)), real=False)
    turned_round = memorization_distance(real, generated)  # they: the mean over real of the nearest generated
    assert (turned_round < epsilon) == (epsilon == 0.9)
    assert mifid(ours(features), turned_round, epsilon) == pytest.approx(float(metric.compute()), rel=1e-6)
    assert memorization_distance(generated, real) != pytest.approx(turned_round, rel=1e-3)


def test_kid(features: tuple[np.ndarray, np.ndarray]) -> None:
    module = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    generated, real = features[0], features[1][:COUNT]
    tensors = (torch.from_numpy(generated).double(), torch.from_numpy(real).double())
    # A subset that is the whole set has one value, whoever draws it.
    settings = {"kid_subsets": 2, "kid_subset_size": COUNT, "verbose": False, "rng_seed": 0}
    theirs = module.kid_features_to_metric(*tensors, **settings)["kernel_inception_distance_mean"]
    assert kid(generated, real, subsets=2, subset_size=COUNT).mean == pytest.approx(theirs, rel=1e-6)
    # Mean and standard deviation over their own subsets.
    settings |= {"kid_subsets": 20, "kid_subset_size": 100}
    theirs = module.kid_features_to_metric(*tensors, **settings)
    rng = np.random.RandomState(0)
    drawn = [[rows[rng.choice(COUNT, 100, replace=False)] for rows in (generated, real)] for _ in range(20)]
    found = [kid(*subset, subsets=1, subset_size=100).mean for subset in drawn]
    assert np.mean(found) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert np.std(found) == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


def test_precision_and_recall(features: tuple[np.ndarray, np.ndarray]) -> None:
    module = pytest.importorskip("torch_fidelity.metric_prc", reason="torch-fidelity is not installed")
    tensors = [torch.from_numpy(rows).double() for rows in features]
    settings = {"prc_neighborhood": 3, "prc_batch_size": 128, "save_cpu_ram": False, "verbose": False}
    theirs = module.prc_features_to_metric(*tensors, **settings)
    found = prdc(*features)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1
    assert (found.precision, found.recall) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of the public port, with weights of no meaning whose activations keep their scale."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision_inception.Inception3(num_classes=OUTPUTS, aux_logits=False, init_weights=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    path = tmp_path_factory.mktemp("peers") / "pt_inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_scorers_network_gives_torch_fidelitys_features(weights: Path, shared: Path) -> None:
    module: Any = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed"
    )
    theirs = module.FeatureExtractorInceptionV3("peer", ["2048"], feature_extractor_weights_path=str(weights))
    network = build("kaggle", weights=weights, device=torch.device("cpu"))
    for picture in photographs(shared):
        (expected,) = theirs(torch.from_numpy(picture).permute(2, 0, 1)[None])
        found = network.extract([picture])
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4 * float(expected.abs().mean()))


def photographs(shared: Path) -> list[np.ndarray]:
    """JPEGs as they are, and reduced to the sizes of the two competitions and of the network."""
    pictures = []
    with zipfile.ZipFile(shared / "dogs-originals" / "all-dogs.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name, size in zip(names[:: len(names) // 5], (None, None, 64, 256, 299), strict=False):
            with Image.open(io.BytesIO(archive.read(name))) as jpeg:
                picture = jpeg.convert("RGB")
            pictures.append(
                np.array(picture if size is None else picture.resize((size, size), Image.Resampling.LANCZOS))
            )
    return pictures
