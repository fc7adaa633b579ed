"""The feature sets by name. A new one is a row here and a function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kit.errors import KitError, unknown
from kit.scoring.extract import DTYPES, FeatureSet
from kit.scoring.pretrained import MissingWeightsError

__all__ = ["DEFAULT", "DTYPES", "FEATURES", "FeatureSet", "MissingWeightsError", "Request", "build"]

DEFAULT = "timm"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for besides the name."""

    variant: str | None = None  # NAME of "timm:NAME"
    weights: Path | None = None
    device: torch.device
    dtype: str = "float32"


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


FEATURES: dict[str, Row] = {
    "timm": Row(summary="timm's pretrained inception_v3, or timm:NAME for another network", build=_timm, variants=True),
    "kaggle": Row(summary="the public scorer's own network, the Inception graph of 2015", build=_kaggle),
    "nasnet": Row(summary="timm's pretrained nasnetalarge, like the dog competition's private scorer", build=_nasnet),
    "random": Row(summary="an untrained network: needs no weights, and is uncalibrated", build=_random, weights=False),
}


def build(
    name: str = DEFAULT, *, weights: Path | None = None, device: torch.device | None = None, dtype: str = "float32"
) -> FeatureSet:
    """A feature set, ready to use.

    Args:
        name: a row of FEATURES; "timm:NAME" for any timm network.
        weights: a file with its weights; None: found on this machine or fetched.
        device: where to run; None: the GPU where there is one.
        dtype: a row of DTYPES. "bfloat16" is faster and gives another score, which is recorded as such.

    Raises:
        MissingWeightsError: its weights are not here and cannot be fetched.
        KitError: an unknown name or dtype, or weights that do not fit.
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
    return row.build(Request(variant=variant or None, weights=weights, device=device, dtype=dtype))
