"""Feature sets that are a timm network: pretrained, with weights from a file, or untrained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from kit.core.errors import KitError, unknown
from kit.core.files import read_json
from kit.scoring.extract import FeatureSet, Triple, feature_set
from kit.scoring.pretrained import pretrained_weights
from kit.scoring.weights import load_exactly, read_weights

RESIZE = "pillow-bicubic-antialiased"

DEFAULT = "inception_v3.tv_in1k"
"""Inception v3 as torchvision trained it on ImageNet. Not the 2015 graph that leaderboards use."""

NASNET = "nasnetalarge.tf_in1k"
NASNET_EPSILON = 0.25  # the dog competition's private board

RANDOM = "resnet18"
RANDOM_SIZE = 64
RANDOM_SEED = 0


@dataclass(frozen=True)
class Description:
    """The JSON that lies beside a file of weights and has its name."""

    model: str  # timm's name
    input_size: int
    mean: Triple
    std: Triple
    num_classes: int


def timm_features(
    name: str | None, *, weights: Path | None, device: torch.device, dtype: str, epsilon: float | None = None
) -> FeatureSet:
    """A timm network without its classifier, as timm evaluates it but for the centre crop.

    Args:
        name: timm's, with or without a tag. None: what the JSON beside the weights says, else `DEFAULT`.
        weights: a file; None: timm's pretrained ones. A JSON of the same name beside it (see `Description`) gives the
            network, its input size and its normalisation; without it timm's own description of the network counts.
        device: where to run.
        dtype: a row of DTYPES.
        epsilon: the official threshold, where there is one.

    Raises:
        KitError: an unknown network, weights that cannot be had, or do not fit it.
    """
    described = _description(weights)
    name = name or (described.model if described else DEFAULT)
    architecture = timm.models.split_model_name_tag(name)[0]
    if not timm.is_model(architecture):
        raise unknown("timm network", architecture, timm.list_models())
    if described and described.model != architecture:
        raise KitError(
            f"{weights}: the JSON beside it says it is a {described.model}, not a {architecture}",
            f"use --features timm:{described.model}, or give another file",
        )
    cfg = _timm_cfg(name)
    description = described or Description(
        model=architecture,
        input_size=cfg.input_size[-1],
        mean=_triple(cfg.mean),
        std=_triple(cfg.std),
        num_classes=cfg.num_classes,
    )
    network = untrained(lambda: timm.create_model(architecture, num_classes=description.num_classes))
    _load(network, cfg, weights)
    network.reset_classifier(0)  # timm: down to the pooled features
    return feature_set(
        network,
        name=f"timm:{architecture}",
        tag=(cfg.tag or None) if weights is None else None,
        input_size=description.input_size,
        mean=description.mean,
        std=description.std,
        resize=RESIZE,
        dtype=dtype,
        device=device,
        epsilon=epsilon,
    )


def random_features(*, device: torch.device, dtype: str) -> FeatureSet:
    """An untrained network, the same for everyone: it tells noise from pictures, blurred from sharp, and no more.

    A ResNet-18 at 64×64 with He initialisation, which keeps the activations' scale without any statistics, and with
    its residual branches switched on (timm starts them at 0). On dogs its distances grow with noise and with blur as
    those of a trained network do; an untrained Inception costs twenty times as much, and its 2048 dimensions need
    more pictures than a trial has.
    """
    network = untrained(lambda: timm.create_model(RANDOM, num_classes=0, zero_init_last=False))
    return feature_set(
        network,
        name="random",
        input_size=RANDOM_SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resize=RESIZE,
        dtype=dtype,
        device=device,
        trained=False,
    )


def untrained(create: Callable[[], Any], *, seed: int = RANDOM_SEED) -> Any:
    """A timm network with its initial weights, without touching the random state of whoever calls."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would seed GPUs too
        return create()


def _load(network: nn.Module, cfg: Any, weights: Path | None) -> None:
    """Puts weights into a network; what was read is let go of before the network is folded, which takes as much."""
    state, source = pretrained_weights(cfg) if weights is None else (read_weights(weights), str(weights))
    load_exactly(network, state, source=source, architecture=cfg.architecture)


def _timm_cfg(name: str) -> Any:
    """timm's own description of a network and of one of its sets of weights."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        raise unknown("timm network", name, timm.list_pretrained(f"{name.partition('.')[0]}.*")) from None


def _description(weights: Path | None) -> Description | None:
    path = weights.with_suffix(".json") if weights else None
    if path is None or not path.is_file():
        return None
    content = read_json(path)
    try:
        return Description(
            model=timm.models.split_model_name_tag(str(content["model"]))[0],
            input_size=int(content["input_size"]),
            mean=_triple(content["mean"]),
            std=_triple(content["std"]),
            num_classes=int(content["num_classes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise KitError(
            f"{path}: does not describe the weights beside it ({type(error).__name__}: {error})",
            "it needs model, input_size (pixels), mean and std (three numbers in 0..1 each) and num_classes",
        ) from error


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
