"""The feature set `own`: a small network that the kit trains on a prepared set and keeps with it.

Competitions such as Generative Dog Images forbid pretrained weights. A network that is trained inside the kernel,
on the classes of the set itself, breaks no rule, and it tells a better generator of a run from a worse one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kit.core.progress import Progress, no_progress
from kit.core.records import to_json
from kit.core.seeds import derive
from kit.data.batches import Batches
from kit.data.prepared_set import PreparedSet
from kit.scoring.extract import BICUBIC, FeatureSet, feature_set
from kit.scoring.reference import Cache
from kit.scoring.score_record import FeaturesRecord
from kit.scoring.weights import untrained, weights_digest
from kit.training.device import Device, choose
from kit.training.train_state import PictureEma

Task = Literal["classes", "rotation"]

TRAINED = 2048
"""A network that has seen fewer pictures counts as untrained: its scores are flagged as uncalibrated."""

ROTATIONS = 4
"""By 0, 90, 180 and 270 degrees."""


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """How the network is built and trained. It is part of the cache's key: a change trains a new network.

    A constant learning rate with an average of the weights allows training to stop at any time.
    """

    architecture: str = "resnet18"  # timm's
    channels: tuple[int, ...] = (32, 64, 128, 256)  # half the usual width; the last is the dimension of the features
    max_size: int = 64  # pixels; larger pictures are reduced to it
    min_size: int = 32  # smaller ones are enlarged to it, as the network downsamples five times
    pictures: int = 65_536  # seen in all: about 4 epochs of the dogs
    batch: int = 64
    lr: float = 1e-3  # of AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.1  # of the labels
    half_life: int = 6_000  # of the EMA of the weights, pictures
    ramp: float = 0.1  # half-life as a fraction of the pictures seen, while that is shorter
    seed: int = 0


CONFIG = OwnConfig()


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network."""

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
    config: OwnConfig = CONFIG,
    progress: Progress = no_progress,
) -> FeatureSet:
    """The set's own feature network, from the cache or trained now.

    A network that was trained to its end is always used. One that the time limit stopped is used unless this call
    allows more than twice its time: scores are comparable only where runs on a set share one network.

    Args:
        prepared: the set.
        device: where to train and to run.
        dtype: a row of DTYPES, of the features; training uses the device's own precision.
        seconds: limit of the training; None: no limit.
        cache: folder to keep it in; None keeps nothing.
        config: how it is trained.
        progress: called with (pictures seen, pictures at most).

    Raises:
        KitError: the set's training part is empty.
    """
    kept = Cache(cache)
    trained = _kept(kept, prepared, config, seconds)
    if trained is None:
        trained = train(prepared, device=device, seconds=seconds, config=config, progress=progress)
        entry = {**trained.state, "pictures": np.array(trained.pictures), "seconds": np.array(trained.seconds)}
        kept.put(_identity(prepared, config, full=trained.pictures >= config.pictures), entry)
    network = _network(config, outputs=_outputs(prepared))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in trained.state.items()})
    network.reset_classifier(0)  # timm: down to the pooled features
    record = FeaturesRecord(
        name="own",
        weights=weights_digest(network),
        input_size=_input_size(prepared.size, config),
        resize=BICUBIC,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dtype=dtype,
    )
    return feature_set(network, record, device=device, trained=trained.pictures >= TRAINED)


