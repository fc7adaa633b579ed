"""A recipe: every setting that decides what a model learns, with its type, range, unit and meaning in one place.

The same dataclass holds the `--set` flags, the record in `run.json` and the record in the checkpoint.
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
TaskName = Literal["generation", "translation"]
TranslatorName = Literal["resnet", "unet"]
InitName = Literal["normal", "xavier"]
SampleClasses = Literal["proportional", "balanced"]

LABELLED: frozenset[LossName] = frozenset(
    ("non-saturating", "least-squares", "relativistic-least-squares", "relativistic")
)
"""Losses with a target for D(real), which label smoothing can change; the others only push D(real) up."""


def _number(default: Any, about: str, *, unit: str = "", low: float = 0, high: float, own: bool = False) -> Any:
    """A numeric field; `own`: only some architectures have it."""
    meta = {"about": about, "unit": unit, "low": low, "high": high, "own": own, "switch": False}
    return field(default=default, metadata=meta)


def _switch(default: bool, about: str, *, own: bool = False) -> Any:
    """A boolean field."""
    return field(
        default=default, metadata={"about": about, "unit": "", "low": 0, "high": 1, "own": own, "switch": True}
    )


def _word(default: Any, about: str, choices: Any, *, several: bool = False, own: bool = False) -> Any:
    """A field with the values of a Literal; with `several` any of them, separated by commas."""
    meta = {"about": about, "unit": "", "choices": get_args(choices), "several": several, "own": own}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is built and trained. The defaults are DCGAN's; a row of the registry names what differs.

    Raises:
        KitError: two settings contradict each other.
    """

    model: str
    architecture: str = field(metadata={"about": "architecture of G and D"})
    task: TaskName = field(default="generation", metadata={"about": "pictures from noise, or from pictures"})
    source: str = ""  # text of the Python file that defines a custom model (kit.models.custom)

    # The networks
    conditional: bool = _switch(False, "G and D are conditioned on the class, and pictures can be drawn by class")
    latent: int = _number(100, "dimensions of the latent vector z", unit="dimensions", low=1, high=4096)
    width: int = _number(
        64, "channels of the largest feature map; smaller maps have multiples of it", unit="channels", low=1, high=1024
    )
    embedding: int = _number(
        64, "dimensions of the class embedding (if conditional)", unit="dimensions", low=1, high=4096, own=True
    )
    modulate: bool = _switch(False, "z also decides gain and bias of G's batch norms (self-modulation)", own=True)
    norm_g: NormName = _word("batch", "normalization of G's layers", NormName, own=True)
    norm_d: NormName = _word("batch", "normalization of D's layers", NormName, own=True)
    attention: int = _number(
        32,
        "self-attention on the largest inner feature map of at most this side (0: none)",
        unit="px",
        high=256,
        own=True,
    )

    # The networks of translations
    generator: TranslatorName = _word("resnet", "generator from pictures to pictures", TranslatorName, own=True)
    blocks: int = _number(9, "residual blocks of the resnet generator", unit="blocks", low=2, high=32, own=True)
    antialias: bool = _switch(True, "filters in G's down- and upsampling, against checkerboards", own=True)
    antialias_d: bool = _switch(False, "filters in D's downsampling, as CUT's authors have: slow", own=True)
    residual: bool = _switch(True, "G paints a change of its input, and not a picture from scratch", own=True)
    init: InitName = _word("normal", "initial weights: N(0, 0.02²), or Xavier's with gain 0.02", InitName, own=True)

    # The objective
    loss: LossName = _word("non-saturating", "adversarial loss of G and D", LossName)
    penalty: PenaltyName = _word("none", "gradient penalty on D", PenaltyName)
    penalty_weight: float = _number(10.0, "weight of the gradient penalty: λ, or γ of R1", high=1e6)
    real_label: float = _number(
        1.0, "target of D for real pictures; below 1: one-sided label smoothing", low=0.5, high=1
    )

    lambda_gan: float = _number(1.0, "weight of the adversarial loss of G", high=1e3, own=True)
    lambda_cycle: float = _number(10.0, "weight of the cycle consistency loss", high=1e3, own=True)
    lambda_identity: float = _number(
        0.5, "weight of the identity loss (cyclegan: × lambda_cycle; cut: of the identity PatchNCE)", high=1e3, own=True
    )
    lambda_nce: float = _number(1.0, "weight of the PatchNCE loss", high=1e3, own=True)
    nce_temperature: float = _number(0.07, "temperature of the PatchNCE loss", low=1e-3, high=10, own=True)
    nce_patches: int = _number(
        256, "patches that PatchNCE compares in each feature map", unit="patches", low=2, high=4096, own=True
    )
    flip_equivariance: bool = _switch(False, "PatchNCE also on flipped inputs, as in FastCUT", own=True)
    buffer_size: int = _number(
        50, "earlier outputs that D is also trained on (0: none)", unit="pictures", high=10_000, own=True
    )

    # Optimization
    batch: int = _number(64, "batch size: real pictures in a D step", unit="pictures", low=2, high=8192)
    d_steps: int = _number(1, "D steps per G step", unit="steps", low=1, high=100)
    optimizer: OptimizerName = _word("adam", "optimizer of G and D", OptimizerName)
    lr_g: float = _number(2e-4, "learning rate of G", high=1)
    lr_d: float = _number(2e-4, "learning rate of D", high=1)
    beta1: float = _number(0.5, "Adam's β1: decay of the gradient's mean (RMSprop: momentum)", high=0.9999)
    beta2: float = _number(0.999, "Adam's β2: decay of the gradient's square (RMSprop: α)", high=0.999999)
    max_grad_norm: float = _number(
        0.0, "max gradient norm, over all weights of a network (0: no clipping)", unit="L2 norm", high=1e6
    )
    weight_clip: float = _number(0.0, "weight clipping: D's weights stay within ± this (0: no clipping)", high=1e3)
    schedule: ScheduleName = _word("constant", "learning rate schedule over the planned pictures", ScheduleName)
    schedule_start: float = _number(0.0, "when the schedule begins", unit="× planned pictures", high=0.99)
    lr_end: float = _number(0.1, "final learning rate, unless the schedule is constant", unit="× the first", high=10)
    penalty_end: float = _number(
        1.0, "final weight of the gradient penalty, unless the schedule is constant", unit="× the first", high=10
    )

    # Input of D
    flip: bool = _switch(True, "horizontal flip of half of the real pictures")
    augment: str = _word("none", "DiffAugment of D's input, real and generated", AugmentName, several=True)
    instance_noise: float = _number(
        0.0, "Gaussian noise on D's input at the start, falling to 0 over the plan", unit="std, range −1 to 1", high=2
    )

    # Averaging and sampling
    ema_half_life: int = _number(
        100_000, "half-life of the exponential moving average (EMA) of G", unit="pictures", high=10**9
    )
    ema_ramp: float = _number(
        0.02, "limit on the EMA half-life early in training (0: no limit)", unit="× pictures seen", high=1
    )
    truncation: float = _number(0.0, "truncation trick: z within ± this when sampling (0: off)", unit="std", high=10)
    standing_batches: int = _number(
        4,
        "batches to recompute batch norm statistics from before sampling (0: keep the running ones)",
        unit="batches",
        high=1000,
    )
    sample_classes: SampleClasses = _word(
        "proportional",
        "classes of samples: as frequent as in the data, or equally frequent (if conditional)",
        SampleClasses,
    )

    def __post_init__(self) -> None:
        if self.real_label < 1 and self.loss not in LABELLED:
            raise KitError(
                f"real_label={self.real_label:g}: the {self.loss} loss has no targets to smooth",
                f"leave it at 1, or use one of the losses {', '.join(sorted(LABELLED))}",
            )

        if self.modulate and self.norm_g != "batch":
            raise KitError(f"norm_g={self.norm_g}: z modulates batch norm alone", "add --set modulate=no")

        if self.task == "translation" and self.loss.startswith("relativistic"):
            raise KitError(
                f"loss={self.loss}: a translation has no pairs of real and generated pictures",
                "use one of the other losses, for example least-squares",
            )

    @property
    def pictures_per_iteration(self) -> int:
        """Real pictures that D sees for one step of G."""
        return self.batch * self.d_steps

    @property
    def augmentations(self) -> tuple[AugmentName, ...]:
        """The values in `augment`."""
        return tuple(word for word in get_args(AugmentName) if word in self.augment.split(","))

    def override(self, settings: list[str], *, among: Collection[str] | None = None) -> Recipe:
        """The same recipe with `KEY=VALUE` settings applied.

        Args:
            settings: as typed after `--set`; the last one for a key counts.
            among: keys that may be set (see `ModelEntry.settings`); None: all.

        Raises:
            KitError: an unknown key or value (with the closest match), a value of another type, or one out of range.
        """
        changes: dict[str, Any] = dict(_parse(text, among) for text in settings)
        return dataclasses.replace(self, **changes)


def settings() -> dict[str, dataclasses.Field[Any]]:
    """The fields that `--set` can change, by name."""
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
