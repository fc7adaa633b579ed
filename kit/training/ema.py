"""Exponential moving average (EMA) of a generator's weights, which samples better than the last weights."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import get_ema_multi_avg_fn


class PictureEma(nn.Module):
    """An exponential moving average whose half-life is counted in pictures, not in steps.

    A half-life in pictures keeps its meaning when the batch size changes (Karras et al. 2020, StyleGAN2, appendix B).
    Early in training it is limited to a fraction of the pictures seen: otherwise the average of a short run would still
    contain much of its random first weights. Batch norm's buffers are averaged with the weights; spectral norm's
    singular vectors are copied, as an average of unit vectors is not a unit vector.

    Args:
        generator: the network to follow; the average starts as its copy.
        half_life: pictures after which the weight of an old value has halved; 0: no averaging.
        ramp: upper limit of the half-life, × the pictures seen so far; 0: no limit.
        batch: pictures between two updates.
    """

    def __init__(self, generator: nn.Module, *, half_life: int, ramp: float, batch: int) -> None:
        super().__init__()
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.half_life, self.ramp, self.batch = half_life, ramp, batch

    @torch.no_grad()
    def update(self, generator: nn.Module, *, pictures: int) -> None:
        """Averages in the network as it is after so many pictures."""
        pairs = list(zip(self.module.state_dict().values(), generator.state_dict().values(), strict=True))
        # torch's own AveragedModel would ask the device, in every step, whether it is the first.
        average = get_ema_multi_avg_fn(self.decay(pictures))
        average(*([pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1)), None)
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        vectors = zip(_singular_vectors(self.module), _singular_vectors(generator), strict=True)
        for ours, theirs in (*counts, *vectors):
            ours.copy_(theirs)

    def decay(self, pictures: int) -> float:
        """The weight of the old average in an update after so many pictures, 0 to 1."""
        half_life = min(self.half_life, self.ramp * pictures) if self.ramp else self.half_life
        return 0.5 ** (self.batch / half_life) if half_life > 0 else 0.0


def _singular_vectors(network: nn.Module) -> list[torch.Tensor]:
    """The buffers of all parametrizations, which are spectral norm's."""
    return [
        buffer
        for module in network.modules()
        if parametrize.is_parametrized(module)
        for buffer in cast(nn.Module, module.parametrizations).buffers()
    ]
