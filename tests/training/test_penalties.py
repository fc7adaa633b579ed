"""Penalties against finite differences in float64, and against Ds whose gradient is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kit.models import registry
from kit.training import train_state
from kit.training.device import Device
from kit.training.losses import PENALTIES, DOutputs
from kit.training.random import SlicedGenerator


class Curved(nn.Module):
    """A smooth D in float64 that also depends on the label."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, 1))
        self.double()

    def forward(self, x, y):
        return self.layers(x).flatten() * (1 + y)


class Linear(nn.Module):
    """D(x) = w·x: its gradient is w everywhere."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((1, 4, 4), w))

    def forward(self, x, y):
        return (x * self.w).sum(dim=(1, 2, 3))


@pytest.fixture
def setting():
    torch.manual_seed(0)
    real, fake = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    return Curved(), real, fake, torch.tensor([0, 1, 2])


def random(seed: int = 7) -> SlicedGenerator:
    return SlicedGenerator(torch.Generator().manual_seed(seed))


def cost(name, D, real, fake, y):
    """A penalty as the loop asks for it."""
    penalty = PENALTIES[name]
    real, fake = (x.detach().requires_grad_(penalty.needs_input_grad) for x in (real, fake))
    return penalty.compute(DOutputs(D, real, fake, y, D(real, y), D(fake, y)), random())


def squared_gradient_norms(D, x, y, step=1e-5):
    """‖∇ₓ D(x)‖² of each picture, pixel by pixel from differences."""
    gradients = np.zeros((len(x), x[0].numel()))
    for pixel in range(x[0].numel()):
        nudge = torch.zeros_like(x).flatten(1)
        nudge[:, pixel] = step
        nudge = nudge.view_as(x)
        gradients[:, pixel] = ((D(x + nudge, y) - D(x - nudge, y)) / (2 * step)).detach().numpy()
    return (gradients**2).sum(axis=1)


def between(real, fake):
    t = torch.rand(len(real), 1, 1, 1, generator=torch.Generator().manual_seed(7), dtype=real.dtype)
    return t * real + (1 - t) * fake


EXPECTED = {
    "none": lambda D, real, fake, y: 0.0,
    "gradient": lambda D, real, fake, y: np.mean((np.sqrt(squared_gradient_norms(D, between(real, fake), y)) - 1) ** 2),
    "r1": lambda D, real, fake, y: squared_gradient_norms(D, real, y).mean() / 2,
    "r1+r2": lambda D, real, fake, y: (
        (squared_gradient_norms(D, real, y).mean() + squared_gradient_norms(D, fake, y).mean()) / 2
    ),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_is_its_formula_by_finite_differences(name, setting):
    D, real, fake, y = setting
    penalty = cost(name, D, real, fake, y)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(EXPECTED[name](D, real, fake, y), rel=1e-7)


@pytest.mark.parametrize("name", [name for name in PENALTIES if name != "none"])
def test_a_penaltys_gradient_is_that_of_finite_differences(name, setting):
    D, real, fake, y = setting
    cost(name, D, real, fake, y).backward()
    weight = D.layers[0].weight
    values = []
    for nudge in (1e-6, -1e-6):
        with torch.no_grad():
            weight[1, 0, 2, 0] += nudge
        values.append(cost(name, D, real, fake, y).item())
        with torch.no_grad():
            weight[1, 0, 2, 0] -= nudge
    assert weight.grad[1, 0, 2, 0].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_the_gradient_penalty_wants_gradients_of_length_one():
    real, fake, y = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.zeros(2)
    for w in (0.0, 0.25, 1.0):  # ‖w‖ of 16 pixels is 4w
        penalty = cost("gradient", Linear(w), real, fake, y)
        assert penalty.item() == pytest.approx((4 * w - 1) ** 2, abs=1e-6)


def test_a_constant_d_gets_no_nan():
    D = Linear(0.0)
    cost("gradient", D, torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.zeros(2)).backward()
    assert torch.equal(D.w.grad, torch.zeros_like(D.w))


@pytest.mark.parametrize("name", [name for name, row in registry.MODELS.items() if row.recipe.penalty != "none"])
def test_a_penalty_in_bf16_pulls_the_weights_where_it_does_in_fp32(name):
    recipe = registry.get(name).override(["width=8", "batch=8"])
    fp32 = Device(torch.device("cpu"), "CPU", torch.float32)
    D = train_state.build(recipe, size=32, channels=3, classes=0, seed=0, device=fp32).D.train()
    real, fake = torch.rand(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def pull(precision):
        D.zero_grad()
        with Device(torch.device("cpu"), "CPU", precision).autocast_twice():
            penalty = cost(recipe.penalty, D, real, fake, torch.zeros(8, dtype=torch.int64))
        penalty.backward()
        return torch.cat([weight.grad.flatten() for weight in D.parameters() if weight.grad is not None])

    plain = pull(torch.float32)
    assert (pull(torch.bfloat16) - plain).norm() < 0.05 * plain.norm()
    assert torch.equal(pull(torch.float16), plain), "fp16 has not the range: fp32 in its place"
