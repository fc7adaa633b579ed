"""Batches of a prepared set, drawn on the device that trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.prepared_set import PreparedSet, Split

Indices = NDArray[np.int64]


class Batches:
    """Batches of a set, drawn on the device that trains.

    All pictures lie as uint8 on the device where they fit, else they stay mapped from disk; either way no worker
    process is needed, because cropping is a copy of stored pixels. An epoch visits every row of the split once. Which
    row comes when, whether it is mirrored, and which window of its picture it becomes are functions of the seed and of
    the number of pictures seen, for each picture by itself. So a resumed run goes on with the very same pictures,
    two halves of a batch drawn apart equal the batch drawn at once, and every device draws the same.

    In a set of crop policy `mixed`, half of the draws are a random window of the whole picture in place of the box's
    crop, another one each epoch. In a set with pictures to be translated, those are drawn in the same way, by
    `draw_inputs`.

    Args:
        prepared: the set.
        seed: decides the order, the flips and the windows.
        device: where batches are wanted.
        flip: mirror half of the pictures.
        split: the side of the hold-out that is drawn from; pictures to be translated are not held out.

    Raises:
        KitError: that side of the set is empty.
    """

    def __init__(
        self, prepared: PreparedSet, *, seed: int, device: torch.device, flip: bool, split: Split = "train"
    ) -> None:
        self.device = device
        self.size = prepared.size
        self.channels = prepared.channels
        rows = prepared.rows(split)
        if not len(rows):
            raise KitError(
                f"{prepared.path}: no pictures in the {split} part", "choose another --holdout for `kit data`"
            )
        arrays = (prepared.images, prepared.canvas, prepared.inputs)
        stored = sum(array.nbytes for array in arrays if array is not None)
        store = device if _fits(stored, device) else torch.device("cpu")
        self._labels = torch.from_numpy(prepared.labels.astype(np.int64)).to(store)
        canvas, index = None, None
        if prepared.canvas is not None and prepared.canvas_index is not None:
            canvas, index = _tensor(prepared.canvas).to(store), prepared.canvas_index[prepared.pictures]
        images = _tensor(prepared.images).to(store)
        self._images = _Shuffled(images, rows, canvas, index, purpose="batches", seed=seed, flip=flip)
        self._inputs: _Shuffled | None = None
        if prepared.inputs is not None:
            every = np.arange(len(prepared.inputs), dtype=np.int64)
            inputs = _tensor(prepared.inputs).to(store)
            self._inputs = _Shuffled(inputs, every, None, None, purpose="inputs", seed=seed, flip=flip)

    def __len__(self) -> int:
        """Pictures in an epoch, without those to be translated."""
        return len(self._images.rows)

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """The batch that follows after `position` pictures.

        Args:
            position: pictures drawn before, over all epochs.
            count: pictures wanted.

        Returns:
            Pictures, float32 (count, C, H, W) in [−1, 1], in `channels_last` memory format, and their labels, int64
            (count,), −1 where there is no class.
        """
        pixels, rows = self._images.draw(position, count)
        return self._normalize(pixels), _move(self._labels.index_select(0, rows), self.device)

    def draw_inputs(self, position: int, count: int) -> Tensor:
        """The batch of pictures to be translated that follows after `position` of them, see `draw`.

        Raises:
            ValueError: the set has none.
        """
        if self._inputs is None:
            raise ValueError("a set without pictures to be translated")
        return self._normalize(self._inputs.draw(position, count)[0])

    def _normalize(self, pixels: Tensor) -> Tensor:
        # uint8 values and 127.5 are exact in float32, so that −1 and 1 are met exactly and grey levels are symmetric.
        return _move(pixels, self.device).permute(0, 3, 1, 2).to(torch.float32).sub_(127.5).mul_(1 / 127.5)


class _Shuffled:
    """Some rows of an array of pictures, in a new order each epoch.

    Args:
        images: uint8 (N, H, W, C), on the device that holds the pictures.
        rows: those of an epoch.
        canvas: uint8 (P, C), the pixels that windows are cut from; None: there are no windows.
        index: int64 (N, 3), each row's source picture in it: first pixel, height, width.
        purpose: of the random numbers.
        seed: of the random numbers.
        flip: mirror half of the pictures.
    """

    def __init__(
        self,
        images: Tensor,
        rows: Indices,
        canvas: Tensor | None,
        index: Indices | None,
        *,
        purpose: str,
        seed: int,
        flip: bool,
    ) -> None:
        self._images, self.rows, self._index, self._flip = images, rows, index, flip
        size, channels = images.shape[2:]
        # Every run of `size` neighbouring pixels as a row of bytes. They overlap, and nothing is copied.
        self._runs = None if canvas is None else canvas.view(-1).unfold(0, size * channels, channels)

        def plan(epoch: int) -> tuple[NDArray[Any], ...]:
            return self._plan_epoch(np.random.default_rng(derive(purpose, seed, epoch)))

        # Two, because a batch may straddle two epochs.
        self._plan: Callable[[int], tuple[NDArray[Any], ...]] = lru_cache(maxsize=2)(plan)

    def _plan_epoch(self, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """All random choices of an epoch, for each draw: row, mirrored, first pixel of its window or −1, line length.

        Always in the same order, so that switching flips on moves neither the order nor the windows.
        """
        order = rng.permutation(self.rows)
        count = len(order)
        flipped = (rng.random(count) < 0.5) & self._flip
        windowed = (rng.random(count) < 0.5) & (self._index is not None)
        starts, widths = np.full(count, -1), np.zeros(count, np.int64)
        if self._index is not None:
            offset, height, width = self._index[order[windowed]].T
            size = self._images.shape[1]
            y, x = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
            starts[windowed], widths[windowed] = offset + y * width + x, width
        return order, flipped, starts, widths

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """Pictures uint8 (count, H, W, C), and which rows they are, int64 (count,)."""
        parts = []
        while count > 0:
            epoch, begin = divmod(position, len(self.rows))
            end = min(begin + count, len(self.rows))
            parts.append([choice[begin:end] for choice in self._plan(epoch)])
            position, count = position + end - begin, count - (end - begin)
        order, flipped, starts, widths = map(np.concatenate, zip(*parts, strict=True))

        # Chosen on the host, so that nothing waits for the device.
        device = self._images.device
        rows = _move(torch.from_numpy(order), device)
        pixels = self._images.index_select(0, rows)
        if self._runs is not None:
            windowed = np.flatnonzero(starts >= 0)
            height, _, channels = pixels.shape[1:]
            lines = starts[windowed, None] + np.arange(height) * widths[windowed, None]
            cut = self._runs.index_select(0, _move(torch.from_numpy(lines.ravel()), device))
            pixels.index_copy_(0, _move(torch.from_numpy(windowed), device), cut.view(-1, height, height, channels))
        at = _move(torch.from_numpy(np.flatnonzero(flipped)), device)
        pixels.index_copy_(0, at, pixels.index_select(0, at).flip(2))
        return pixels, rows


def _fits(stored: int, device: torch.device) -> bool:
    """Whether the pictures may live on the device: in a quarter of what is free, as the networks need the rest."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return stored <= free // 4


def _tensor(array: NDArray[np.uint8]) -> Tensor:
    """The mapped file as a tensor, without reading it. It stays read-only: writing to it is a segmentation fault."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it."""
    if tensor.device == device or (tensor.device.type == device.type and device.index is None):
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
