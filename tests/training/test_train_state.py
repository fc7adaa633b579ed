"""The average of the weights against the sum it stands for, schedules at their ends and middle, the optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from kit.models.registry import MODELS
from kit.training import train_state
from kit.training.train_state import SCHEDULES, PictureEma, scale, train_progress


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


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_one_way_from_the_first_value_to_the_last(name):
    values = [scale(name, percent / 100, end=0.25) for percent in range(101)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(1 if name == "constant" else 0.25)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_half_way_is_half_of_the_planned_pictures(name):
    assert scale(name, 0.5, end=0.2) == pytest.approx(0.6)


def test_a_cosine_begins_and_ends_slowly():
    assert scale("cosine", 0.1, end=0) > scale("linear", 0.1, end=0)
    assert scale("cosine", 0.9, end=0) < scale("linear", 0.9, end=0)


def test_progress_counts_pictures_and_stays_at_the_end():
    assert [train_progress(pictures, 400) for pictures in (0, 100, 400, 500)] == [0, 0.25, 1, 1]
    assert train_progress(10**9, None) == 0


def test_a_schedule_can_begin_in_the_middle():
    # CycleGAN: constant for the first half, then linear to 0.
    factors = [scale("linear", tenths / 10, end=0, start=0.5) for tenths in (0, 4, 5, 6, 10)]
    assert factors == pytest.approx([1, 1, 1, 0.8, 0])


def test_the_fused_optimizer_takes_the_papers_steps():
    recipe = MODELS["dcgan"].recipe
    random = torch.Generator().manual_seed(0)
    weight, other = (torch.nn.Parameter(torch.ones(5, 3)) for _ in range(2))
    ours = train_state.OPTIMIZERS["adam"]([weight], recipe)
    ours.param_groups[0]["lr"] = recipe.lr_g
    plain = torch.optim.Adam([other], lr=recipe.lr_g, betas=(recipe.beta1, recipe.beta2), fused=False, foreach=False)
    for _ in range(10):
        weight.grad = other.grad = torch.randn(5, 3, generator=random)
        ours.step()
        plain.step()
    torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-7)
