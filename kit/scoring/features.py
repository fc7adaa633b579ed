"""The feature sets by name, and those that are a timm network. A new one is a row of FEATURES and a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kit.core.errors import KitError, unknown
from kit.core.files import read_json
from kit.core.progress import Progress, no_progress
from kit.core.records import from_json
from kit.data.prepared_set import PreparedSet
from kit.scoring.extract import BICUBIC, DTYPES, FeatureSet, feature_set
from kit.scoring.reference import default_cache
from kit.scoring.score_record import FeaturesRecord, Triple
from kit.scoring.weights import (
    MissingWeightsError,
    load_exactly,
    pretrained_weights,
    read_weights,
    untrained,
    weights_digest,
)

__all__ = ["DEFAULT", "DTYPES", "FEATURES", "FeatureSet", "MissingWeightsError", "Request", "build"]

DEFAULT = "timm"

TIMM = "inception_v3.tv_in1k"
"""Inception v3 as torchvision trained it on ImageNet. Not the 2015 graph that leaderboards use."""

NASNET = "nasnetalarge.tf_in1k"
NASNET_EPSILON = 0.25  # the dog competition's private board

RANDOM = "resnet18"
RANDOM_SIZE = 64


@dataclass(frozen=True)
class WeightsDescription:
    """What is needed of the JSON that lies beside a file of weights and has its name."""

    model: str  # timm's name
    input_size: int  # pixels
    mean: Triple  # in 0..1
    std: Triple
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `build` besides the name."""

    variant: str | None  # NAME of "timm:NAME"
    weights: Path | None
    device: torch.device
    dtype: str
    prepared: PreparedSet | None
    seconds: float | None
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of FEATURES."""

    build: Callable[[Request], FeatureSet]
    variants: bool = False  # takes a ":NAME"
    weights: bool = True  # takes a --weights FILE


def build(
    name: str = DEFAULT,
    *,
    weights: Path | None = None,
    device: torch.device | None = None,
    dtype: str = "float32",
    prepared: PreparedSet | None = None,
    seconds: float | None = None,
    progress: Progress = no_progress,
) -> FeatureSet:
    """A feature set, ready to use.

    Args:
        name: a row of FEATURES; "timm:NAME" for any timm network.
        weights: a file with its weights; None: found on this machine or downloaded. A JSON of the same name beside it
            (see `WeightsDescription`) gives a timm network, its input size and its normalization; without it timm's
            own configuration counts.
        device: where to run; None: the GPU where there is one.
        dtype: a row of DTYPES. Scores of different dtypes are not comparable.
        prepared: the reference set; only "own" needs it, and keeps its network in the set's folder.
        seconds: for "own": limit of the training where no network is kept yet; None: no limit.
        progress: for "own": called with (pictures trained on, pictures at most).

    Raises:
        MissingWeightsError: its weights are not here and cannot be downloaded.
        KitError: an unknown name or dtype, weights that do not fit, or "own" without a set.
    """
    kind, colon, variant = name.partition(":")
    if kind not in FEATURES:
        raise unknown("feature set", kind, FEATURES)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    row = FEATURES[kind]
    if colon and not (row.variants and variant):
        raise KitError(f"{name!r} is no feature set", f"use {kind}:NAME" if row.variants else f"use {kind}")
    if weights and not row.weights:
        raise KitError(f"the feature set {kind} takes no weights, and {weights} was given", "leave --weights out")
    return row.build(
        Request(
            variant=variant or None,
            weights=weights,
            device=device or torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            dtype=dtype,
            prepared=prepared,
            seconds=seconds,
            progress=progress,
        )
    )


def _timm(request: Request, *, name: str | None = None, epsilon: float | None = None) -> FeatureSet:
    """A timm network without its classifier, evaluated as in timm but without the centre crop."""
    import timm  # over half a second

    weights = request.weights
    described = _description(weights)
    name = name or request.variant or (described.model if described else TIMM)
    architecture = timm.models.split_model_name_tag(name)[0]
    if not timm.is_model(architecture):
        raise unknown("timm network", architecture, timm.list_models())
    if described and described.model != architecture:
        raise KitError(
            f"{weights}: the JSON beside it says it is a {described.model}, not a {architecture}",
            f"use --features timm:{described.model}, or give another file",
        )
    cfg = _timm_cfg(name)
    description = described or WeightsDescription(
        model=architecture,
        input_size=cfg.input_size[-1],
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        num_classes=cfg.num_classes,
    )
    network = untrained(lambda: timm.create_model(architecture, num_classes=description.num_classes))
    state, source = pretrained_weights(cfg) if weights is None else (read_weights(weights), str(weights))
    load_exactly(network, state, source=source, architecture=architecture)
    del state  # before the network is fused, which takes as much memory
    network.reset_classifier(0)  # timm: down to the pooled features
    record = FeaturesRecord(
        name=f"timm:{architecture}",
        weights=weights_digest(network),
        input_size=description.input_size,
        resize=BICUBIC,
        mean=description.mean,
        std=description.std,
        dtype=request.dtype,
        tag=(cfg.tag or None) if weights is None else None,
    )
    return feature_set(network, record, device=request.device, epsilon=epsilon)


def _timm_cfg(name: str) -> Any:
    """timm's own configuration of a network and one of its sets of weights."""
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        raise unknown("timm network", name, timm.list_pretrained(f"{name.partition('.')[0]}.*")) from None


