"""Gradient penalties on D: functions in a table, with one signature.

A penalty differentiates D's gradient once more, which fp16 cannot do: it has a precision of its own
(`Device.autocast_twice`), and so have the logits where their gradients are penalized. Those gradients need no further
forward passes of D. They are fp32, as the pictures are, and so are their norms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.models.recipe import PenaltyName
from kit.training.random import SlicedGenerator


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
