"""Random numbers of a step and slices of a batch: what each picture gets does not depend on how the batch is sliced."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kit.core.seeds import derive


@dataclass(frozen=True)
class BatchSlice:
    """The rows of a batch that are computed together: from `first` up to, but not including, `last`."""

    first: int
    last: int
    batch: int  # rows of the whole batch

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def weight(self) -> float:
        """Weight of a mean over these rows in the mean over the batch."""
        return len(self) / self.batch

    def split(self, count: int) -> list[BatchSlice]:
        """Slices of almost equal length: `count` of them, or one for each row if there are fewer rows."""
        count = min(count, len(self))
        ends = [self.first + len(self) * index // count for index in range(count + 1)]
        return [BatchSlice(first, last, self.batch) for first, last in pairwise(ends)]


class SlicedGenerator:
    """Random numbers for the rows of a slice: those that the whole batch would have drawn.

    Args:
        generator: on the device that wants them; each call of a method advances it by a whole batch.
        batch_slice: the rows; None: all.
    """

    def __init__(self, generator: torch.Generator, batch_slice: BatchSlice | None = None) -> None:
        self._generator, self._slice = generator, batch_slice

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """From [0, 1); the first number of the shape is that of the slice's rows."""
        device = self._generator.device
        return self._sliced(torch.rand(self._whole(shape), generator=self._generator, device=device, dtype=dtype))

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """From N(0, 1)."""
        device = self._generator.device
        return self._sliced(torch.randn(self._whole(shape), generator=self._generator, device=device, dtype=dtype))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from `low` up to, but not including, `high`; int64."""
        device = self._generator.device
        return self._sliced(torch.randint(low, high, self._whole(shape), generator=self._generator, device=device))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self._slice is None else (self._slice.batch, *shape[1:])

    def _sliced(self, whole: Tensor) -> Tensor:
        return whole if self._slice is None else whole[self._slice.first : self._slice.last]


def step_generator(
    seed: int, purpose: str, position: int, device: torch.device, batch_slice: BatchSlice | None = None
) -> SlicedGenerator:
    """A random generator that is a function of the seed, the purpose and the pictures seen (`position`)."""
    return SlicedGenerator(torch.Generator(device).manual_seed(derive(seed, purpose, position)), batch_slice)


def sample_z(seed: int, position: int, batch_slice: BatchSlice, length: int, device: torch.device) -> Tensor:
    """The latents z ~ N(0, I) of a step, (rows, length); a function of the seed and the pictures seen."""
    return step_generator(seed, "latents", position, device, batch_slice).normal(len(batch_slice), length)
