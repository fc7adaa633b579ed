"""Batches of a prepared set, drawn on the device that trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.prepared_set import PreparedSet, Split


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
        runs, windows = None, None
        if prepared.canvas is not None and prepared.canvas_index is not None:
            # Every run of `size` neighbouring pixels as a row of bytes. They overlap, and nothing is copied.
            run = self.size * self.channels
            runs = _tensor(prepared.canvas).to(store).view(-1).unfold(0, run, self.channels)
            windows = _Windows(prepared.canvas_index[prepared.pictures], self.size)
        self._images = _Shuffled(
            _tensor(prepared.images).to(store), rows, runs, windows, purpose="batches", seed=seed, flip=flip
        )
        self._inputs: _Shuffled | None = None
        if prepared.inputs is not None:
            every = np.arange(len(prepared.inputs), dtype=np.int64)
            inputs = _tensor(prepared.inputs).to(store)
            self._inputs = _Shuffled(inputs, every, None, None, purpose="inputs", seed=seed, flip=flip)

    def __len__(self) -> int:
        """Pictures in an epoch, without those to be translated."""
        return len(self._images)

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
        """The batch of pictures to be translated that follows after `position` of them.

        Args:
            position: inputs drawn before, over all epochs.
            count: pictures wanted.

        Returns:
            Pictures, float32 (count, C, H, W) in [−1, 1], in `channels_last` memory format.

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
        runs: every run of W neighbouring pixels of the canvas.
        windows: where in the canvas a row's windows may begin; None: there is no canvas.
        purpose: of the random numbers.
        seed: of the random numbers.
        flip: mirror half of the pictures.
    """

    def __init__(
        self,
        images: Tensor,
        rows: NDArray[np.int64],
        runs: Tensor | None,
        windows: _Windows | None,
        *,
        purpose: str,
        seed: int,
        flip: bool,
    ) -> None:
        self._images, self._runs, self._length = images, runs, len(rows)

        def plan(epoch: int) -> _Epoch:
            rng = np.random.default_rng(derive(purpose, seed, epoch))
            return _Epoch.draw(rows, windows, flip=flip, rng=rng, device=images.device)

        # Two, because a batch may straddle two epochs.
        self._plan: Callable[[int], _Epoch] = lru_cache(maxsize=2)(plan)

    def __len__(self) -> int:
        return self._length

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """Pictures uint8 (count, H, W, C), and which rows they are, int64 (count,)."""
        parts = []
        while count > 0:
            epoch, begin = divmod(position, self._length)
            end = min(begin + count, self._length)
            parts.append(self._slice(self._plan(epoch), begin, end))
            position, count = position + end - begin, count - (end - begin)
        if len(parts) == 1:
            return parts[0]
        pixels, rows = map(torch.cat, zip(*parts, strict=True))
        return pixels, rows

    def _slice(self, epoch: _Epoch, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """The draws from `begin` to `end` of an epoch."""
        rows = epoch.rows[begin:end]
        pixels = self._images.index_select(0, rows)
        if self._runs is not None:
            at, chosen = epoch.windows.between(begin, end)
            height, _, channels = pixels.shape[1:]
            lines = torch.arange(height, device=rows.device)
            starts = epoch.starts[chosen, None] + lines * epoch.widths[chosen, None]
            cut = self._runs.index_select(0, starts.view(-1))
            pixels.index_copy_(0, at, cut.view(-1, height, height, channels))
        at, _ = epoch.flips.between(begin, end)
        pixels.index_copy_(0, at, pixels.index_select(0, at).flip(2))
        return pixels, rows


@dataclass(frozen=True)
class _Windows:
    """Where windows of each row's source picture may begin."""

    index: NDArray[np.int64]  # (N, 3): first pixel in the canvas, height, width
    size: int

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First pixel of a uniform window for each row, and the length of its picture's lines."""
        offset, height, width = self.index[rows].T
        y = rng.integers(0, height - self.size + 1)
        x = rng.integers(0, width - self.size + 1)
        return offset + y * width + x, width.copy()


@dataclass(frozen=True)
class _Subset:
    """Some of an epoch's draws, ascending, known to the host too, so that choosing among them never waits."""

    host: NDArray[np.int64]
    device: Tensor

    @classmethod
    def of(cls, mask: NDArray[np.bool_], device: torch.device) -> _Subset:
        host = np.flatnonzero(mask).astype(np.int64)
        return cls(host, _move(torch.from_numpy(host), device))

    def between(self, begin: int, end: int) -> tuple[Tensor, slice]:
        """Those from `begin` to `end`, counted from `begin`, and where they stand in the subset."""
        first, last = np.searchsorted(self.host, (begin, end)).tolist()
        return self.device[first:last] - begin, slice(first, last)


@dataclass(frozen=True)
class _Epoch:
    """All random choices of one epoch of n draws, on the device that holds the pictures."""

    rows: Tensor  # int64 (n,), a permutation of the split
    flips: _Subset
    windows: _Subset
    starts: Tensor  # int64, one per window: its first pixel in the canvas
    widths: Tensor  # int64, one per window: pixels from one of its lines to the next

    @classmethod
    def draw(
        cls,
        rows: NDArray[np.int64],
        windows: _Windows | None,
        *,
        flip: bool,
        rng: np.random.Generator,
        device: torch.device,
    ) -> _Epoch:
        # Always all choices in the same order, so that switching flips on moves neither the order nor the windows.
        order = rng.permutation(rows)
        flipped = (rng.random(len(rows)) < 0.5) & flip
        windowed = (rng.random(len(rows)) < 0.5) & (windows is not None)
        starts = widths = np.empty(0, np.int64)
        if windows is not None:
            starts, widths = windows.draw(order[windowed], rng)
        return cls(
            rows=_move(torch.from_numpy(order), device),
            flips=_Subset.of(flipped, device),
            windows=_Subset.of(windowed, device),
            starts=_move(torch.from_numpy(starts), device),
            widths=_move(torch.from_numpy(widths), device),
        )


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
