"""The average of the weights, against the sum it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from kit.training.train_state import PictureEma


def test_after_a_half_life_half_of_the_old_weights_is_left():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    ema = PictureEma(network, half_life=1000, ramp=0.0, batch=10)
    nn.init.zeros_(network.weight)
    for pictures in range(10, 1001, 10):
        ema.update(network, pictures=pictures)
    assert ema.module.weight.item() == pytest.approx(0.5, rel=1e-5)


def test_the_half_life_does_not_depend_on_the_batch():
    small = PictureEma(nn.Linear(1, 1), half_life=1000, ramp=0.05, batch=16)
    large = PictureEma(nn.Linear(1, 1), half_life=1000, ramp=0.05, batch=64)
    assert small.decay(100_000) ** 4 == pytest.approx(large.decay(100_000))


def test_a_young_average_forgets_its_random_start():
    ema = PictureEma(nn.Linear(1, 1), half_life=1_000_000, ramp=0.05, batch=64)
    start = 1.0
    for pictures in range(64, 6401, 64):
        start *= ema.decay(pictures)
    assert start < 1e-6  # without the ramp 99.6 % of it would be left


def test_buffers_are_averaged_with_the_weights():
    network = nn.BatchNorm1d(1)
    ema = PictureEma(network, half_life=100, ramp=0.0, batch=100)
    network.running_mean.fill_(4.0)
    network.num_batches_tracked.fill_(7)
    ema.update(network, pictures=100)
    assert ema.module.running_mean.item() == pytest.approx(2.0)
    assert ema.module.num_batches_tracked.item() == 7


def test_the_average_has_no_gradients_and_leaves_the_network_alone():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    ema = PictureEma(network, half_life=10, ramp=0.0, batch=10)
    ema.update(network, pictures=10)
    assert torch.equal(network.weight, before)
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert network.weight.requires_grad


def test_spectral_norm_stays_true_to_the_averaged_weights():
    # An average of unit vectors is shorter than one: with it, averaged weights would come out too large.
    torch.manual_seed(0)
    network = spectral_norm(nn.Linear(8, 8, bias=False))
    ema = PictureEma(network, half_life=100, ramp=0.0, batch=10)
    for pictures in range(10, 1001, 10):
        network.parametrizations.weight.original.data.addmm_(torch.randn(8, 1), torch.randn(1, 8), alpha=0.05)
        network(torch.randn(1, 8))
        ema.update(network, pictures=pictures)
    vectors = ema.module.parametrizations.weight[0]
    assert vectors._u.norm().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(vectors._u, network.parametrizations.weight[0]._u)
    assert torch.linalg.matrix_norm(ema.module.weight, ord=2).item() == pytest.approx(1, abs=0.1)