def _description(weights: Path | None) -> WeightsDescription | None:
    path = weights.with_suffix(".json") if weights else None
    if path is None or not path.is_file():
        return None
    import timm

    fields = {field.name for field in dataclasses.fields(WeightsDescription)}
    remedy = "it needs model, input_size (pixels), mean and std (three numbers in 0..1 each) and num_classes"
    content = read_json(path, remedy=remedy)
    known = {key: value for key, value in content.items() if key in fields} if isinstance(content, dict) else content
    found = from_json(WeightsDescription, known, source=str(path), remedy=remedy)
    return dataclasses.replace(found, model=timm.models.split_model_name_tag(found.model)[0])


def _kaggle(request: Request) -> FeatureSet:
    from kit.scoring.inception2015 import kaggle_features

    return kaggle_features(weights=request.weights, device=request.device, dtype=request.dtype)


def _own(request: Request) -> FeatureSet:
    from kit.scoring.own import own_features

    if request.prepared is None:
        raise KitError("the feature set own is trained on a prepared set, and none is given", "name it with --data")
    return own_features(
        request.prepared,
        device=request.device,
        dtype=request.dtype,
        seconds=request.seconds,
        cache=default_cache(request.prepared),
        progress=request.progress,
    )


def _random(request: Request) -> FeatureSet:
    """An untrained network, always the same: it tells noise from pictures and blurred from sharp, and no more.

    A ResNet-18 at 64×64 with He initialization, which keeps the scale of activations, and with active residual branches
    (timm starts them at 0). On dogs its distances grow with noise and blur like those of a trained network.
    """
    import timm

    network = untrained(lambda: timm.create_model(RANDOM, num_classes=0, zero_init_last=False))
    record = FeaturesRecord(
        name="random",
        weights=weights_digest(network),
        input_size=RANDOM_SIZE,
        resize=BICUBIC,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dtype=request.dtype,
    )
    return feature_set(network, record, device=request.device, trained=False)


FEATURES: dict[str, Entry] = {
    # timm's pretrained Inception v3, or timm:NAME for another network
    "timm": Entry(build=_timm, variants=True),
    # the public scorer's own network, the Inception graph of 2015
    "kaggle": Entry(build=_kaggle),
    # timm's pretrained nasnetalarge, like the dog competition's private scorer
    "nasnet": Entry(build=partial(_timm, name=NASNET, epsilon=NASNET_EPSILON)),
    # a small network that the kit trains on the set, once
    "own": Entry(build=_own, weights=False),
    # an untrained network: needs no weights, its scores are uncalibrated
    "random": Entry(build=_random, weights=False),
}
