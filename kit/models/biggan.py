"""BigGAN's generator (Brock et al. 2019, section 3 and appendix B): SAGAN's, told more at every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kit.core.errors import KitError
from kit.models.resnet import Conditions, Wrap


class Hierarchical(Conditions):
    """What BigGAN's blocks are told: a share of z of their own, and a vector for the class that all of them share.

    Each batch norm's gain and bias is a linear function of the two. The dense layer gets the first share of z.

    Args:
        latent: length of z; what does not divide evenly goes to the first share.
        blocks: residual blocks.
        classes: number of classes; 0 leaves the vector out.
        embedding: length of the class's vector.
        wrap: draws and normalises each layer's weights.
        draw: draws the embedding's weights.

    Raises:
        KitError: z is too short to be shared.
    """

    def __init__(self, *, latent: int, blocks: int, classes: int, embedding: int, wrap: Wrap, draw: Wrap) -> None:
        super().__init__()
        share = latent // (blocks + 1)
        if not share:
            raise KitError(f"latent={latent} is too short to be shared by {blocks + 1} layers", "make it longer")
        self.dense = latent - blocks * share
        self.told = share + (embedding if classes else 0)
        self.shared = draw(nn.Embedding(classes, embedding)) if classes else None
        self._share, self._wrap = share, wrap

    def affine(self, channels: int) -> nn.Module:
        """A linear function of a share and the class's vector."""
        return self._wrap(nn.Linear(self.told, channels, bias=False))

    def forward(self, z: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
        """The first share of z to the dense layer; to each block its own, and the class's vector."""
        start, *shares = z.split([self.dense, *[self._share] * blocks], dim=1)
        if self.shared is None:
            return start, shares
        vector = self.shared(y)
        return start, [torch.cat([vector, share], dim=1) for share in shares]
