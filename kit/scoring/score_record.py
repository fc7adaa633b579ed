"""The record of a score, `score.json`, and the order of scores. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar, Generic, Literal, TypeVar

from kit.core.records import Record, from_json, to_json
from kit.data.prepared_set import Split

T = TypeVar("T")

Triple = tuple[float, float, float]

Kind = Literal["whole", "crops"]
"""Whole pictures squashed to the size, as the public scorer has them, or the crops that the generator is trained on."""

SCORER = "kaggle"
"""The feature set that the competitions' public scorer uses."""

Method = Literal["symmetric", "sqrtm"]

METHODS: dict[Method, str] = {
    "symmetric": "the root's trace from a symmetric eigenproblem",
    "sqrtm": "the root by scipy.linalg.sqrtm, with the scorer's own repairs",
}
"""How the root of Σ₁Σ₂ is computed."""

Flag = Literal["rank-deficient", "uncalibrated"]

FLAGS: dict[Flag, str] = {
    "rank-deficient": "rank-deficient: fewer pictures than feature dimensions, so the FID is rough; see the KID",
    "uncalibrated": "uncalibrated: the features of an untrained network tell pictures from noise, and little more",
}

TOO_NEAR = 1.2
"""A memorization distance below so many times ε is too near to the training set to be submitted."""

REMEDY = "run `kit score` again"


@dataclass(frozen=True, kw_only=True)
class FeaturesRecord:
    """The feature network of a score, and its preprocessing."""

    name: str  # "timm:inception_v3"
    weights: str  # digest, see `kit.scoring.weights.weights_digest`
    input_size: int  # pixels
    resize: str  # filter that resizes pictures to it
    mean: Triple  # of pixels in 0..1
    std: Triple
    dtype: str
    tag: str | None = None  # timm's name of its own pretrained weights ("tv_in1k"); None: from a file

    def __str__(self) -> str:
        return f"{self.name}.{self.tag}" if self.tag else self.name


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """The real pictures of a score."""

    name: str  # of the prepared set
    digest: str
    kind: Kind
    split: Split
    count: int


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float  # 0 to 1
    method: str

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"


@dataclass(frozen=True, kw_only=True)
class Details:
    """The metrics beside FID and MiFID. Intervals and FID∞ are None where there are too few pictures for them."""

    fid_interval: Interval | None  # of the FID for N → ∞
    mifid_interval: Interval | None  # None also where the distance may lie on either side of ε
    fid_infinity: float | None  # the FID for N → ∞ by extrapolation
    kid: float
    kid_std: float
    kid_subset: int  # pictures of each side in a subset
    precision: float
    recall: float
    density: float
    coverage: float
    prdc_count: int  # pictures of each side that the last four are computed on, at most

    def lines(self) -> list[str]:
        """The details for a person to read."""
        lines = [f"KID {self.kid:.6f} ± {self.kid_std:.6f} (subsets of {self.kid_subset:,})"]
        for name, interval in (("FID", self.fid_interval), ("MiFID", self.mifid_interval)):
            if interval:
                lines.append(f"{name} for N → ∞: {interval} ({interval.level:.0%}, {interval.method})")
        if self.fid_infinity is not None:
            lines.append(f"FID for N → ∞ by extrapolation: {self.fid_infinity:.4f}")
        return [
            *lines,
            f"precision {self.precision:.3f}, recall {self.recall:.3f}, density {self.density:.3f}, "
            f"coverage {self.coverage:.3f} (at most {self.prdc_count:,} of each side)",
        ]


