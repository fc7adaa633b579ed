"""Pictures → features: a network, and exactly what is done to a picture before it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kit.core.errors import KitError
from kit.core.machine import cores
from kit.generation.pictures import parallel_map
from kit.scoring.resize import RESIZES, Pixels
from kit.scoring.weights import weights_digest

Features = NDArray[np.float32]
Progress = Callable[[int, int], None]
Triple = tuple[float, float, float]

BATCH = 32
"""Pictures that go through the network at once. It changes the features by rounding only."""

CPU_BATCH = 16
"""The same on a CPU, whose caches hold little: Inception takes less time than by 32, and half the memory."""

ROWS = 1024
"""Features that there is room for at first where it is not known how many will come."""

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """A feature network and its preprocessing; made by `kit.scoring.features.build`."""

    name: str  # "timm:inception_v3"
    tag: str | None  # timm's name of its own pretrained weights ("tv_in1k"); None for weights from a file
    network: nn.Module  # (B, 3, S, S) → (B, dim)
    dim: int
    input_size: int  # S, pixels
    mean: Triple  # of pixels in 0..1
    std: Triple
    resize: str  # a row of RESIZES
    dtype: str  # a row of DTYPES
    weights_digest: str  # see `kit.scoring.weights.weights_digest`
    device: torch.device
    epsilon: float | None  # the official threshold on these features; None: to be calibrated
    trained: bool  # False: the score is uncalibrated

    @property
    def batch(self) -> int:
        """Pictures that go through the network at once."""
        return CPU_BATCH if self.device.type == "cpu" else BATCH

    def identity(self) -> dict[str, Any]:
        """All that decides a feature's value: equal identities give equal features, up to rounding."""
        return {
            "name": self.name,
            "weights": self.weights_digest,
            "input_size": self.input_size,
            "resize": self.resize,
            "mean": list(self.mean),
            "std": list(self.std),
            "dtype": self.dtype,
        }

    def record(self) -> dict[str, Any]:
        """What a score keeps of it: its identity, and where its weights came from."""
        return {**self.identity(), "tag": self.tag}

    def extract(self, pictures: Iterable[Pixels], *, total: int = 0, progress: Progress = no_progress) -> Features:
        """The features of pictures, in order.

        Args:
            pictures: uint8 (H, W, C) each, C is 1 or 3; grey goes to all three channels. An array (N, H, W, C) will do.
            total: how many there will be, for the progress and to make room; 0 where it is not known.
            progress: called with (pictures done, total) after each batch.

        Returns:
            float32 (N, dim).

        Raises:
            KitError: a feature is NaN or infinite.
        """
        prepare = partial(_prepare, resize=RESIZES[self.resize], side=self.input_size)
        prepared = parallel_map(prepare, pictures, workers=cores())
        # One array from the start: small ones that outlive each batch would lie scattered between its large ones, and
        # keep the memory of all of them.
        found, done = np.empty((total or ROWS, self.dim), np.float32), 0
        for batch in _batches(prepared, self.batch):
            features = self._forward(torch.from_numpy(np.stack(batch)))
            wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if len(wrong):
                raise KitError(
                    f"{self.name}: the features of picture {done + wrong[0] + 1} are not finite",
                    "the weights are damaged, or --dtype is too narrow for this network",
                )
            if done + len(batch) > len(found):
                found = _with_room(found, for_rows=done + len(batch))
            found[done : done + len(batch)] = features
            done += len(batch)
            progress(done, total)
        return found[:done]

    def seconds_per_picture(self, pictures: Pixels) -> float:
        """What a picture costs on this machine.

        Args:
            pictures: a batch to try it with, uint8 (N, H, W, C).
        """
        self.extract(pictures[:2])  # the first call also sets things up
        began = time.perf_counter()
        self.extract(pictures)
        return (time.perf_counter() - began) / len(pictures)

    def _forward(self, pixels: Tensor) -> Features:
        """Features (B, dim) of pixels (B, S, S, 3) in 0..255."""
        with torch.inference_mode(), _full_precision():
            # By whole rows of pixels: over three channels alone a CPU's vector units would stay empty.
            rows = pixels.to(self.device).flatten(2).float()
            rows = (rows - _row(self.mean, rows)).div_(_row(self.std, rows))
            x = rows.view(pixels.shape).permute(0, 3, 1, 2)
            x = x.to(DTYPES[self.dtype], memory_format=torch.channels_last)
            features: Features = self.network(x).float().cpu().numpy()
        return features


def feature_set(
    network: nn.Module,
    *,
    name: str,
    input_size: int,
    mean: Triple,
    std: Triple,
    resize: str,
    dtype: str,
    device: torch.device,
    tag: str | None = None,
    epsilon: float | None = None,
    trained: bool = True,
) -> FeatureSet:
    """Makes a network ready to score: digest taken, frozen, folded, moved, and tried once.

    Args:
        network: weights loaded, classifier taken off; it is changed in place. The rest: see `FeatureSet`.

    Raises:
        KitError: it takes no pictures of that size, or gives no vectors.
    """
    digest = weights_digest(network)
    network.eval().requires_grad_(False)
    _fold_batch_norm(network)
    network.to(device, DTYPES[dtype])
    network.to(memory_format=torch.channels_last)
    features = partial(
        FeatureSet,
        name=name,
        tag=tag,
        network=network,
        input_size=input_size,
        mean=mean,
        std=std,
        resize=resize,
        dtype=dtype,
        weights_digest=digest,
        device=device,
        epsilon=epsilon,
        trained=trained,
    )
    grey = torch.full((1, input_size, input_size, 3), 128, dtype=torch.uint8)
    try:
        shape = features(dim=0)._forward(grey).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise KitError(f"{name}: does not take pictures of {input_size}×{input_size} ({error})") from error
    if len(shape) != 2:
        raise KitError(f"{name}: gives features of shape {shape}, and a vector per picture is wanted")
    return features(dim=shape[1])


def _prepare(picture: Pixels, *, resize: Callable[[Pixels, int], NDArray[Any]], side: int) -> NDArray[Any]:
    return resize(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture, side)


def _with_room(rows: Features, *, for_rows: int) -> Features:
    """The same rows with room for so many, and for twice as many as there was."""
    wider = np.empty((max(2 * len(rows), for_rows), rows.shape[1]), rows.dtype)
    wider[: len(rows)] = rows
    return wider


def _row(values: Triple, like: Tensor) -> Tensor:
    """Values of the 0..1 scale on the scale of 0..255, again and again for a row of pixels, (3 · S,)."""
    return torch.tensor([255 * value for value in values], device=like.device).repeat(like.shape[-1] // 3)


def _full_precision() -> contextlib.AbstractContextManager[None]:
    """float32 convolutions in here are that; by default cuDNN rounds their inputs to TF32's ten bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def _fold_batch_norm(network: nn.Module) -> None:
    """Multiplies timm's batch norms into the convolutions before them: the same function in two thirds of the time."""
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
