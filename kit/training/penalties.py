"""What D pays for steep gradients, as functions in a table, all with one signature.

A penalty runs D itself and differentiates D's gradient once more, which fp16 does not survive: the loop calls it in a
precision of its own (`Device.autocast_twice`). Slopes come out as fp32, as the pictures are, and so do their norms.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from kit.models.recipe import PenaltyName
from kit.training.streams import Stream


class Penalty(Protocol):
    """A penalty on D's gradient with respect to the pictures it sees."""

    def __call__(self, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor, random: Stream) -> Tensor:
        """The penalty, a scalar to be weighted by λ (or γ).

        Args:
            D: the critic, called as D(x, y).
            real: real pictures, fp32 (B, C, H, W).
            fake: generated pictures of the same shape, detached from G.
            y: labels of both, (B,).
            random: where the penalty's own random numbers come from.
        """


def none(D: nn.Module, real: Tensor, fake: Tensor, y: Tensor, random: Stream) -> Tensor:
    """Costs nothing."""
    return real.new_zeros(())


def gradient(D: nn.Module, real: Tensor, fake: Tensor, y: Tensor, random: Stream) -> Tensor:
    """E (‖∇D(x̂)‖ − 1)², x̂ uniform between a real and a generated picture (Gulrajani et al. 2017, eq. 3)."""
    share = random.uniform(len(real), 1, 1, 1, dtype=real.dtype)
    squares = _squared_gradients(D, fake.lerp(real, share), y)
    # A root's slope is infinite at 0: where D is flat, the norm's subgradient 0 is meant.
    norms = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
    return (norms - 1).square().mean()


def r1(D: nn.Module, real: Tensor, fake: Tensor, y: Tensor, random: Stream) -> Tensor:
    """½ E ‖∇D(x)‖² on real pictures (Mescheder et al. 2018, eq. 9)."""
    return _squared_gradients(D, real, y).mean() / 2


def r1_r2(D: nn.Module, real: Tensor, fake: Tensor, y: Tensor, random: Stream) -> Tensor:
    """R1, and the same on generated pictures (Mescheder et al. 2018, eqs. 9 and 10; Huang et al. 2024, section 2)."""
    return (_squared_gradients(D, real, y).mean() + _squared_gradients(D, fake, y).mean()) / 2


def _squared_gradients(D: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """‖∇ₓ D(x)‖² of each picture, (B,), still differentiable."""
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3))


PENALTIES: dict[PenaltyName, Penalty] = {"none": none, "gradient": gradient, "r1": r1, "r1+r2": r1_r2}
