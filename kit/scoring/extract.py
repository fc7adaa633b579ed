"""Pictures → features: a feature network with its preprocessing.

How a picture is resized to the network's input moves a score, so each filter has a name that is recorded.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kit.core.errors import KitError
from kit.core.machine import cores
from kit.core.progress import Progress, no_progress
from kit.core.threads import Trial, is_set_by_user, num_threads
from kit.generation.pictures import parallel_map
from kit.scoring.score_record import FeaturesRecord, Triple

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

Resize = Callable[[Pixels, int], NDArray[Any]]
"""(H, W, 3) uint8 and a side → (side, side, 3), uint8 or float32, in 0..255. The whole picture, without a crop."""

BATCH = 32
"""Pictures in a batch. It changes the features by rounding only."""

CPU_BATCH = 16
"""The same on a CPU: Inception is faster than with 32, and takes half the memory."""

TRIED_FROM = 64
"""With fewer batches it does not pay to try other numbers of threads."""

ROWS = 1024
"""Rows that are allocated at first where the number of pictures is not known."""

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pillow_bicubic(picture: Pixels, side: int) -> Pixels:
    """Pillow's bicubic filter: antialiased, and in fixed point, so the same on every machine."""
    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def tf1_bilinear(picture: Pixels, side: int) -> NDArray[np.float32]:
    """TensorFlow 1's `resize_bilinear` with align_corners=False, as it stands in the 2015 Inception graph.

    Output pixel i samples the input at i · (input / output), not at pixel centres: the picture moves up and left by up
    to half a pixel. It is not antialiased.
    """
    top, bottom, down = _taps(picture.shape[0], side)
    left, right, across = _taps(picture.shape[1], side)
    pixels = picture.astype(np.float32)
    columns = _mix(pixels[:, left], pixels[:, right], across[None, :, None])
    return _mix(columns[top], columns[bottom], down[:, None, None])


