"""Parts of the residual networks, each against a plain implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, relu

from kit.models import r3gan, resnet
from kit.models.layers import LearnedVector, Upsample


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def plain(layer):
    return layer


def test_an_up_block_doubles_first_and_convolves_then():
    block = resnet.UpBlock(6, 4, init_and_norm=plain, affine=LearnedVector)
    x, y = torch.randn(3, 6, 5, 5), torch.zeros(3, dtype=torch.int64)
    large = interpolate(x, scale_factor=2)
    h = block.conv1(relu(nn.functional.batch_norm(large, None, None, training=True)))
    h = block.conv2(relu(nn.functional.batch_norm(h, None, None, training=True)))
    torch.testing.assert_close(block(x, y), h + block.skip(large), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_a_down_block_convolves_first_and_halves_then(first):
    block = resnet.DownBlock(6, 4, init_and_norm=plain, first=first)
    x = torch.randn(3, 6, 8, 8)
    out = block.conv2(relu(block.conv1(x if first else relu(x)))) + block.skip(x)
    torch.testing.assert_close(block(x), out.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)), rtol=1e-4, atol=1e-5)


def test_each_block_of_biggan_gets_its_own_chunk_of_z():
    conditioning = resnet.HierarchicalConditioning(latent=11, blocks=3, classes=2, embedding=5, init_and_norm=plain)
    z, y = torch.arange(22.0).view(2, 11), torch.tensor([1, 0])
    start, conditions = conditioning(z, y, 3)
    assert start.shape == (2, conditioning.dense) == (2, 5)  # 2 numbers a share, and the rest
    assert torch.equal(torch.cat([start, *(share[:, 5:] for share in conditions)], dim=1), z)
    assert all(torch.equal(share[:, :5], conditioning.shared.weight[y]) for share in conditions)
    assert conditioning.affine(7)(conditions[0]).shape == (2, 7)


@pytest.mark.parametrize("side", [8, 10])
def test_halving_is_the_bilinear_filter(side):
    x = torch.randn(2, 3, side, side)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = torch.outer(line, line).expand(3, 1, 4, 4)
    torch.testing.assert_close(r3gan.Halve()(x), conv2d(x, kernel, stride=2, padding=1, groups=3))


def test_doubling_is_the_same_filter_but_for_the_border():
    x = torch.randn(2, 3, 8, 8)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(3, 1, 4, 4)
    expected = nn.functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=3)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(Upsample()(x)[inside], expected[inside])


def test_a_block_of_r3gan_begins_as_the_identity_with_fixups_gain():
    block = r3gan.Block(64, depth=10)
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(block(x), x)
    first, _, grouped, _, last = block.layers
    gain = 10 ** (-1 / (2 * 3 - 2)) * math.sqrt(2 / (1 + 0.2**2))
    for layer, inputs in ((first, 64), (grouped, 16 * 9)):
        assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(inputs), rel=0.05)
    assert grouped.groups == 128 // 16
    assert not last.weight.any()


def test_class_embeddings_of_r3gan_have_the_authors_scale():
    # Linear layers on one-hot labels in their code: N(0, 1 / classes) in G, N(0, 1 / (channels · classes)) in D.
    classes = 400
    G = r3gan.Generator(size=16, channels=3, latent=8, width=8, classes=classes)
    D = r3gan.Discriminator(size=16, channels=3, width=8, classes=classes)
    assert G.condition.embedding.weight.std().item() == pytest.approx(1 / math.sqrt(classes), rel=0.05)
    assert D.embedding.weight.std().item() == pytest.approx(1 / math.sqrt(32 * classes), rel=0.05)
