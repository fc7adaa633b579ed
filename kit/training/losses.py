"""What the two players minimise, as pairs of functions on logits.

Every pair has one signature, so that the loop never asks which loss it runs: `critic(real, fake, label)` for D and
`generator(fake, real)` for G, on logits of shape (B,), each returning a scalar. `label` is what D should say to real
pictures: 1, or a little less to smooth it (Salimans et al. 2016, section 3.4: one-sided label smoothing). The losses
without labels ignore it, and a recipe that smooths them is refused (`kit.models.recipe.LABELLED`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus

from kit.models.recipe import LossName


class Loss(NamedTuple):
    """A pair of objectives and where they come from."""

    critic: Callable[[Tensor, Tensor, float], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    source: str
    bounded: bool = True  # D's loss has a lower end, 0, near which D has nothing left to learn
    relativistic: bool = False  # G's objective reads the real logits too: they are taken anew for its step


def _logistic_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    # −t log σ(real) − (1 − t) log(1 − σ(real)) − log(1 − σ(fake)), in the form that cannot overflow
    return softplus(-real).mean() + (1 - label) * real.mean() + softplus(fake).mean()


def _non_saturating_generator(fake: Tensor, real: Tensor) -> Tensor:
    # −log σ(fake): stronger gradients than log(1 − σ(fake)) while D still wins
    return softplus(-fake).mean()


def _least_squares_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return ((real - label).square().mean() + fake.square().mean()) / 2


def _least_squares_generator(fake: Tensor, real: Tensor) -> Tensor:
    return (fake - 1).square().mean() / 2


def _wasserstein_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return fake.mean() - real.mean()


def _hinge_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _raise_fakes(fake: Tensor, real: Tensor) -> Tensor:
    return -fake.mean()


def _relativistic_least_squares_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    return (real - fake.mean() - label).square().mean() + (fake - real.mean() + 1).square().mean()


def _relativistic_least_squares_generator(fake: Tensor, real: Tensor) -> Tensor:
    return _relativistic_least_squares_critic(fake, real, 1.0)


def _relativistic_critic(real: Tensor, fake: Tensor, label: float) -> Tensor:
    # Each real picture against the generated one beside it
    return softplus(fake - real).mean() + (1 - label) * (real - fake).mean()


def _relativistic_generator(fake: Tensor, real: Tensor) -> Tensor:
    return softplus(real - fake).mean()


LOSSES: dict[LossName, Loss] = {
    "non-saturating": Loss(
        _logistic_critic, _non_saturating_generator, "Goodfellow et al. 2014, eq. 1 and the end of section 3"
    ),
    "least-squares": Loss(_least_squares_critic, _least_squares_generator, "Mao et al. 2017, eq. 9 (labels 0, 1, 1)"),
    "wasserstein": Loss(
        _wasserstein_critic, _raise_fakes, "Arjovsky et al. 2017, eq. 2 and algorithm 1", bounded=False
    ),
    "hinge": Loss(_hinge_critic, _raise_fakes, "Miyato et al. 2018, eqs. 16 and 17; Lim & Ye 2017"),
    "relativistic-least-squares": Loss(
        _relativistic_least_squares_critic,
        _relativistic_least_squares_generator,
        "Jolicoeur-Martineau 2019, relativistic average LSGAN (RaLSGAN)",
        relativistic=True,
    ),
    "relativistic": Loss(
        _relativistic_critic,
        _relativistic_generator,
        "Jolicoeur-Martineau 2019, relativistic standard GAN; Huang et al. 2024, eq. 2",
        relativistic=True,
    ),
}
