"""The average of a generator's weights over its recent past, which samples better than its last step."""

from __future__ import annotations

from typing import cast

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.utils import parametrize


class PictureEma(ModelEmaV3):
    """An exponential moving average whose memory is counted in pictures, not in steps.

    A half-life in pictures keeps its meaning when the batch changes (Karras et al. 2020, StyleGAN2, appendix B). While
    training is young the half-life is only a share of the pictures seen: otherwise the average of a short run would
    still be full of its first, random weights. Batch-norm buffers are averaged with the weights they belong to;
    the singular vectors of spectral norm are followed, as an average of unit vectors is none.

    Args:
        generator: the network to follow; the average starts as its copy.
        half_life: pictures after which a weight's share has halved; 0 follows the network without a delay.
        ramp: the half-life's upper limit as a share of the pictures seen so far; 0 sets no limit.
        batch: pictures between two updates.
    """

    def __init__(self, generator: nn.Module, *, half_life: int, ramp: float, batch: int) -> None:
        super().__init__(generator)
        self.half_life, self.ramp, self.batch = half_life, ramp, batch
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int | None = None) -> None:
        """Takes in the network as it is after `step` pictures."""
        super().update(model, step)
        for ours, theirs in zip(_singular_vectors(self.module), _singular_vectors(model), strict=True):
            ours.copy_(theirs)

    def get_decay(self, step: int | None = None) -> float:
        """The old average's weight in a step that ends with `step` pictures seen, 0 to 1."""
        pictures = step or 0
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