def _taps(length: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each output pixel its two neighbours in the input, and the weight of the second."""
    at = np.arange(side, dtype=np.float32) * np.float32(length / side)
    first = at.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), at - first.astype(np.float32)


def _mix(first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return first + (second - first) * weight


BICUBIC, TF1_BILINEAR = "pillow-bicubic-antialiased", "tf1-bilinear"
RESIZES: dict[str, Resize] = {BICUBIC: pillow_bicubic, TF1_BILINEAR: tf1_bilinear}


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """A feature network and its preprocessing; made by `kit.scoring.features.build`."""

    record: FeaturesRecord  # equal records give equal features, up to rounding
    network: nn.Module  # (B, 3, S, S) → (B, dim)
    dim: int
    device: torch.device
    epsilon: float | None = None  # the official threshold on these features; None: to be calibrated
    trained: bool = True  # False: the score is uncalibrated

    @property
    def name(self) -> str:
        """As in "timm:inception_v3"."""
        return self.record.name

    @property
    def batch(self) -> int:
        """Pictures in a batch."""
        return CPU_BATCH if self.device.type == "cpu" else BATCH

    def extract(self, pictures: Iterable[Pixels], *, total: int = 0, progress: Progress = no_progress) -> Features:
        """The features of pictures, in order.

        On a CPU the first batches show how many threads are fastest. Each picture's features are the same with any
        number, up to rounding; the same bits were seen for all networks that were tried.

        Args:
            pictures: uint8 (H, W, C) each, C is 1 or 3; grey is repeated in three channels. Or an array (N, H, W, C).
            total: number of pictures, for the progress and the allocation; 0 where it is not known.
            progress: called with (pictures done, total) after each batch.

        Returns:
            float32 (N, dim).

        Raises:
            KitError: a feature is NaN or infinite.
        """
        prepare = partial(_prepare, resize=RESIZES[self.record.resize], side=self.record.input_size)
        prepared = parallel_map(prepare, pictures, workers=cores())
        # One array from the start: small ones that outlive each batch would fragment the memory of the batches.
        found, done = np.empty((total or ROWS, self.dim), np.float32), 0
        trial = self._threads_trial(total)
        for batch in _batches(prepared, self.batch):
            features = self._timed(trial, torch.from_numpy(np.stack(batch)))
            wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if len(wrong):
                raise KitError(
                    f"{self.name}: the features of picture {done + wrong[0] + 1} are not finite",
                    "the weights are damaged, or --dtype is too narrow for this network",
                )
            if done + len(batch) > len(found):
                found = np.concatenate([found, np.empty((max(len(found), len(batch)), self.dim), np.float32)])
            found[done : done + len(batch)] = features
            done += len(batch)
            progress(done, total)
        return found[:done]

    def seconds_per_picture(self, pictures: Pixels) -> float:
        """Seconds for a picture on this machine, measured on a batch uint8 (N, H, W, C)."""
        self.extract(pictures[:2])  # warm-up
        began = time.perf_counter()
        self.extract(pictures)
        return (time.perf_counter() - began) / len(pictures)

    def _threads_trial(self, total: int) -> Trial:
        """How many threads are to be tried: one number alone where it is not the kit's to choose, or does not pay."""
        fixed = self.device.type != "cpu" or is_set_by_user() or total < TRIED_FROM * self.batch
        return Trial(torch.get_num_threads(), fixed=fixed)

    def _timed(self, trial: Trial, pixels: Tensor) -> Features:
        """`_forward` with the number of threads that is tried now, or was the fastest."""
        with num_threads(trial.number):
            if trial.is_over():
                return self._forward(pixels)
            began = time.perf_counter()
            features = self._forward(pixels)
            trial.measured(len(pixels) / max(time.perf_counter() - began, 1e-9))
        if trial.is_over() and trial.number < torch.get_num_threads():
            log.info("features with %s of %s threads: the fastest here and now", trial.number, torch.get_num_threads())
        return features

    def _forward(self, pixels: Tensor) -> Features:
        """Features (B, dim) of pixels (B, S, S, 3) in 0..255."""
        # float32 convolutions in float32: by default cuDNN uses TF32.
        full_precision = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.inference_mode(), full_precision:
            # By rows of pixels (3 · S values), which a CPU vectorizes better than by three channels.
            rows = pixels.to(self.device).flatten(2).float()
            rows = (rows - _row(self.record.mean, rows)).div_(_row(self.record.std, rows))
            x = rows.view(pixels.shape).permute(0, 3, 1, 2)
            x = x.to(DTYPES[self.record.dtype], memory_format=torch.channels_last)
            features: Features = self.network(x).float().cpu().numpy()
        return features


def feature_set(
    network: nn.Module,
    record: FeaturesRecord,
    *,
    device: torch.device,
    epsilon: float | None = None,
    trained: bool = True,
) -> FeatureSet:
    """Prepares a network for scoring: freezes and fuses it, moves it to the device, and tries it.

    Args:
        network: with its weights, without its classifier; changed in place.
        record: its preprocessing, and the digest of its weights.
        device: where to run.
        epsilon: see `FeatureSet`.
        trained: see `FeatureSet`.

    Raises:
        KitError: it does not take pictures of that size, or does not give vectors.
    """
    network.eval().requires_grad_(False)
    _fuse_batch_norm(network)
    network.to(device, DTYPES[record.dtype])
    network.to(memory_format=torch.channels_last)
    features = FeatureSet(record=record, network=network, dim=0, device=device, epsilon=epsilon, trained=trained)
    side = record.input_size
    try:
        shape = features._forward(torch.full((1, side, side, 3), 128, dtype=torch.uint8)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise KitError(f"{record.name}: does not take pictures of {side}×{side} ({error})") from error
    if len(shape) != 2:
        raise KitError(f"{record.name}: gives features of shape {shape}, not a vector per picture")
    return dataclasses.replace(features, dim=shape[1])


def _prepare(picture: Pixels, *, resize: Callable[[Pixels, int], NDArray[Any]], side: int) -> NDArray[Any]:
    return resize(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture, side)


def _row(values: Triple, like: Tensor) -> Tensor:
    """Values per channel in 0..1 → in 0..255, repeated for a row of pixels, (3 · S,)."""
    return torch.tensor([255 * value for value in values], device=like.device).repeat(like.shape[-1] // 3)


def _fuse_batch_norm(network: nn.Module) -> None:
    """Fuses timm's batch norms into the convolutions before them: the same function in two thirds of the time."""
    from timm.layers.conv_bn_act import ConvNormAct

    for block in network.modules():
        if isinstance(block, ConvNormAct) and isinstance(block.bn, nn.BatchNorm2d):
            block.conv = fuse_conv_bn_eval(block.conv, block.bn)
            rest = (block.bn.drop, block.bn.act)
            block.bn = nn.Sequential(*(part for part in rest if isinstance(part, nn.Module)))


def _batches(items: Iterable[NDArray[Any]], size: int) -> Iterator[list[NDArray[Any]]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
