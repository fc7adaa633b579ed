"""What D pays for steep gradients, as functions in a table, all with one signature.

A penalty differentiates D's gradient once more, which fp16 does not survive: the loop works it out in a precision of
its own (`Device.autocast_twice`), and the logits too where a penalty is on their slopes. Those slopes cost no passes of
their own through D. They come out as fp32, as the pictures are, and so do their norms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.models.recipe import PenaltyName
from kit.training.random import SlicedGenerator


class DOutputs(NamedTuple):
    """What D has said of real and of generated pictures in its own step."""

    D: nn.Module  # called as D(x, y)
    real: Tensor  # (B, C, H, W), fp32
    fake: Tensor  # of the same shape, detached from G
    y: Tensor  # labels of both, (B,)
    real_logits: Tensor  # D(real, y), (B,)
    fake_logits: Tensor  # D(fake, y), (B,)


class Penalty(NamedTuple):
    """A penalty on D's gradient with respect to the pictures it sees."""

    cost: Callable[[DOutputs, SlicedGenerator], Tensor]
    """The penalty, a scalar to be weighted by λ (or γ), given where its own random numbers come from."""

    of_logits: bool = False
    """It reads the slopes of the logits: they are to be differentiable twice, and the pictures to ask for gradients."""


def none(judged: DOutputs, random: SlicedGenerator) -> Tensor:
    """Costs nothing."""
    return judged.real.new_zeros(())


def gradient(judged: DOutputs, random: SlicedGenerator) -> Tensor:
    """E (‖∇D(x̂)‖ − 1)², x̂ uniform between a real and a generated picture (Gulrajani et al. 2017, eq. 3)."""
    share = random.uniform(len(judged.real), 1, 1, 1, dtype=judged.real.dtype)
    between = judged.fake.lerp(judged.real, share).requires_grad_(True)
    squares = _squared_slopes(judged.D(between, judged.y), between)
    # A root's slope is infinite at 0: where D is flat, the norm's subgradient 0 is meant.
    norms = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
    return (norms - 1).square().mean()


def r1(judged: DOutputs, random: SlicedGenerator) -> Tensor:
    """½ E ‖∇D(x)‖² on real pictures (Mescheder et al. 2018, eq. 9)."""
    return _squared_slopes(judged.real_logits, judged.real).mean() / 2


def r1_r2(judged: DOutputs, random: SlicedGenerator) -> Tensor:
    """R1, and the same on generated pictures (Mescheder et al. 2018, eqs. 9 and 10; Huang et al. 2024, section 2)."""
    return r1(judged, random) + _squared_slopes(judged.fake_logits, judged.fake).mean() / 2


def _squared_slopes(logits: Tensor, x: Tensor) -> Tensor:
    """‖∇ₓ D(x)‖² of each picture, (B,), still differentiable."""
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3))


PENALTIES: dict[PenaltyName, Penalty] = {
    "none": Penalty(none),
    "gradient": Penalty(gradient),
    "r1": Penalty(r1, of_logits=True),
    "r1+r2": Penalty(r1_r2, of_logits=True),
}
