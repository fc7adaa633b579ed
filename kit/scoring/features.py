"""The feature sets by name. A new one is a row here and a function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kit.core.errors import KitError, unknown
from kit.data.dataset import PreparedSet
from kit.scoring.cache import default_cache
from kit.scoring.extract import DTYPES, FeatureSet, Progress, no_progress
from kit.scoring.pretrained import MissingWeightsError

__all__ = ["DEFAULT", "DTYPES", "FEATURES", "FeatureSet", "MissingWeightsError", "Request", "build"]

DEFAULT = "timm"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for besides the name; see `build`."""

    variant: str | None = None  # NAME of "timm:NAME"
    weights: Path | None = None
    device: torch.device
    dtype: str = "float32"
    prepared: PreparedSet | None = None
    seconds: float | None = None
    progress: Progress = no_progress


@dataclass(frozen=True, kw_only=True)
class Row:
    """A feature set before it is built."""

    summary: str
    build: Callable[[Request], FeatureSet]
    variants: bool = False  # takes a ":NAME"
    weights: bool = True  # takes a --weights FILE


def _timm(request: Request) -> FeatureSet:
    from kit.scoring.timm_features import timm_features

    return timm_features(request.variant, weights=request.weights, device=request.device, dtype=request.dtype)


def _nasnet(request: Request) -> FeatureSet:
    from kit.scoring.timm_features import NASNET, NASNET_EPSILON, timm_features

    return timm_features(
        NASNET, weights=request.weights, device=request.device, dtype=request.dtype, epsilon=NASNET_EPSILON
    )


def _kaggle(request: Request) -> FeatureSet:
    from kit.scoring.inception2015 import kaggle_features

    return kaggle_features(weights=request.weights, device=request.device, dtype=request.dtype)


def _random(request: Request) -> FeatureSet:
    from kit.scoring.timm_features import random_features

    return random_features(device=request.device, dtype=request.dtype)


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


FEATURES: dict[str, Row] = {
    "timm": Row(summary="timm's pretrained inception_v3, or timm:NAME for another network", build=_timm, variants=True),
    "kaggle": Row(summary="the public scorer's own network, the Inception graph of 2015", build=_kaggle),
    "nasnet": Row(summary="timm's pretrained nasnetalarge, like the dog competition's private scorer", build=_nasnet),
    "own": Row(summary="a small network that the kit trains on the set itself, once", build=_own, weights=False),
    "random": Row(summary="an untrained network: needs no weights, and is uncalibrated", build=_random, weights=False),
}


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

    Inside a kernel, within 2 % of its time: `build("own", prepared=packed.load(path), seconds=0.02 * budget_s)`.

    Args:
        name: a row of FEATURES; "timm:NAME" for any timm network.
        weights: a file with its weights; None: found on this machine or fetched.
        device: where to run; None: the GPU where there is one.
        dtype: a row of DTYPES. "bfloat16" is faster and gives another score, which is recorded as such.
        prepared: the set that will be scored against; only "own" needs it, and keeps its network in the set's folder.
        seconds: for "own": how long training may take where no network is kept yet; None: as long as it needs.
        progress: for "own": called with (pictures trained on, pictures at most).

    Raises:
        MissingWeightsError: its weights are not here and cannot be fetched.
        KitError: an unknown name or dtype, weights that do not fit, or "own" without a set.
    """
    kind, colon, variant = name.partition(":")
    if kind not in FEATURES:
        raise unknown("feature set", kind, FEATURES)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    row = FEATURES[kind]
    if colon and not (row.variants and variant):
        raise KitError(f"{name!r} names no feature set", f"use {kind}:NAME" if row.variants else f"use {kind}")
    if weights and not row.weights:
        raise KitError(f"the feature set {kind} takes no weights, and {weights} was given", "leave --weights out")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return row.build(
        Request(
            variant=variant or None,
            weights=weights,
            device=device,
            dtype=dtype,
            prepared=prepared,
            seconds=seconds,
            progress=progress,
        )
    )
