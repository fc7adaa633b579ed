"""A recipe: every number that decides what a model learns, typed, bounded and explained in one place.

The same dataclass is the `--set` flags, the record in `run.json` and the record in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from kit.errors import KitError, unknown


def _setting(default: Any, about: str, *, unit: str = "", low: float = -math.inf, high: float = math.inf) -> Any:
    """A field with its meaning, unit and range beside it."""
    return field(default=default, metadata={"about": about, "unit": unit, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is built and trained. Defaults are DCGAN's; a row of the zoo names what it does differently."""

    model: str
    networks: str = field(metadata={"about": "pair of networks"})
    loss: str = field(metadata={"about": "objective of both players"})

    latent: int = _setting(100, "length of z", unit="numbers", low=1, high=4096)
    width: int = _setting(64, "channels of the widest map; layers below have multiples of it", low=1, high=1024)
    batch: int = _setting(64, "real pictures in a step", unit="pictures", low=2, high=8192)
    lr_g: float = _setting(2e-4, "Adam's step size for G", low=0, high=1)
    lr_d: float = _setting(2e-4, "Adam's step size for D", low=0, high=1)
    beta1: float = _setting(0.5, "Adam's decay of the gradient's mean", low=0, high=0.9999)
    beta2: float = _setting(0.999, "Adam's decay of the gradient's square", low=0, high=0.999999)
    ema_half_life: int = _setting(5_000, "half-life of G's average", unit="pictures", low=0, high=10**9)
    ema_ramp: float = _setting(
        0.05, "half-life as a share of the pictures seen so far, while that is shorter (0: off)", low=0, high=1
    )
    flip: bool = _setting(True, "mirror half of the real pictures")

    def override(self, settings: list[str]) -> Recipe:
        """The same recipe with `KEY=VALUE` settings applied.

        Raises:
            KitError: an unknown key (with the close match), a value of another type, or one out of range.
        """
        changes: dict[str, Any] = dict(_parse(text) for text in settings)
        return dataclasses.replace(self, **changes)


def settings() -> dict[str, dataclasses.Field[Any]]:
    """What `--set` may change, by name: the fields that have a range."""
    return {f.name: f for f in dataclasses.fields(Recipe) if "low" in f.metadata}


def _parse(text: str) -> tuple[str, bool | int | float]:
    key, equals, value = text.partition("=")
    known = settings()
    if not equals:
        raise KitError(f"--set {text}: no value", f"write --set {key}=VALUE")
    if key not in known:
        raise unknown("setting", key, known)
    meta, default = known[key].metadata, known[key].default
    parsed = _typed(key, value, type(default))
    if not meta["low"] <= parsed <= meta["high"]:
        raise KitError(f"--set {text}: out of range", f"{key} goes from {meta['low']:g} to {meta['high']:g}")
    return key, parsed


def _typed(key: str, value: str, kind: type) -> bool | int | float:
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() not in words:
            raise KitError(f"--set {key}={value}: neither true nor false")
        return words[value.lower()]
    try:
        number = float(value)
    except ValueError:
        raise KitError(f"--set {key}={value}: not a number") from None
    if kind is int:
        if not number.is_integer():
            raise KitError(f"--set {key}={value}: not a whole number")
        return int(number)
    return number
