"""The objective in two tables: adversarial losses, and gradient penalties on D.

A loss is a pair of functions on logits, one for D and one for G. Every pair has one signature: `d_loss(real, fake,
label)` and `g_loss(fake, real)`, on logits of shape (B,), each returning a scalar. `label` is the target of D for real
pictures: 1, or less with one-sided label smoothing (Salimans et al. 2016, section 3.4). Losses without labels ignore
it; a recipe that smooths them is refused (`kit.models.recipe.LABELLED`).

A penalty differentiates D's gradient once more, which fp16 cannot do: it has a precision of its own
(`Device.autocast_twice`), and so have the logits where their gradients are penalized. Those gradients need no further
forward passes of D. They are fp32, as the pictures are, and so are their norms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from kit.models.recipe import LossName, PenaltyName
from kit.training.random import SlicedGenerator


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


class DOutputs(NamedTuple):
    """Inputs and outputs of D in its own step."""

    D: nn.Module  # called as D(x, y)
    real: Tensor  # (B, C, H, W), fp32
    fake: Tensor  # of the same shape, detached from G
    y: Tensor  # labels of both, (B,)
    real_logits: Tensor  # D(real, y), (B,)
    fake_logits: Tensor  # D(fake, y), (B,)


class Penalty(NamedTuple):
    """A penalty on D's gradient with respect to its input."""

    compute: Callable[[DOutputs, SlicedGenerator], Tensor]
    """The penalty, a scalar to be weighted by λ (or γ), from D's outputs and a source of random numbers."""

    needs_input_grad: bool = False
    """It differentiates the logits: these must be differentiable twice, and the pictures must require gradients."""


def none(outputs: DOutputs, random: SlicedGenerator) -> Tensor:
    """No penalty."""
    return outputs.real.new_zeros(())


def wgan_gp(outputs: DOutputs, random: SlicedGenerator) -> Tensor:
    """E (‖∇D(x̂)‖ − 1)², x̂ uniform between a real and a generated picture (Gulrajani et al. 2017, eq. 3)."""
    t = random.uniform(len(outputs.real), 1, 1, 1, dtype=outputs.real.dtype)
    x_hat = outputs.fake.lerp(outputs.real, t).requires_grad_(True)
    squares = _squared_gradient_norms(outputs.D(x_hat, outputs.y), x_hat)
    # The square root has no finite derivative at 0: where D is constant, the norm's subgradient 0 is used.
    norms = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
    return (norms - 1).square().mean()


def r1(outputs: DOutputs, random: SlicedGenerator) -> Tensor:
    """½ E ‖∇D(x)‖² on real pictures (Mescheder et al. 2018, eq. 9)."""
    return _squared_gradient_norms(outputs.real_logits, outputs.real).mean() / 2


def r1_r2(outputs: DOutputs, random: SlicedGenerator) -> Tensor:
    """R1, and the same on generated pictures (Mescheder et al. 2018, eqs. 9 and 10; Huang et al. 2024, section 2)."""
    return r1(outputs, random) + _squared_gradient_norms(outputs.fake_logits, outputs.fake).mean() / 2


def _squared_gradient_norms(logits: Tensor, x: Tensor) -> Tensor:
    """‖∇ₓ D(x)‖² of each picture, (B,), still differentiable."""
    (gradients,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradients.square().sum(dim=(1, 2, 3))


PENALTIES: dict[PenaltyName, Penalty] = {
    "none": Penalty(none),
    "gradient": Penalty(wgan_gp),
    "r1": Penalty(r1, needs_input_grad=True),
    "r1+r2": Penalty(r1_r2, needs_input_grad=True),
}
