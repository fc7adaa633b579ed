"""Random numbers of a step, and how a batch is shared out: what each picture gets does not depend on the sharing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kit.core.seeds import derive


@dataclass(frozen=True)
class BatchSlice:
    """The rows of a batch that are computed together: `first` up to, but without, `last`."""

    first: int
    last: int
    batch: int  # rows of the whole batch

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def weight(self) -> float:
        """What a mean over these rows counts for in the mean over the batch."""
        return len(self) / self.batch

    def split(self, parts: int) -> list[BatchSlice]:
        """Itself in so many parts, or in one for each row where there are fewer rows; they differ by a row at most."""
        parts = min(parts, len(self))
        ends = [self.first + len(self) * part // parts for part in range(parts + 1)]
        return [BatchSlice(first, last, self.batch) for first, last in pairwise(ends)]


class SlicedGenerator:
    """Random numbers for the rows of a share: those that the whole batch would have drawn.

    Args:
        generator: on the device that wants them; each call of a method moves it by a whole batch.
        share: the rows; None: all there are.
    """

    def __init__(self, generator: torch.Generator, share: BatchSlice | None = None) -> None:
        self._generator, self._share = generator, share

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """From [0, 1); the first number of the shape is that of the share's rows."""
        whole = torch.rand(self._whole(shape), generator=self._generator, device=self._generator.device, dtype=dtype)
        return self._own(whole)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """From N(0, 1)."""
        whole = torch.randn(self._whole(shape), generator=self._generator, device=self._generator.device, dtype=dtype)
        return self._own(whole)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` up to, but without, `high`; int64."""
        return self._own(
            torch.randint(low, high, self._whole(shape), generator=self._generator, device=self._generator.device)
        )

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self._share is None else (self._share.batch, *shape[1:])

    def _own(self, whole: Tensor) -> Tensor:
        return whole if self._share is None else whole[self._share.first : self._share.last]


def randomness(
    seed: int, purpose: str, position: int, device: torch.device, share: BatchSlice | None = None
) -> SlicedGenerator:
    """A stream of random numbers that is a function of the seed, the purpose and the pictures seen."""
    return SlicedGenerator(torch.Generator(device).manual_seed(derive(seed, purpose, position)), share)


def latents(seed: int, position: int, share: BatchSlice, length: int, device: torch.device) -> Tensor:
    """The latents z ~ N(0, I) of a step, shape (rows, length); a function of the seed and the pictures seen."""
    return randomness(seed, "latents", position, device, share).normal(len(share), length)
