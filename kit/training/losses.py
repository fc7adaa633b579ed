"""What the two players minimise, as pairs of functions on logits.

Every pair has one signature, so that the loop never asks which loss it runs: `critic(real, fake)` for D and
`generator(fake, real)` for G, on logits of shape (B,), each returning a scalar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import softplus


class Loss(NamedTuple):
    """A pair of objectives and where they come from."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    source: str


def _logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    # −log σ(real) − log(1 − σ(fake)), in the form that cannot overflow
    return softplus(-real).mean() + softplus(fake).mean()


def _non_saturating_generator(fake: Tensor, real: Tensor) -> Tensor:
    # −log σ(fake): stronger gradients than log(1 − σ(fake)) while D still wins
    return softplus(-fake).mean()


LOSSES: dict[str, Loss] = {
    "non-saturating": Loss(
        _logistic_critic, _non_saturating_generator, "Goodfellow et al. 2014, eq. 1 and the end of section 3"
    ),
}
