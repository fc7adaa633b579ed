"""Losses against their papers' formulas, written out for a few logits."""

from __future__ import annotations

import math

import pytest
import torch

from kit.training.losses import LOSSES

REAL, FAKE = [1.5, -0.25], [-2.0, 0.5]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


FORMULAS = {
    "non-saturating": (
        lambda real, fake: sum(
            -math.log(sigmoid(r)) - math.log(1 - sigmoid(f)) for r, f in zip(real, fake, strict=True)
        )
        / len(real),
        lambda fake, real: sum(-math.log(sigmoid(f)) for f in fake) / len(fake),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_papers_formula(name):
    critic, generator = FORMULAS[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert LOSSES[name].critic(real, fake).item() == pytest.approx(critic(REAL, FAKE), rel=1e-6)
    assert LOSSES[name].generator(fake, real).item() == pytest.approx(generator(FAKE, REAL), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_stays_finite_for_a_saturated_critic(name):
    logits = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(LOSSES[name].critic(logits, logits.flip(0)))
    assert torch.isfinite(LOSSES[name].generator(logits, logits.flip(0)))
