"""The feature set `own`: a small network that the kit trains on a prepared set itself, and keeps with it.

Competitions such as Generative Dog Images allow no pretrained weights. A network that has learned the set's own
classes, inside the same kernel and from the same pictures, breaks no rule, and it is enough to tell a better generator
from a worse one of the same run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kit.core.seeds import derive
from kit.data.prepared_set import Batches, PreparedSet
from kit.scoring.cache import Cache
from kit.scoring.extract import FeatureSet, Progress, feature_set, no_progress
from kit.scoring.timm_features import RESIZE, untrained
from kit.training.device import Device, choose
from kit.training.ema import PictureEma

Task = Literal["classes", "rotation"]

LEAST = 2048
"""Pictures below which a network has hardly begun to learn: its scores are flagged as an untrained one's are."""

TURNS = 4
"""Rotations by 0, 90, 180 and 270 degrees."""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How the network is built and taught. It is part of the cache's key: a change here trains anew.

    A constant step size with an average of the weights needs no plan of its length, so time may end it anywhere.
    """

    architecture: str = "resnet18"  # timm's
    channels: tuple[int, ...] = (32, 64, 128, 256)  # half as wide as usual; the last is the features' dimension
    side: int = 64  # pixels; larger pictures are reduced to it
    least_side: int = 32  # smaller ones are enlarged to it: the network halves them five times
    pictures: int = 65_536  # seen in all: some 4 epochs of the dogs
    batch: int = 64
    lr: float = 1e-3  # AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.1  # of the labels
    half_life: int = 6_000  # of the weights' average, pictures
    ramp: float = 0.1  # the same as a share of the pictures seen so far, while that is shorter
    seed: int = 0


LESSONS = Lessons()


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network's state, and what it took."""

    state: Mapping[str, NDArray[Any]]  # state dict of the timm network, classifier included
    pictures: int
    seconds: float


def own_features(
    prepared: PreparedSet,
    *,
    device: torch.device,
    dtype: str = "float32",
    seconds: float | None = None,
    cache: Path | None = None,
    lessons: Lessons = LESSONS,
    progress: Progress = no_progress,
) -> FeatureSet:
    """The set's own feature network, from the cache or trained now.

    A network that was trained in full is always taken. One that time cut short is taken too, unless this call gives
    more than twice the time it had: runs on one set should share one network, as only then do their scores compare.

    Args:
        prepared: the set.
        device: where to train and to run.
        dtype: a row of DTYPES, of the features; training uses the device's own precision.
        seconds: at most so many for training, say 2 % of a budget; None: as long as the lessons take.
        cache: folder to keep it in; None keeps nothing.
        lessons: how it is taught.
        progress: called with (pictures seen, pictures at most).

    Raises:
        KitError: the set's training part is empty.
    """
    kept = Cache(cache)
    trained = _kept(kept, prepared, lessons, seconds)
    if trained is None:
        trained = train(prepared, device=device, seconds=seconds, lessons=lessons, progress=progress)
        entry = {**trained.state, "pictures": np.array(trained.pictures), "seconds": np.array(trained.seconds)}
        kept.put(_identity(prepared, lessons, full=trained.pictures >= lessons.pictures), entry)
    network = _network(lessons, outputs=_outputs(prepared))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in trained.state.items()})
    network.reset_classifier(0)  # timm: down to the pooled features
    return feature_set(
        network,
        name="own",
        input_size=_side(prepared.size, lessons),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resize=RESIZE,
        dtype=dtype,
        device=device,
        trained=trained.pictures >= LEAST,
    )


