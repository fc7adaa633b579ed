"""The record of a score, `score.json`: the number, and everything that can move it. Reading one needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.data.dataset import Split

Kind = Literal["whole", "crops"]
"""Whole pictures squashed to the size, as the public scorer has them, or the crops that the generator learns."""

KINDS: tuple[Kind, ...] = ("whole", "crops")

_REAL: dict[Kind, str] = {"whole": "whole pictures", "crops": "crops"}

SCORER = "kaggle"
"""The feature set that the competitions' public scorer uses."""

Method = Literal["symmetric", "scorer"]

METHODS: dict[Method, str] = {
    "symmetric": "the root's trace from a symmetric eigenproblem",
    "scorer": "the root by sqrtm with the scorer's own repairs",
}
"""How the root of Σ₁Σ₂ is taken."""

Flag = Literal["rank-deficient", "uncalibrated"]

FLAGS: dict[Flag, str] = {
    "rank-deficient": "rank-deficient: too few different pictures for so many feature dimensions; the FID is rough",
    "uncalibrated": "uncalibrated: an untrained network's features tell pictures from noise, and little more",
}


@dataclass(frozen=True, kw_only=True)
class Against:
    """The real pictures of a score."""

    name: str  # the set's
    digest: str
    kind: Kind
    split: Split
    count: int


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a number lies with a given probability, and by which method that was found."""

    low: float
    high: float
    level: float  # 0 to 1
    method: str

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"


@dataclass(frozen=True, kw_only=True)
class Details:
    """What stands beside the FID. Intervals and extrapolation are None where there are too few pictures for them."""

    fid_interval: Interval | None  # of the FID that endlessly many pictures would have
    mifid_interval: Interval | None  # None also where the distance may lie on either side of ε
    fid_infinity: float | None  # the same by extrapolation
    kid: float
    kid_std: float
    kid_subset: int  # pictures of each side in a subset
    precision: float
    recall: float
    density: float
    coverage: float
    manifold_count: int  # pictures of each side that the last four were taken on, at most

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Details:
        """The details in a score's JSON.

        Raises:
            TypeError, KeyError: they are none.
        """
        intervals = {
            name: Interval(**content[name]) if content[name] else None for name in ("fid_interval", "mifid_interval")
        }
        return cls(**{**content, **intervals})

    def lines(self) -> list[str]:
        """The details for a person to read."""
        lines = []
        for name, interval in (("FID", self.fid_interval), ("MiFID", self.mifid_interval)):
            if interval:
                lines.append(f"{name} of endlessly many pictures: {interval} ({interval.level:.0%}, {interval.method})")
        if self.fid_infinity is not None:
            lines.append(f"the same by extrapolation (FID∞): {self.fid_infinity:.4f}")
        return [
            *lines,
            f"KID {self.kid:.6f} ± {self.kid_std:.6f} (subsets of {self.kid_subset:,})",
            f"precision {self.precision:.3f}, recall {self.recall:.3f}, density {self.density:.3f}, "
            f"coverage {self.coverage:.3f} (at most {self.manifold_count:,} a side)",
        ]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and what it is a score of. `comparable` says whether two of them may stand in one ranking."""

    fid: float
    distance: float  # memorization distance, generated to real, 0 to 1
    mifid: float | None  # None where there is no ε
    epsilon: float | None
    epsilon_origin: str
    features: dict[str, Any]  # `FeatureSet.record`
    reference: Against
    count: int  # generated pictures
    size: int  # their side, pixels
    flags: tuple[Flag, ...]
    seconds: float
    archive: str | None = None  # SHA-256 of the zip that was scored; None for a folder of pictures
    method: Method = "symmetric"
    details: Details | None = None

    @property
    def margin(self) -> float | None:
        """How far the memorization distance lies above ε, as a share of ε; below 0 it is penalised."""
        return self.distance / self.epsilon - 1 if self.epsilon else None

    def stale(self, images_sha256: str | None) -> bool:
        """Whether it is of other pictures than the zip with this digest holds; None: there is no zip."""
        return bool(self.archive and images_sha256 and self.archive != images_sha256)

    def to_json(self) -> dict[str, Any]:
        """The content of score.json."""
        return {**asdict(self), "flags": list(self.flags)}

    @classmethod
    def from_json(cls, content: Any, *, source: str = "score.json") -> Score:
        """The score that `to_json` wrote.

        Raises:
            KitError: it did not write this; `source` is named.
        """
        try:
            reference = Against(**content["reference"])
            details = Details.from_json(content["details"]) if content.get("details") else None
            flags = tuple(content["flags"])
            return cls(**{**content, "reference": reference, "flags": flags, "details": details})
        except (TypeError, KeyError, AttributeError) as error:
            raise KitError(f"{source}: no score of this version ({error})", "run `kit score` again") from error

    def lines(self) -> list[str]:
        """The score for a person to read."""
        against, features = self.reference, self.features
        margin = "" if self.margin is None else f", margin {self.margin:+.0%}"
        threshold = f"ε {self.epsilon:.4g}, {self.epsilon_origin}" if self.epsilon else f"ε {self.epsilon_origin}"
        tag = f".{features['tag']}" if features.get("tag") else ""
        return [
            f"MiFID {self.mifid:.4f}" if self.mifid is not None else "MiFID none",
            f"FID {self.fid:.4f}",
            f"memorization distance {self.distance:.4f} ({threshold}){margin}",
            f"{self.count:,} generated pictures against {against.count:,} {_REAL[against.kind]} "
            f"of {against.name} ({against.split})",
            *(self.details.lines() if self.details else []),
            *([] if self.method == "symmetric" else [METHODS[self.method]]),
            f"features {features['name']}{tag}, weights {features['weights'][:12]}, {features['input_size']}² by "
            f"{features['resize']}, {features['dtype']}",
            *(FLAGS[flag] for flag in self.flags),
            *([] if features["name"] == SCORER else [f"no leaderboard number: that takes --features {SCORER}"]),
        ]


def save(result: Score, path: Path) -> None:
    """Writes score.json."""
    write_json(path, result.to_json())


def load(path: Path) -> Score:
    """Reads score.json.

    Raises:
        KitError: it is missing, or no score.
    """
    return Score.from_json(read_json(path, remedy="run `kit score` first"), source=str(path))


def comparable(one: Score, other: Score) -> str | None:
    """Why two scores may not stand in one ranking; None where they may."""
    facts: list[tuple[str, Any, Any]] = [
        (key, one.features.get(key), other.features.get(key))
        for key in {**one.features, **other.features}
        if key != "tag"  # the same weights may come from a file
    ]
    facts = [(f"features: {key}" if key != "name" else "features", a, b) for key, a, b in facts]
    facts += [
        ("reference set", one.reference.digest, other.reference.digest),
        ("reference", one.reference.kind, other.reference.kind),
        ("part of the reference", one.reference.split, other.reference.split),
        ("real pictures", one.reference.count, other.reference.count),
        ("generated pictures", one.count, other.count),
        ("size", one.size, other.size),
        ("method", one.method, other.method),
        ("ε", _digits(one.epsilon), _digits(other.epsilon)),
    ]
    differences = [f"{what} ({_short(a)} and {_short(b)})" for what, a, b in facts if a != b]
    return f"they differ in {', '.join(differences)}" if differences else None


def _digits(value: float | None) -> str:
    """A calibrated ε is the same on another machine but for rounding."""
    return "none" if value is None else f"{value:.4g}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
