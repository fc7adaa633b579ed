"""Losses against their papers' formulas, written out for a few logits."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch

from kit.models.recipe import LABELLED
from kit.training.losses import LOSSES

REAL, FAKE = [1.5, -0.25, 0.75], [-2.0, 0.5, 1.25]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pairs(left, right):
    return zip(left, right, strict=True)


# name: (what D minimises, given real and fake logits and the label t of real pictures; what G minimises)
FORMULAS = {
    "non-saturating": (
        lambda real, fake, t: (
            fmean(-t * math.log(sigmoid(r)) - (1 - t) * math.log(1 - sigmoid(r)) for r in real)
            - fmean(math.log(1 - sigmoid(f)) for f in fake)
        ),
        lambda real, fake: -fmean(math.log(sigmoid(f)) for f in fake),
    ),
    "least-squares": (
        lambda real, fake, t: 0.5 * fmean((r - t) ** 2 for r in real) + 0.5 * fmean(f**2 for f in fake),
        lambda real, fake: 0.5 * fmean((f - 1) ** 2 for f in fake),
    ),
    "wasserstein": (
        lambda real, fake, t: -(fmean(real) - fmean(fake)),
        lambda real, fake: -fmean(fake),
    ),
    "hinge": (
        lambda real, fake, t: -fmean(min(0, r - 1) for r in real) - fmean(min(0, -1 - f) for f in fake),
        lambda real, fake: -fmean(fake),
    ),
    "relativistic-least-squares": (
        lambda real, fake, t: (
            fmean((r - fmean(fake) - t) ** 2 for r in real) + fmean((f - fmean(real) + 1) ** 2 for f in fake)
        ),
        lambda real, fake: (
            fmean((f - fmean(real) - 1) ** 2 for f in fake) + fmean((r - fmean(fake) + 1) ** 2 for r in real)
        ),
    ),
    "relativistic": (
        lambda real, fake, t: (
            -fmean(t * math.log(sigmoid(r - f)) + (1 - t) * math.log(1 - sigmoid(r - f)) for r, f in pairs(real, fake))
        ),
        lambda real, fake: -fmean(math.log(sigmoid(f - r)) for r, f in pairs(real, fake)),
    ),
}


@pytest.mark.parametrize("label", [1.0, 0.8])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_papers_formula(name, label):
    d_loss, g_loss = FORMULAS[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert LOSSES[name].d_loss(real, fake, label).item() == pytest.approx(d_loss(REAL, FAKE, label), rel=1e-6)
    assert LOSSES[name].g_loss(fake, real).item() == pytest.approx(g_loss(REAL, FAKE), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_stays_finite_for_a_saturated_d(name):
    logits = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(LOSSES[name].d_loss(logits, logits.flip(0), 0.9))
    assert torch.isfinite(LOSSES[name].g_loss(logits, logits.flip(0)))


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_with_labels_are_those_that_a_recipe_may_smooth(name):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    smoothed, plain = (LOSSES[name].d_loss(real, fake, label) for label in (0.9, 1.0))
    assert (smoothed != plain) == (name in LABELLED)


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_that_compare_are_marked(name):
    # D sees real pictures again for G's step where the mark stands.
    fake = torch.tensor(FAKE)
    one, other = (LOSSES[name].g_loss(fake, torch.tensor(REAL) + shift) for shift in (0.0, 1.0))
    assert (one != other) == LOSSES[name].relativistic
