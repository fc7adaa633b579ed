"""Adversarial losses: pairs of functions on logits, one for D and one for G.

Every pair has one signature: `d_loss(real, fake, label)` and `g_loss(fake, real)`, on logits of shape (B,), each
returning a scalar. `label` is the target of D for real pictures: 1, or less with one-sided label smoothing (Salimans et
al. 2016, section 3.4). Losses without labels ignore it; a recipe that smooths them is refused
(`kit.models.recipe.LABELLED`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus

from kit.models.recipe import LossName


class Loss(NamedTuple):
    """A pair of losses and where they come from."""

    d_loss: Callable[[Tensor, Tensor, float], Tensor]
    g_loss: Callable[[Tensor, Tensor], Tensor]
    source: str
    bounded: bool = True  # D's loss is at least 0, and near 0 D has nothing left to learn
    relativistic: bool = False  # G's loss needs D's logits of real pictures, too


def _logistic_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    # −t log σ(real) − (1 − t) log(1 − σ(real)) − log(1 − σ(fake)), in the form that cannot overflow
    return softplus(-real).mean() + (1 - label) * real.mean() + softplus(fake).mean()


def _non_saturating_g_loss(fake: Tensor, real: Tensor) -> Tensor:
    # −log σ(fake): stronger gradients than log(1 − σ(fake)) while D still wins
    return softplus(-fake).mean()


def _least_squares_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return ((real - label).square().mean() + fake.square().mean()) / 2


def _least_squares_g_loss(fake: Tensor, real: Tensor) -> Tensor:
    return (fake - 1).square().mean() / 2


def _wasserstein_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return fake.mean() - real.mean()


def _hinge_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _raise_fake_logits(fake: Tensor, real: Tensor) -> Tensor:
    return -fake.mean()


def _relativistic_least_squares_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return (real - fake.mean() - label).square().mean() + (fake - real.mean() + 1).square().mean()


def _relativistic_least_squares_g_loss(fake: Tensor, real: Tensor) -> Tensor:
    return _relativistic_least_squares_d_loss(fake, real, 1.0)


def _relativistic_d_loss(real: Tensor, fake: Tensor, label: float) -> Tensor:
    # Each real picture against the generated one beside it
    return softplus(fake - real).mean() + (1 - label) * (real - fake).mean()


def _relativistic_g_loss(fake: Tensor, real: Tensor) -> Tensor:
    return softplus(real - fake).mean()


LOSSES: dict[LossName, Loss] = {
    "non-saturating": Loss(
        _logistic_d_loss, _non_saturating_g_loss, "Goodfellow et al. 2014, eq. 1 and the end of section 3"
    ),
    "least-squares": Loss(_least_squares_d_loss, _least_squares_g_loss, "Mao et al. 2017, eq. 9 (labels 0, 1, 1)"),
    "wasserstein": Loss(
        _wasserstein_d_loss, _raise_fake_logits, "Arjovsky et al. 2017, eq. 2 and algorithm 1", bounded=False
    ),
    "hinge": Loss(_hinge_d_loss, _raise_fake_logits, "Miyato et al. 2018, eqs. 16 and 17; Lim & Ye 2017"),
    "relativistic-least-squares": Loss(
        _relativistic_least_squares_d_loss,
        _relativistic_least_squares_g_loss,
        "Jolicoeur-Martineau 2019, relativistic average LSGAN (RaLSGAN)",
        relativistic=True,
    ),
    "relativistic": Loss(
        _relativistic_d_loss,
        _relativistic_g_loss,
        "Jolicoeur-Martineau 2019, relativistic standard GAN; Huang et al. 2024, eq. 2",
        relativistic=True,
    ),
}