def train(
    prepared: PreparedSet,
    *,
    device: torch.device,
    seconds: float | None = None,
    config: OwnConfig = CONFIG,
    progress: Progress = no_progress,
) -> Trained:
    """Trains the network on the training part of a set.

    It learns the classes. Where the set has none, it learns by how many quarter turns a picture is rotated (Gidaris et
    al. 2018). Without `seconds`, a time limit, the result is a function of the set, the config and the machine. The
    global random state is left alone. `progress` is called with (pictures seen, pictures at most).
    """
    began = time.perf_counter()
    training_device = _device(device)
    outputs, task = _outputs(prepared), task_of(prepared)
    network = _network(config, outputs=outputs).to(device, memory_format=torch.channels_last).train()
    average = PictureEma(network, half_life=config.half_life, ramp=config.ramp, batch=config.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    batches = Batches(prepared, seed=derive(config.seed, "own"), device=device, flip=prepared.mirror)
    seen, longest = 0, 0.0
    while seen < config.pictures:
        step_began = time.perf_counter()
        if seconds is not None and step_began - began + longest > seconds:
            break
        x, y = batches.draw(seen, config.batch)
        if task == "rotation":
            x, y = rotated(x, np.random.default_rng(derive(config.seed, "rotations", seen)))
        with training_device.autocast():
            logits = network(_input(x, config))
        # Rows without a class are left out; a batch of such rows alone has loss 0, not 0 / 0.
        loss = F.cross_entropy(
            logits.float(), y, ignore_index=-1, label_smoothing=config.smoothing, reduction="sum"
        ) / (y >= 0).sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += config.batch
        average.update(network, pictures=seen)
        longest = max(longest, time.perf_counter() - step_began)
        progress(seen, config.pictures)
    state = {name: value.float().cpu().numpy() for name, value in average.module.state_dict().items()}
    return Trained(state, seen, time.perf_counter() - began)


def task_of(prepared: PreparedSet) -> Task:
    """The classes, where there are two or more and at least half of the training pictures have one."""
    labels = prepared.labels[prepared.rows("train")]
    named = labels[labels >= 0]
    return "classes" if len(np.unique(named)) >= 2 and 2 * len(named) >= len(labels) else "rotation"


def rotated(x: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Square pictures (B, C, S, S), each rotated by 0 to 3 quarter turns, and the number of turns, int64 (B,)."""
    turns = random.integers(0, ROTATIONS, len(x))
    turned = torch.stack([torch.rot90(picture, int(turn), (1, 2)) for picture, turn in zip(x, turns, strict=True)])
    return turned, torch.from_numpy(turns).to(x.device)


def _outputs(prepared: PreparedSet) -> int:
    return len(prepared.classes) if task_of(prepared) == "classes" else ROTATIONS


def _network(config: OwnConfig, *, outputs: int) -> Any:
    return untrained(
        lambda: timm.create_model(config.architecture, channels=config.channels, num_classes=outputs),
        seed=derive(config.seed, "own weights"),
    )


def _input_size(size: int, config: OwnConfig) -> int:
    return min(max(size, config.min_size), config.max_size)


def _input(x: Tensor, config: OwnConfig) -> Tensor:
    """Pictures in [−1, 1] with the network's size and three channels, as the feature set prepares them."""
    side = _input_size(x.shape[-1], config)
    if x.shape[-1] != side:
        x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _device(device: torch.device) -> Device:
    """The device with its own precision; float32 in place of float16, which would need loss scaling."""
    best = choose()
    usable = best.kind.type == device.type and best.precision != torch.float16
    return best if usable else Device(device, device.type, torch.float32)


def _identity(prepared: PreparedSet, config: OwnConfig, *, full: bool) -> dict[str, Any]:
    return {"what": "own", "set": prepared.digest, "config": to_json(config), "full": full}


def _kept(cache: Cache, prepared: PreparedSet, config: OwnConfig, seconds: float | None) -> Trained | None:
    full = cache.get(_identity(prepared, config, full=True))
    if full is not None:
        return _trained(full)
    short = cache.get(_identity(prepared, config, full=False))
    if short is None or seconds is None or seconds > 2 * float(short["seconds"]):
        return None
    return _trained(short)


def _trained(entry: Mapping[str, NDArray[Any]]) -> Trained:
    state = {name: value for name, value in entry.items() if name not in ("pictures", "seconds")}
    return Trained(state, int(entry["pictures"]), float(entry["seconds"]))