@dataclass(frozen=True, kw_only=True)
class InputsScore:
    """The score of the untouched inputs of a translation: what its outputs have to beat."""

    count: int
    fid: float
    mifid: float | None  # None where there is no ε
    kid: float | None  # None without `Details`

    def __str__(self) -> str:
        numbers = [("KID", self.kid, 6), ("MiFID", self.mifid, 4), ("FID", self.fid, 4)]
        told = ", ".join(f"{name} {value:.{digits}f}" for name, value, digits in numbers if value is not None)
        return f"untouched inputs ({self.count:,}), to be beaten: {told}"


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """A score, and everything that can move it. `comparable` says whether two scores may be ranked together."""

    FORMAT: ClassVar[str] = "kit-score"
    VERSION: ClassVar[int] = 2

    fid: float
    distance: float  # memorization distance, generated to real, 0 to 1
    mifid: float | None  # None where there is no ε
    epsilon: float | None
    epsilon_origin: str
    features: FeaturesRecord
    reference: ReferenceRecord
    count: int  # generated pictures
    size: int  # their side, pixels
    flags: tuple[Flag, ...]
    seconds: float
    resized: str | None = None  # how the generated pictures were brought to `size`; None: they had it
    archive: str | None = None  # SHA-256 of the zip that was scored; None for a folder of pictures
    method: Method = "symmetric"
    details: Details | None = None
    inputs: InputsScore | None = None  # None: not a translation

    @property
    def margin(self) -> float | None:
        """How far the memorization distance lies above ε, as a fraction of ε; below 0 it is penalized."""
        return self.distance / self.epsilon - 1 if self.epsilon else None

    @property
    def too_near(self) -> bool:
        """Whether the memorization distance is below ε, or so little above it that it should not be risked."""
        return self.epsilon is not None and self.distance < TOO_NEAR * self.epsilon

    @property
    def rank_key(self) -> tuple[bool, float]:
        """What comparable scores are sorted by: those too near to the training set last, then MiFID or FID."""
        return self.too_near, self.fid if self.mifid is None else self.mifid

    def stale(self, archive: str | None) -> bool:
        """Whether it is the score of another zip than the one with this SHA-256."""
        return bool(self.archive and archive and self.archive != archive)

    def to_json(self) -> dict[str, Any]:
        """The score as part of another record."""
        return to_json(self)

    @classmethod
    def from_json(cls, content: Any, *, source: str = "score") -> Score:
        """The score that `to_json` returned; a `KitError` names `source` and the field that is wrong."""
        return from_json(cls, content, source=source, remedy=REMEDY)

    def lines(self) -> list[str]:
        """The score for a person to read."""
        against, features = self.reference, self.features
        margin = "" if self.margin is None else f", margin {self.margin:+.0%}"
        threshold = f"ε {self.epsilon:.4g}, {self.epsilon_origin}" if self.epsilon else f"ε {self.epsilon_origin}"
        real = "crops" if against.kind == "crops" else "whole pictures"
        numbers = [
            f"MiFID {self.mifid:.4f}" if self.mifid is not None else "MiFID none",
            f"FID {self.fid:.4f}",
        ]
        details = self.details.lines() if self.details else []
        if "rank-deficient" in self.flags and details:
            numbers.insert(0, details.pop(0))
        return [
            *numbers,
            f"memorization distance {self.distance:.4f} ({threshold}){margin}",
            f"{self.count:,} generated pictures against {against.count:,} {real} of {against.name} ({against.split})",
            *details,
            *([str(self.inputs)] if self.inputs else []),
            *([] if self.method == "symmetric" else [METHODS[self.method]]),
            f"features {features}, weights {features.weights[:12]}, {features.input_size}² by {features.resize}, "
            f"{features.dtype}",
            *([f"generated pictures {self.resized}"] if self.resized else []),
            *(FLAGS[flag] for flag in self.flags),
            *([] if features.name == SCORER else [f"no leaderboard number: that needs --features {SCORER}"]),
        ]


def comparable(one: Score, other: Score) -> str | None:
    """Why two scores may not be ranked together; None where they may."""
    ours, theirs = _what_decides(one), _what_decides(other)
    pairs = ((what, ours[what], theirs[what]) for what in ours)
    differences = [f"{what} ({_short(a)} and {_short(b)})" for what, a, b in pairs if a != b]
    return f"they differ in {', '.join(differences)}" if differences else None


def _what_decides(score: Score) -> dict[str, Any]:
    """Everything that can move a score."""
    features, reference = score.features, score.reference
    return {
        "features": features.name,
        "features: weights": features.weights,
        "features: input_size": features.input_size,
        "features: resize": features.resize,
        "features: mean": features.mean,
        "features: std": features.std,
        "features: dtype": features.dtype,
        "reference set": reference.digest,
        "reference": reference.kind,
        "part of the reference": reference.split,
        "real pictures": reference.count,
        "generated pictures": score.count,
        "size": score.size,
        "resize": score.resized,
        "method": score.method,
        # A calibrated ε differs between machines by rounding.
        "ε": "none" if score.epsilon is None else f"{score.epsilon:.4g}",
    }


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


@dataclass(frozen=True)
class Group(Generic[T]):
    """Things whose scores may be ranked together."""

    members: list[T]  # the best first
    score: Score  # of the best; what it is a score of holds for all of them
    letter: str  # "A" for the first group
    apart: str | None  # why it is not part of the first group; None for the first

    @property
    def by(self) -> str:
        """The number that ranks them."""
        return "FID" if self.score.mifid is None else "MiFID"


def groups(scored: Sequence[tuple[T, Score]]) -> list[Group[T]]:
    """Groups of comparable scores: the largest first; among groups of one size, that of the earliest score first."""
    found: list[list[tuple[T, Score]]] = []
    for pair in scored:
        home = next((group for group in found if comparable(group[0][1], pair[1]) is None), None)
        if home is None:
            found.append(home := [])
        home.append(pair)
    found.sort(key=len, reverse=True)
    ranked = [sorted(group, key=lambda pair: pair[1].rank_key) for group in found]
    return [
        Group(
            members=[thing for thing, _ in group],
            score=group[0][1],
            letter=ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1),
            apart=comparable(ranked[0][0][1], group[0][1]) if number else None,
        )
        for number, group in enumerate(ranked)
    ]
