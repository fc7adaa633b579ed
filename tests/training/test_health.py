"""What is said of a tick, and when it is time to go back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from training_tools import start

from kit.training import health
from kit.training.loop import Tick

TICK = Tick(
    pictures=20_000, loss_d=0.5, loss_g=1.0, d_real=0.6, d_fake=0.4, grad_d=1.0, grad_g=1.0, lr_d=2e-4, lr_g=2e-4
)


def test_diversity_is_how_much_pictures_differ_from_each_other():
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    assert health.diversity(np.concatenate([black, black])) == 0
    assert health.diversity(np.concatenate([black, white])) == pytest.approx(127.5)  # half the way to the other
    gradient = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None, None], (8, 1, 64, 1))
    assert health.diversity(gradient) == 0  # contrast within a picture is none between them


def test_a_healthy_tick_says_nothing():
    assert health.Health(real=60, bounded=True).alarms(TICK, 50) == []


def test_a_saturated_discriminator_is_reported():
    saturated = dataclasses.replace(TICK, loss_d=0.001, loss_g=9.0, d_real=1.0, d_fake=0.0)
    (alarm,) = health.Health(real=60, bounded=True).alarms(saturated, 50)
    assert "D is saturated" in alarm
    assert health.Health(real=60, bounded=False).alarms(saturated, 50) == []  # the D of a Wasserstein loss never is


def test_pictures_that_are_alike_are_said_and_are_a_collapse_only_after_they_differed():
    watch = health.Health(real=60, bounded=True)
    (alarm,) = watch.alarms(TICK, 1.0)
    assert "mode collapse" in alarm
    assert watch.alarms(dataclasses.replace(TICK, pictures=500), 1.0) == []  # it has hardly begun
    assert not watch.collapsed(1.0)  # an untrained generator
    assert not watch.collapsed(30.0)
    assert not watch.collapsed(4.0)
    assert watch.collapsed(1.0)


@pytest.mark.parametrize(("where", "value"), [("G", torch.nan), ("D", torch.inf), ("ema", torch.nan)])
def test_one_weight_that_is_no_number_is_found_wherever_it_is(where, value, prepared):
    _, state, _ = start("dcgan", prepared)
    assert health.finite(state)
    network = {"G": state.G, "D": state.D, "ema": state.ema.module}[where]
    weight = list(network.parameters())[-1].data
    weight[(0,) * weight.dim()] = value
    assert not health.finite(state)