def train(
    prepared: PreparedSet,
    *,
    device: torch.device,
    seconds: float | None = None,
    lessons: Lessons = LESSONS,
    progress: Progress = no_progress,
) -> Trained:
    """Teaches the network the set's classes, on its training part.

    Where a set has no classes it learns to tell by how many quarter turns a picture was rotated (Gidaris et al. 2018),
    which takes knowing what things look like. Without `seconds` the result is a function of set, lessons and machine;
    nobody else's random state changes.

    Args:
        prepared: the set.
        device: where to train.
        seconds: at most so many; None: all of the lessons' pictures.
        lessons: see there.
        progress: called with (pictures seen, pictures at most).
    """
    began = time.perf_counter()
    where = _device(device)
    outputs, task = _outputs(prepared), task_of(prepared)
    network = _network(lessons, outputs=outputs).to(device, memory_format=torch.channels_last).train()
    average = PictureEma(network, half_life=lessons.half_life, ramp=lessons.ramp, batch=lessons.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lessons.lr, weight_decay=lessons.weight_decay, fused=True)
    batches = Batches(prepared, seed=derive(lessons.seed, "own"), device=device, flip=prepared.mirror)
    seen, longest = 0, 0.0
    while seen < lessons.pictures:
        step_began = time.perf_counter()
        if seconds is not None and step_began - began + longest > seconds:
            break
        x, y = batches.draw(seen, lessons.batch)
        if task == "rotation":
            x, y = rotated(x, np.random.default_rng(derive(lessons.seed, "turns", seen)))
        with where.autocast():
            logits = network(_input(x, lessons))
        # A row without a class teaches nothing; a batch of such rows alone has a loss of 0, not of 0 / 0.
        loss = F.cross_entropy(
            logits.float(), y, ignore_index=-1, label_smoothing=lessons.smoothing, reduction="sum"
        ) / (y >= 0).sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += lessons.batch
        average.update(network, pictures=seen)
        longest = max(longest, time.perf_counter() - step_began)
        progress(seen, lessons.pictures)
    state = {name: value.float().cpu().numpy() for name, value in average.module.state_dict().items()}
    return Trained(state, seen, time.perf_counter() - began)


def task_of(prepared: PreparedSet) -> Task:
    """What there is to learn: the classes where at least half of the training pictures have one of two or more."""
    labels = prepared.labels[prepared.rows("train")]
    named = labels[labels >= 0]
    return "classes" if len(np.unique(named)) >= 2 and 2 * len(named) >= len(labels) else "rotation"


def rotated(x: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Square pictures (B, C, S, S), each turned by 0 to 3 quarters, and by how many, int64 (B,)."""
    turns = random.integers(0, TURNS, len(x))
    turned = torch.stack([torch.rot90(picture, int(turn), (1, 2)) for picture, turn in zip(x, turns, strict=True)])
    return turned, torch.from_numpy(turns).to(x.device)


def _outputs(prepared: PreparedSet) -> int:
    return len(prepared.classes) if task_of(prepared) == "classes" else TURNS


def _network(lessons: Lessons, *, outputs: int) -> Any:
    return untrained(
        lambda: timm.create_model(lessons.architecture, channels=lessons.channels, num_classes=outputs),
        seed=derive(lessons.seed, "own weights"),
    )


def _side(size: int, lessons: Lessons) -> int:
    return min(max(size, lessons.least_side), lessons.side)


def _input(x: Tensor, lessons: Lessons) -> Tensor:
    """Pictures in [−1, 1] of the network's size and with three channels, as the finished feature set gets them."""
    side = _side(x.shape[-1], lessons)
    if x.shape[-1] != side:
        x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _device(device: torch.device) -> Device:
    """The device with its own precision, whichever of the machine's devices it is; fp16 would need a scaler."""
    best = choose()
    usable = best.kind.type == device.type and best.precision != torch.float16
    return best if usable else Device(device, device.type, torch.float32)


def _identity(prepared: PreparedSet, lessons: Lessons, *, full: bool) -> dict[str, Any]:
    return {
        "what": "own",
        "set": prepared.digest,
        "lessons": {**asdict(lessons), "channels": list(lessons.channels)},
        "full": full,
    }


def _kept(cache: Cache, prepared: PreparedSet, lessons: Lessons, seconds: float | None) -> Trained | None:
    full = cache.get(_identity(prepared, lessons, full=True))
    if full is not None:
        return _trained(full)
    short = cache.get(_identity(prepared, lessons, full=False))
    if short is None or seconds is None or seconds > 2 * float(short["seconds"]):
        return None
    return _trained(short)


def _trained(entry: Mapping[str, NDArray[Any]]) -> Trained:
    state = {name: value for name, value in entry.items() if name not in ("pictures", "seconds")}
    return Trained(state, int(entry["pictures"]), float(entry["seconds"]))
