"""A recipe: every number that decides what a model learns, typed, bounded and explained in one place.

The same dataclass is the `--set` flags, the record in `run.json` and the record in the checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kit.core.errors import KitError, unknown

LossName = Literal[
    "non-saturating", "least-squares", "wasserstein", "hinge", "relativistic-least-squares", "relativistic"
]
PenaltyName = Literal["none", "gradient", "r1", "r1+r2"]
OptimizerName = Literal["adam", "rmsprop"]
ScheduleName = Literal["constant", "linear", "cosine"]
NormName = Literal["batch", "layer", "spectral", "none"]
AugmentName = Literal["none", "color", "translation", "cutout"]
SampleClasses = Literal["proportional", "balanced"]

LABELLED: frozenset[LossName] = frozenset(
    ("non-saturating", "least-squares", "relativistic-least-squares", "relativistic")
)
"""Losses that pull D(real) towards a label, which can be smoothed; the others only push it up."""


def _number(default: Any, about: str, *, unit: str = "", low: float = 0, high: float, own: bool = False) -> Any:
    """A field with its meaning, unit and range beside it; `own`: only some networks have it."""
    meta = {"about": about, "unit": unit, "low": low, "high": high, "own": own, "switch": False}
    return field(default=default, metadata=meta)


def _switch(default: bool, about: str) -> Any:
    """A field that is on or off."""
    return field(
        default=default, metadata={"about": about, "unit": "", "low": 0, "high": 1, "own": False, "switch": True}
    )


def _word(default: Any, about: str, choices: Any, *, several: bool = False, own: bool = False) -> Any:
    """A field that takes one of the words of a Literal, or with `several` any of them with commas between."""
    meta = {"about": about, "unit": "", "choices": get_args(choices), "several": several, "own": own}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is built and trained. Defaults are DCGAN's; a row of the zoo names what it does differently.

    Raises:
        KitError: two settings that contradict each other.
    """

    model: str
    networks: str = field(metadata={"about": "pair of networks"})
    source: str = ""  # text of the file that a model from outside the package was read from (kit.models.custom)

    # The networks
    conditional: bool = _switch(False, "networks are told the class, and pictures can be asked for by class")
    latent: int = _number(100, "length of z", unit="numbers", low=1, high=4096)
    width: int = _number(64, "channels of the largest map; deeper layers have multiples of it", low=1, high=1024)
    embedding: int = _number(
        64, "length of the vector that stands for a class (if conditional)", unit="numbers", low=1, high=4096, own=True
    )
    norm_g: NormName = _word("batch", "what keeps G's layers in scale", NormName, own=True)
    norm_d: NormName = _word("batch", "what keeps D's layers in scale", NormName, own=True)
    attention: int = _number(
        32, "self-attention on the largest inner map of at most this side (0: none)", unit="px", high=256, own=True
    )

    # The objective
    loss: LossName = _word("non-saturating", "objective of both players", LossName)
    penalty: PenaltyName = _word("none", "what D pays for steep gradients", PenaltyName)
    penalty_weight: float = _number(10.0, "weight of the penalty: λ, or γ of R1", high=1e6)
    real_label: float = _number(
        1.0, "what D should say to real pictures; below 1 is one-sided label smoothing", low=0.5, high=1
    )

    # The steps
    batch: int = _number(64, "real pictures in a step of D", unit="pictures", low=2, high=8192)
    critic_steps: int = _number(1, "steps of D before each step of G", unit="steps", low=1, high=100)
    optimizer: OptimizerName = _word("adam", "how gradients become steps", OptimizerName)
    lr_g: float = _number(2e-4, "step size for G", high=1)
    lr_d: float = _number(2e-4, "step size for D", high=1)
    beta1: float = _number(0.5, "decay of the gradient's mean (RMSprop: momentum)", high=0.9999)
    beta2: float = _number(0.999, "decay of the gradient's square", high=0.999999)
    grad_clip: float = _number(0.0, "longest gradient of a step, over all weights (0: any)", unit="norm", high=1e6)
    weight_clip: float = _number(0.0, "D's weights are kept within ± this (0: free)", high=1e3)
    schedule: ScheduleName = _word("constant", "way from the first to the last step size over the plan", ScheduleName)
    lr_end: float = _number(
        0.1, "step sizes at the plan's end, unless the schedule is constant", unit="× the first", high=10
    )
    penalty_end: float = _number(
        1.0, "penalty's weight at the plan's end, unless the schedule is constant", unit="× the first", high=10
    )

    # What D sees
    flip: bool = _switch(True, "mirror half of the real pictures")
    augment: str = _word("none", "DiffAugment on all that D sees, in both steps", AugmentName, several=True)
    instance_noise: float = _number(
        0.0, "noise on all that D sees at the start, fading to 0 over the plan", unit="std, of −1 to 1", high=2
    )

    # What is kept and sampled
    ema_half_life: int = _number(5_000, "half-life of G's average", unit="pictures", high=10**9)
    ema_ramp: float = _number(
        0.05, "half-life as a share of the pictures seen so far, while that is shorter (0: off)", high=1
    )
    truncation: float = _number(0.0, "samples come from latents within ± this (0: all)", unit="std", high=10)
    standing_batches: int = _number(
        0, "batches that batch norm's statistics are taken from before sampling (0: training's own)", high=1000
    )
    sample_classes: SampleClasses = _word(
        "proportional", "classes of samples: as often as in the set, or each alike (if conditional)", SampleClasses
    )

    def __post_init__(self) -> None:
        if self.real_label < 1 and self.loss not in LABELLED:
            raise KitError(
                f"real_label={self.real_label:g}: the {self.loss} loss has no labels to smooth",
                f"leave it at 1, or take one of the losses {', '.join(sorted(LABELLED))}",
            )

    @property
    def pictures_per_iteration(self) -> int:
        """Real pictures that D sees for one step of G."""
        return self.batch * self.critic_steps

    @property
    def augmentations(self) -> tuple[AugmentName, ...]:
        """The words of `augment`."""
        return tuple(word for word in get_args(AugmentName) if word in self.augment.split(","))

    def override(self, settings: list[str], *, among: Collection[str] | None = None) -> Recipe:
        """The same recipe with `KEY=VALUE` settings applied.

        Args:
            settings: as typed after `--set`; of two for one key the last one holds.
            among: keys that may be set (see `zoo.Row.settings`); None: all.

        Raises:
            KitError: an unknown key or word (with the close match), a value of another type, or one out of range.
        """
        changes: dict[str, Any] = dict(_parse(text, among) for text in settings)
        return dataclasses.replace(self, **changes)


def settings() -> dict[str, dataclasses.Field[Any]]:
    """What `--set` may change, by name."""
    return {f.name: f for f in dataclasses.fields(Recipe) if "own" in f.metadata}


def _parse(text: str, among: Collection[str] | None) -> tuple[str, bool | int | float | str]:
    key, equals, value = text.partition("=")
    known = {name: field for name, field in settings().items() if among is None or name in among}
    if not equals:
        raise KitError(f"--set {text}: no value", f"write --set {key}=VALUE")
    if key not in known:
        raise unknown("setting", key, known)
    meta, default = known[key].metadata, known[key].default
    if "choices" in meta:
        return key, _chosen(key, value, meta["choices"], several=meta["several"])
    parsed = _typed(key, value, type(default))
    if not meta["low"] <= parsed <= meta["high"]:
        raise KitError(f"--set {text}: out of range", f"{key} goes from {meta['low']:g} to {meta['high']:g}")
    return key, parsed


def _chosen(key: str, value: str, choices: tuple[str, ...], *, several: bool) -> str:
    words = value.split(",") if several else [value]
    for word in words:
        if word not in choices:
            raise unknown(key, word, choices)
    return ",".join(dict.fromkeys(words))  # a word said twice counts once


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
