"""Attention, projection and conditional batch norm against a few lines of NumPy each."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kit.models.layers import (
    NORMS,
    ConcatClass,
    ConditionalBatchNorm2d,
    LearnedVector,
    Projection,
    SelfAttention,
    normalize,
)


def plain(layer):
    return layer


def array(tensor):
    return tensor.detach().numpy()


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 8)])
def test_attention_is_the_papers_formula(height, width):
    layer = SelfAttention(16, init_and_norm=plain)
    nn.init.constant_(layer.gamma, 0.7)
    x = torch.randn(2, 16, height, width)
    query, key, value, out = (
        array(conv.weight)[:, :, 0, 0] for conv in (layer.query, layer.key, layer.value, layer.out)
    )

    def pooled(maps):  # (C, H, W) → (C, H/2 · W/2), the largest of each 2×2
        return maps.reshape(len(maps), height // 2, 2, width // 2, 2).max(axis=(2, 4)).reshape(len(maps), -1)

    for picture, ours in zip(array(x), array(layer(x)), strict=True):
        flat = picture.reshape(16, -1)
        f = query @ flat
        g = pooled((key @ flat).reshape(-1, height, width))
        h = pooled((value @ flat).reshape(-1, height, width))
        weights = softmax(f.T @ g)  # a row a place, over all places it looks at
        expected = picture + 0.7 * (out @ (h @ weights.T)).reshape(picture.shape)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_attention_begins_as_the_identity_and_can_be_differentiated_twice():
    layer = SelfAttention(16, init_and_norm=plain)
    x = torch.randn(2, 16, 4, 4, requires_grad=True)
    assert torch.equal(layer(x), x)
    nn.init.ones_(layer.gamma)
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert layer.query.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("classes", [0, 3])
def test_a_projection_is_the_papers_formula(classes):
    layer = Projection(features=5, classes=classes, init_and_norm=plain)
    h, y = torch.randn(4, 5), torch.tensor([0, 2, 1, 2])
    w, b = array(layer.linear.weight)[0], array(layer.linear.bias)[0]
    expected = array(h) @ w + b
    if classes:
        expected += np.array([array(layer.embedding.weight)[c] @ v for c, v in zip(y.tolist(), array(h), strict=True)])
    np.testing.assert_allclose(array(layer(h, y)), expected, rtol=1e-5, atol=1e-6)


def test_conditional_batch_norm_is_a_gain_and_bias_for_each_class():
    layer = ConditionalBatchNorm2d(6, lambda channels: nn.Embedding(3, channels))
    x, y = torch.randn(5, 6, 4, 4) * 3 + 1, torch.tensor([0, 1, 2, 1, 0])
    gain, bias = array(layer.gain.weight), array(layer.bias.weight)
    maps = array(x).astype(np.float64)
    scaled = (maps - maps.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(maps.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    for row, c in enumerate(y.tolist()):
        expected = scaled[row] * (1 + gain[c])[:, None, None] + bias[c][:, None, None]
        np.testing.assert_allclose(array(layer(x, y))[row], expected, rtol=1e-4, atol=1e-5)


def test_without_a_condition_it_is_plain_batch_norm():
    layer, batch_norm = ConditionalBatchNorm2d(6, LearnedVector), nn.BatchNorm2d(6)
    with torch.no_grad():
        for parameter, theirs, shift in (
            (layer.gain.vector, batch_norm.weight, 1),
            (layer.bias.vector, batch_norm.bias, 0),
        ):
            parameter.normal_()
            theirs.copy_(parameter + shift)
    x = torch.randn(5, 6, 4, 4)
    torch.testing.assert_close(layer(x, torch.zeros(5)), batch_norm(x))
    torch.testing.assert_close(layer.eval()(x, torch.zeros(5)), batch_norm.eval()(x))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 5)])
def test_a_condition_stands_beside_what_it_is_given(shape):
    layer, x, y = ConcatClass(classes=2, length=7), torch.randn(shape), torch.tensor([1, 0, 1])
    out = layer(x, y)
    assert out.shape == (3, 11, *shape[2:])
    assert torch.equal(out[:, :4], x)
    vectors = layer.embedding.weight[y]
    assert torch.equal(out[:, 4:], vectors.view(3, 7, *[1] * (len(shape) - 2)).expand(-1, -1, *shape[2:]))
    assert ConcatClass(classes=0, length=7)(x, y) is x


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(8, 6), torch.randn(16, 8)),
        (nn.Conv2d(8, 6, 3), torch.randn(16, 8, 5, 5)),
        (nn.ConvTranspose2d(8, 6, 3), torch.randn(16, 8, 5, 5)),
    ],
)
def test_every_norm_keeps_any_hidden_layer_in_scale(norm, layer, x):
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.mul_(100)
    out = nn.Sequential(*normalize(layer, norm))(x)
    # The spectrum's bound: no output is longer than its input times the weight's largest singular value.
    bound = {"batch": 1.1, "layer": 1.1, "spectral": 4.0, "none": float("inf")}[norm]
    assert out.std() < bound
    assert (out.std() > 10) == (norm == "none")
