"""The 2015 Inception against torchvision's with the pools written out another way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models.inception as torchvision_inception
from scoring_helpers import draw
from torch import Tensor, nn

from kit.core.errors import KitError
from kit.scoring.extract import tf1_bilinear
from kit.scoring.features import build
from kit.scoring.inception2015 import FILE, OUTPUTS, Inception2015
from kit.scoring.weights import hub_checkpoint


def windows(x: Tensor, edge: float) -> Tensor:
    """The 3×3 neighbourhoods of every pixel, (B, C, 9, H, W), with a value of one's choice beyond the edge."""
    batch, channels, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1), value=edge)
    return F.unfold(padded, 3).view(batch, channels, 9, height, width)


def pool(x: Tensor, *, kernel_size: int, stride: int, padding: int) -> Tensor:
    """What the 2015 graph does where torchvision takes a padded average: the mean without the padding.

    Its last block, the only one with 2048 channels coming in, takes the maximum.
    """
    assert (kernel_size, stride, padding) == (3, 1, 1)
    if x.shape[1] == 2048:
        return windows(x, -torch.inf).amax(dim=2)
    return windows(x, torch.nan).nanmean(dim=2)


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's network with 1008 outputs and plausible weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision_inception.Inception3(num_classes=OUTPUTS, aux_logits=False, init_weights=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.uniform_(module.bias, -0.2, 0.2)
                assert module.running_mean is not None
                module.running_mean.uniform_(-0.2, 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def weights(reference: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(reference.state_dict(), path)
    return path


def test_the_layout_is_the_public_ports(reference: nn.Module) -> None:
    """pytorch-fid's and torch-fidelity's files have torchvision's names, without the auxiliary head."""
    own = {name: tuple(value.shape) for name, value in Inception2015().state_dict().items()}
    assert own == {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    assert own["fc.weight"] == (1008, 2048)


def pooled(network: nn.Module, x: Tensor) -> Tensor:
    """What torchvision's network has before its classifier, (B, 2048)."""
    kept: list[Tensor] = []
    hook = network.avgpool.register_forward_hook(lambda module, given, result: kept.append(result))
    with torch.no_grad():
        network(x)
    hook.remove()
    return kept[0].flatten(1)


def test_features_equal_an_independent_forward(
    reference: nn.Module, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = build("kaggle", weights=weights)
    assert (features.dim, features.record.input_size, features.epsilon) == (2048, 299, 0.1)
    pictures = draw(1, side=64)
    given = torch.from_numpy(features.extract(pictures))

    x = torch.from_numpy(np.stack([tf1_bilinear(picture, 299) for picture in pictures])).permute(0, 3, 1, 2)
    x = (x - 128) / 128
    torchvisions = pooled(reference, x)
    monkeypatch.setattr(
        torchvision_inception, "F", SimpleNamespace(avg_pool2d=pool, max_pool2d=F.max_pool2d, relu=F.relu)
    )
    expected = pooled(reference, x)
    assert (given - expected).norm() < 1e-4 * expected.norm()
    assert (given - torchvisions).norm() > 1e-2 * expected.norm()  # the pools do matter


def test_timms_own_weights_are_refused(tmp_path: Path, reference: nn.Module) -> None:
    state = dict(reference.state_dict())
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
    torch.save(state, tmp_path / "inception_v3.pth")
    with pytest.raises(KitError, match=r"inception_v3\.pth: .*fc.weight is 1000×2048 in place of 1008×2048"):
        build("kaggle", weights=tmp_path / "inception_v3.pth")


def test_found_where_pytorch_fid_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert hub_checkpoint(FILE) is None
    cached = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert hub_checkpoint(FILE) == cached
