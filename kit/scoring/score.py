"""A score: pictures against a prepared set on one feature set, with everything that can move the number beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kit.data.dataset import PreparedSet, Split
from kit.errors import KitError
from kit.files import read_json, write_json
from kit.generation.pictures import picture_names, read_pictures
from kit.scoring.cache import Cache
from kit.scoring.estimate import Estimate, arithmetic_seconds
from kit.scoring.extract import Features, FeatureSet, Progress, no_progress
from kit.scoring.frechet import frechet, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.mifid import mifid
from kit.scoring.reference import Kind, References
from kit.scoring.resize import Pixels

Flag = Literal["rank-deficient", "uncalibrated"]

FLAGS: dict[Flag, str] = {
    "rank-deficient": "rank-deficient: there are too few different pictures for so many feature dimensions, so the FID is rough",
    "uncalibrated": "uncalibrated: the features are an untrained network's, which tells pictures from noise and little more",
}

Announce = Callable[[Estimate], None]


def no_announcement(estimate: Estimate) -> None:
    """Tells nobody."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """The real pictures of a score."""

    name: str  # the set's
    digest: str
    kind: Kind
    split: Split
    count: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and what it is a score of. `comparable` says whether two of them may stand in one ranking."""

    fid: float
    distance: float  # memorization distance, generated to real, 0 to 1
    mifid: float | None  # None where there is no ε
    epsilon: float | None
    epsilon_origin: str
    features: dict[str, Any]  # `FeatureSet.identity`
    reference: Against
    count: int  # generated pictures
    size: int  # their side, pixels
    flags: tuple[Flag, ...]
    seconds: float

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
            return cls(**{**content, "reference": reference, "flags": tuple(content["flags"])})
        except (TypeError, KeyError) as error:
            raise KitError(f"{source}: no score of this version ({error})", "run `kit score` again") from error

    def lines(self) -> list[str]:
        """The score for a person to read."""
        against, features = self.reference, self.features
        threshold = f"ε {self.epsilon:.4g}, {self.epsilon_origin}" if self.epsilon else f"ε {self.epsilon_origin}"
        return [
            f"MiFID {self.mifid:.4f}" if self.mifid is not None else "MiFID none",
            f"FID {self.fid:.4f}",
            f"memorization distance {self.distance:.4f} ({threshold})",
            f"{self.count:,} generated pictures against {against.count:,} {against.kind} "
            f"of {against.name} ({against.split})",
            f"features {features['name']}, weights {features['weights'][:12]}, {features['input_size']}² by "
            f"{features['resize']}, {features['dtype']}",
            *(FLAGS[flag] for flag in self.flags),
        ]


