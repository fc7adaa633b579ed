"""Layers put together give the same pictures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kit.generation.folded import Doubling, fold
from kit.models import dcgan, registry


def generator(model: str, *, size: int, channels: int, settings: tuple[str, ...] = ()) -> nn.Module:
    """With batch norms that have seen something, in evaluation mode."""
    recipe = registry.get(model).override(["width=8", *settings])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G, _ = registry.build(recipe, size=size, channels=channels, classes=3)
        with torch.no_grad():
            for _ in range(5):
                G(torch.randn(16, G.latent), torch.arange(16) % 3)
    return G.eval().requires_grad_(False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 64, 80])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("dcgan", ()),
        ("dcgan", ("norm_g=spectral",)),
        ("dcgan", ("norm_g=none", "width=2")),
        ("cdcgan", ()),
        ("sn-dcgan", ()),
        ("sn-dcgan", ("width=2",)),
    ],
)
def test_the_same_pictures(model, settings, size, channels):
    G = generator(model, size=size, channels=channels, settings=settings)
    z, y = torch.randn(8, G.latent, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3
    with torch.inference_mode():
        wanted = G(z, y)
        folded = fold(copy.deepcopy(G))(z, y)
    assert folded.std() > 0
    torch.testing.assert_close(folded, wanted, rtol=0, atol=1e-5)


def test_in_bfloat16_pictures_move_no_further_than_they_do_anyway():
    G = generator("dcgan", size=64, channels=3)
    z, y = torch.randn(64, G.latent, generator=torch.Generator().manual_seed(1)), torch.zeros(64, dtype=torch.int64)
    with torch.inference_mode():
        exact = G(z, y)
        with torch.autocast("cpu", torch.bfloat16):
            plain, folded = (net(z, y).float() for net in (G, fold(copy.deepcopy(G))))
    assert (folded - exact).square().mean().sqrt() < 1.5 * (plain - exact).square().mean().sqrt()


def test_no_batch_norm_is_left_and_no_narrow_transposed_convolution():
    G = fold(generator("dcgan", size=32, channels=3))
    kinds = [type(module) for module in G.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(Doubling) == 1
    assert not any(module.training for module in G.modules())


def test_what_is_not_known_to_be_one_sequence_stays_as_it_is():
    class Own(dcgan.Generator):
        """A user's: it may look between two layers."""

    G = Own(size=16, channels=3, latent=4, width=8).eval()
    layers = G.layers
    assert fold(G).layers is layers
    sagan = generator("sagan", size=16, channels=3)
    before = list(sagan.modules())
    assert list(fold(sagan).modules()) == before
