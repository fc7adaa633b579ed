"""Speed does not change what is learned: on real digits, bf16 learns as fp32 does with another seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit.competition import COMPETITIONS
from kit.data.batches import Batches
from kit.data.prepare import prepare
from kit.models import registry
from kit.training import loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.device import Device

SEEDS = range(4)
PICTURES, EVERY = 6_400, 640


@pytest.fixture(scope="module")
def digits(shared, tmp_path_factory):
    if not (shared / "mnist").is_dir():
        pytest.skip(f"no digits at {shared / 'mnist'}")
    out = tmp_path_factory.mktemp("digits") / "mnist"
    return prepare(shared / "mnist", competition=COMPETITIONS["generative-dog-images"], out=out, size=32)


def curves(digits, name: str, seed: int, precision: torch.dtype) -> np.ndarray:
    """Losses and mean probabilities of a short run, (ticks, 4)."""
    recipe = registry.MODELS[name].recipe.override(["width=8"])
    where = Device(torch.device("cpu"), "CPU", precision)
    batches = Batches(digits, seed=seed, device=where.kind, flip=False)
    state = train_state.build(recipe, size=32, channels=1, classes=10, seed=seed, device=where)
    ticks = loop.train(
        state,
        Adversarial(recipe, batches, seed, where),
        tick_due=lambda pictures: pictures % EVERY == 0,
        done=lambda pictures: pictures >= PICTURES,
    )
    return np.array([[tick.loss_d, tick.loss_g, tick.d_real, tick.d_fake] for tick in ticks])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan", "wgan-gp"])
def test_learning_in_bf16_lies_within_the_spread_of_seeds(digits, name):
    fp32, half = (
        np.stack([curves(digits, name, seed, precision) for seed in SEEDS])
        for precision in (torch.float32, torch.bfloat16)
    )
    apart = np.abs(fp32.mean(axis=0) - half.mean(axis=0))
    # Two means of so many runs of one kind differ by less than this in 99 of 100 points, were they normal. A variance
    # of four runs says little, so the ticks' are averaged.
    deviation = np.sqrt(fp32.var(axis=0, ddof=1).mean(axis=0))
    assert (apart <= 2.6 * deviation * np.sqrt(2 / len(SEEDS))).mean() > 0.9
    # The same seed in another precision stays nearer than another seed does.
    same = np.abs(fp32 - half).mean()
    other = np.abs(fp32 - np.roll(fp32, 1, axis=0)).mean()
    assert same < other
