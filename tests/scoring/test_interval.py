"""What stands beside the FID, against definitions written out in loops and Gaussians whose distance is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from scoring_helpers import draw, small_features

from kit.core.errors import KitError
from kit.data.prepared_set import PreparedSet
from kit.scoring.compute_score import score_pictures
from kit.scoring.frechet import Gaussian, frechet_distance, gaussian
from kit.scoring.interval import GROUPS, fid_infinity, intervals, jackknife_fids, jackknife_groups
from kit.scoring.kid import kid
from kit.scoring.memorization import nearest_distances
from kit.scoring.prdc import prdc
from kit.scoring.score_record import Score

Features = np.ndarray


def cloud(count: int, dim: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> Features:
    return (np.random.default_rng(seed).normal(size=(count, dim)) * scale + shift).astype(np.float32)


# KID


def test_kid_is_the_unbiased_discrepancy_of_its_paper() -> None:
    x, y = cloud(12, 5, seed=0).astype(float), cloud(12, 5, seed=1, shift=0.5).astype(float)

    def k(a: Features, b: Features) -> float:
        return float((a @ b / 5 + 1) ** 3)

    pairs = [(i, j) for i in range(12) for j in range(12)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (12 * 11)
    between = sum(k(x[i], y[j]) for i, j in pairs) / 144
    found = kid(x, y, subset_size=12)
    assert found.mean == pytest.approx(within - 2 * between, rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-12)  # each subset is everything
    assert found.subset_size == 12


def test_kid_does_not_depend_on_how_many_pictures_there_are() -> None:
    real = cloud(3000, 8, seed=0)
    few = np.mean([kid(cloud(60, 8, seed=s), real, subset_size=60, subsets=20).mean for s in range(1, 16)])
    assert abs(few) < 0.015  # the same distribution
    apart = kid(cloud(3000, 8, seed=9, shift=0.3), real, subset_size=300, subsets=20)
    assert apart.mean > 3 * apart.std > 0
    with pytest.raises(ValueError, match="two rows"):
        kid(real[:1], real)


# Precision, recall, density, coverage


def by_hand(fake: Features, real: Features) -> tuple[float, float, float, float]:
    """The definitions, pair by pair."""

    def ball(rows: Features, k: int) -> list[float]:
        return [sorted(float(np.linalg.norm(a - b)) for b in rows)[k] for a in rows]

    def apart(f: Features, r: Features) -> float:
        return float(np.linalg.norm(f - r))

    real3, real5, fake3 = ball(real, 3), ball(real, 5), ball(fake, 3)
    precision = np.mean([any(apart(f, r) <= radius for r, radius in zip(real, real3, strict=True)) for f in fake])
    recall = np.mean([any(apart(f, r) <= radius for f, radius in zip(fake, fake3, strict=True)) for r in real])
    density = sum(apart(f, r) < radius for f in fake for r, radius in zip(real, real5, strict=True)) / (5 * len(fake))
    coverage = np.mean([any(apart(f, r) < radius for f in fake) for r, radius in zip(real, real5, strict=True)])
    return float(precision), float(recall), float(density), float(coverage)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.8, 1.0), (0.0, 0.3), (0.0, 3.0), (9.0, 1.0)])
def test_shares_are_as_defined(shift: float, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.scoring.prdc.CHUNK", 16)
    fake, real = cloud(45, 3, seed=1, shift=shift, scale=scale), cloud(60, 3, seed=2)
    found = prdc(fake, real)
    assert dataclasses.astuple(found) == pytest.approx(by_hand(fake.astype(float), real.astype(float)))


def test_too_few_for_balls() -> None:
    with pytest.raises(ValueError, match="six rows"):
        prdc(cloud(5, 3, seed=0), cloud(60, 3, seed=1))


# Intervals


DIM = 8


@pytest.fixture(scope="module")
def reference() -> Gaussian:
    mix = np.random.default_rng(7).normal(size=(DIM, DIM)) / 3
    return Gaussian(np.full(DIM, 0.3), mix @ mix.T + np.eye(DIM) * 0.5, 10**6)


@pytest.fixture(scope="module")
def truth(reference: Gaussian) -> float:
    """The distance from N(0, I) to the reference, by the formula."""
    root = scipy.linalg.sqrtm(reference.covariance).real
    return float(reference.mean @ reference.mean + DIM + np.trace(reference.covariance) - 2 * np.trace(root))


COUNT, TRIALS = 200, 100


def test_intervals_hold_the_true_distance_as_often_as_they_say(reference: Gaussian, truth: float) -> None:
    rng = np.random.default_rng(0)
    jackknife = bootstrap = 0
    centres, plain = [], []
    for _ in range(TRIALS):
        x = rng.normal(size=(COUNT, DIM))
        interval, _ = intervals(x, reference)
        assert interval is not None
        jackknife += interval.low <= truth <= interval.high
        centres.append((interval.low + interval.high) / 2)
        fitted = gaussian(x)
        plain.append(frechet_distance(fitted.mean, fitted.covariance, reference.mean, reference.covariance))
        again = []
        for _ in range(25):
            drawn = gaussian(x[rng.integers(0, COUNT, COUNT)])
            again.append(frechet_distance(drawn.mean, drawn.covariance, reference.mean, reference.covariance))
        bootstrap += np.percentile(again, 2.5) <= truth <= np.percentile(again, 97.5)
    assert 0.90 <= jackknife / TRIALS <= 0.99  # 95 % is promised; 2.2 % is the error of 100 trials
    assert bootstrap / TRIALS < 0.6  # what the plain bootstrap's upward bias does
    assert np.mean(plain) - truth > 4 * abs(np.mean(centres) - truth)


def test_the_extrapolation_takes_the_bias_away(reference: Gaussian, truth: float) -> None:
    rng = np.random.default_rng(1)
    samples = [rng.normal(size=(COUNT, DIM)) for _ in range(40)]
    plain = [
        frechet_distance(g.mean, g.covariance, reference.mean, reference.covariance) for g in map(gaussian, samples)
    ]
    endless = [fid_infinity(x, reference) for x in samples]
    assert np.mean(plain) - truth > 3 * abs(np.mean(endless) - truth)


def test_a_group_less_is_the_fid_of_the_rest(reference: Gaussian) -> None:
    x, groups = cloud(95, DIM, seed=3), jackknife_groups(95)
    assert sorted(np.concatenate(groups).tolist()) == list(range(95))
    _, parts = jackknife_fids(x, reference, groups)
    rest = [gaussian(np.delete(x, rows, axis=0)) for rows in groups]
    expected = [frechet_distance(r.mean, r.covariance, reference.mean, reference.covariance) for r in rest]
    assert parts == pytest.approx(expected, rel=1e-9)
    assert len(parts) == GROUPS


@pytest.mark.parametrize("count", [5, 19, 21])
def test_too_few_for_an_interval(count: int) -> None:
    few, real = cloud(count, 20, seed=0), gaussian(cloud(500, 20, seed=1))
    assert intervals(few, real) == (None, None)
    assert fid_infinity(few, real) is None


def test_mifid_has_an_interval_unless_the_distance_may_lie_on_either_side_of_the_threshold() -> None:
    generated, real = cloud(300, 6, seed=0, shift=1), cloud(400, 6, seed=1, shift=1.2)
    nearest, fitted = nearest_distances(generated, real), gaussian(real)
    distance = float(nearest.mean())
    fid, honest = intervals(generated, fitted, nearest=nearest, epsilon=distance / 2)
    _, thief = intervals(generated, fitted, nearest=nearest, epsilon=distance * 2)
    assert fid
    assert honest
    assert thief
    assert honest.low == pytest.approx(fid.low)
    assert thief.low == pytest.approx(fid.low / distance, rel=0.2)
    assert intervals(generated, fitted, nearest=nearest, epsilon=distance) == (fid, None)
    assert intervals(generated, fitted, nearest=nearest, epsilon=None) == (fid, None)


# In a score


def test_details_come_with_a_score_and_go_through_its_record(
    make_set: Callable[..., PreparedSet], make_zip: Callable[..., Path]
) -> None:
    prepared, archive = make_set(draw(60, seed=1), holdout=range(0, 60, 5)), make_zip(draw(60, seed=3))
    features = small_features()
    assert score_pictures(archive, prepared, features=features).details is None
    result = score_pictures(archive, prepared, features=features, detailed=True)
    assert result.details is not None
    assert result.details.kid_subset == 60
    assert result.details.fid_interval is not None
    assert result.details.fid_interval.low < result.details.fid_infinity * 1.5
    assert Score.from_json(json.loads(json.dumps(result.to_json()))) == result
    text = "\n".join(result.lines())
    for part in ("KID", "precision", "recall", "density", "coverage", "N → ∞", "jackknife", "margin"):
        assert part in text
    with pytest.raises(KitError, match="too few for precision"):
        score_pictures(archive, prepared, features=features, detailed=True, count=5)