def score(
    pictures: Path,
    prepared: PreparedSet,
    *,
    features: FeatureSet,
    reference: Kind = "whole",
    split: Split = "all",
    count: int | None = None,
    cache: Path | None = None,
    announce: Announce = no_announcement,
    progress: Progress = no_progress,
) -> Score:
    """Scores generated pictures against a prepared set.

    Args:
        pictures: a zip or a folder of them, of the set's size and number of channels.
        prepared: the set.
        features: see `kit.scoring.features.build`.
        reference: what of the set to score against.
        split: which side of its hold-out.
        count: at most so many of the pictures, the first by name.
        cache: folder for what was computed about the set, usually `default_cache(prepared)`; None keeps nothing.
        announce: called once, before the long work, with how long it will take.
        progress: called with (pictures done, pictures to do), whether generated or real.

    Raises:
        KitError: too few pictures on either side, one that cannot be read or is of another size or mode, features
            that are not finite, or zero throughout.
    """
    began = time.perf_counter()
    names = picture_names(pictures)[: None if count is None else max(0, count)]
    references = References(prepared, features, Cache(cache))
    rows = references.rows(reference, split)
    _require_two(len(names), f"{pictures}: only {len(names)} picture(s)", "two are the least, thousands are better")
    _require_two(len(rows), f"{prepared.path}: only {len(rows)} picture(s) in its {split} part", "use --split all")

    pending = references.pending(reference)
    todo = len(names) + sum(references.count(kind) for kind in pending)
    first = np.stack(list(_checked(pictures, prepared, limit=_TRIAL)))
    per_picture = features.seconds_per_picture(first)
    arithmetic = arithmetic_seconds(generated=len(names), real=len(rows), dim=features.dim)
    announce(
        Estimate(
            seconds=todo * per_picture + arithmetic,
            generated=len(names),
            real=todo - len(names),
            cached=len(rows) if reference not in pending else 0,
        )
    )

    done = 0

    def advance(step: int, _: int) -> None:
        progress(done + step, todo)

    # The generated ones first: what is wrong with them shows before the reference is worked through.
    generated = features.extract(_checked(pictures, prepared, limit=len(names)), progress=advance)
    done = len(names)
    real = references.gaussian(reference, split, progress=advance)
    real_features = references.chosen(reference, split)
    done += references.count(reference) if reference in pending else 0
    epsilon = references.epsilon(progress=advance)

    fitted = gaussian(generated)
    result = frechet(fitted.mean, fitted.covariance, real.mean, real.covariance)
    distance = _distance(generated, real_features, features.name)
    flags: list[Flag] = []
    if result.rank_deficient:
        flags.append("rank-deficient")
    if not features.trained:
        flags.append("uncalibrated")
    return Score(
        fid=result.distance,
        distance=distance,
        mifid=None if epsilon.value is None else mifid(result.distance, distance, epsilon.value),
        epsilon=epsilon.value,
        epsilon_origin=epsilon.origin,
        features=features.identity(),
        reference=Against(name=prepared.name, digest=prepared.digest, kind=reference, split=split, count=len(rows)),
        count=len(names),
        size=prepared.size,
        flags=tuple(flags),
        seconds=time.perf_counter() - began,
    )


def default_cache(prepared: PreparedSet) -> Path:
    """Where a set's reference features are kept: inside the set, so that they go when it goes."""
    return prepared.path / ".cache"


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
        (key, one.features.get(key), other.features.get(key)) for key in {**one.features, **other.features}
    ]
    facts = [(f"features: {key}" if key != "name" else "features", a, b) for key, a, b in facts]
    facts += [
        ("reference set", one.reference.digest, other.reference.digest),
        ("reference", one.reference.kind, other.reference.kind),
        ("part of the reference", one.reference.split, other.reference.split),
        ("real pictures", one.reference.count, other.reference.count),
        ("generated pictures", one.count, other.count),
        ("size", one.size, other.size),
        ("ε", one.epsilon, other.epsilon),
    ]
    differences = [f"{what} ({_short(a)} and {_short(b)})" for what, a, b in facts if a != b]
    return f"they differ in {', '.join(differences)}" if differences else None


_TRIAL = 32
"""Pictures to time before the estimate."""


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _checked(path: Path, prepared: PreparedSet, *, limit: int) -> Iterator[Pixels]:
    """The pictures, each of the set's size."""
    side = prepared.size
    for name, pixels in read_pictures(path, mode="RGB" if prepared.channels == 3 else "L", limit=limit, convert=False):
        if pixels.shape[:2] != (side, side):
            height, width = pixels.shape[:2]
            raise KitError(
                f"{path}: {name} is {width}×{height}, and the pictures of {prepared.path} are {side}×{side}",
                "score pictures of one size, against a set prepared with that --size",
            )
        yield pixels


def _require_two(count: int, problem: str, remedy: str) -> None:
    if count < 2:
        raise KitError(problem, remedy)


def _distance(generated: Features, real: Features, name: str) -> float:
    try:
        return memorization_distance(generated, real)
    except ValueError as error:
        raise KitError(f"{name}: no memorization distance ({error})") from error
