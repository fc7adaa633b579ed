"""The Fréchet distance against SciPy's matrix root and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scoring_helpers import draw, small_features

from kit.data.prepared_set import PreparedSet
from kit.scoring.compute_score import score_pictures
from kit.scoring.frechet import CHUNK, Frechet, frechet, frechet_distance, gaussian, sqrtm_reference
from kit.scoring.score_record import comparable

Array = NDArray[np.float64]


def correlated(count: int, dim: int, *, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim)


def between(x: Array, y: Array) -> Frechet:
    one, other = gaussian(x), gaussian(y)
    return frechet(one.mean, one.covariance, other.mean, other.covariance)


def by_sqrtm(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * np.real(root)))


def by_nuclear_norm(x: Array, y: Array) -> float:
    """The distance from the samples themselves, for any rank.

    With centred X and Y the product of the covariances has the eigenvalues of (XYᵀ)(XYᵀ)ᵀ / (n−1)(m−1), so the trace
    of its root is the sum of the singular values of XYᵀ / √((n−1)(m−1)).
    """
    a, b = x - x.mean(0), y - y.mean(0)
    n, m = len(x) - 1, len(y) - 1
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(n * m)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() / n + (b**2).sum() / m - 2 * root)


@pytest.mark.parametrize("dim", [1, 7, 64])
def test_both_ways_equal_scipys_matrix_root_at_full_rank(dim: int) -> None:
    x, y = correlated(4 * dim + 3, dim, seed=1), correlated(5 * dim + 3, dim, seed=2)
    one = (x.mean(0), np.cov(x, rowvar=False).reshape(dim, dim))
    other = (y.mean(0), np.cov(y, rowvar=False).reshape(dim, dim))
    expected = pytest.approx(by_sqrtm(*one, *other), rel=1e-9)
    assert frechet(*one, *other) == Frechet(expected, rank_deficient=False)
    assert frechet_distance(*other, *one) == expected
    assert sqrtm_reference(*one, *other) == expected


@pytest.mark.parametrize(("count1", "count2"), [(10, 300), (300, 10), (2, 2), (40, 41)])
def test_fewer_pictures_than_dimensions(count1: int, count2: int) -> None:
    x, y = correlated(count1, 40, seed=3), correlated(count2, 40, seed=4)
    assert between(x, y) == Frechet(pytest.approx(by_nuclear_norm(x, y), rel=1e-7), rank_deficient=True)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_closed_form_of_commuting_singular_covariances(shift: float) -> None:
    basis = np.linalg.qr(correlated(30, 30, seed=5))[0]
    a, b = np.random.default_rng(6).uniform(0, 4, (2, 30))
    a[20:], b[:15] = 0, 0
    result = frechet(np.zeros(30), basis * a @ basis.T, np.full(30, shift), basis * b @ basis.T)
    expected = 30 * shift**2 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert result == Frechet(pytest.approx(expected, rel=1e-7), rank_deficient=True)


@pytest.mark.parametrize("count", [10, 200])
def test_identical_sets_are_at_zero(count: int) -> None:
    x = correlated(count, 40, seed=7)
    assert 0 <= between(x, x).distance < 1e-7 * np.trace(np.cov(x.T))


def test_a_dead_feature_is_no_lack_of_rank() -> None:
    x, y = correlated(90, 20, seed=8), correlated(90, 20, seed=9)
    x[:, 3] = 0
    x[:, 5], y[:, 5] = 1, 1
    assert between(x, y) == Frechet(pytest.approx(by_nuclear_norm(x, y), rel=1e-9), rank_deficient=False)


def test_all_zero_features() -> None:
    zero, y = np.zeros((30, 8)), correlated(30, 8, seed=10)
    expected = (y.mean(0) ** 2).sum() + np.trace(np.cov(y.T))
    assert between(zero, y) == Frechet(pytest.approx(expected, rel=1e-12), rank_deficient=True)
    assert between(zero, zero).distance == 0


@given(
    mu=arrays(np.float64, (2, 5), elements=st.floats(-10, 10)),
    spread=arrays(np.float64, (2, 5), elements=st.floats(0.01, 10)),
)
def test_independent_dimensions_add_up(mu: Array, spread: Array) -> None:
    expected = ((mu[0] - mu[1]) ** 2 + (spread[0] - spread[1]) ** 2).sum()
    distance = frechet_distance(mu[0], np.diag(spread[0] ** 2), mu[1], np.diag(spread[1] ** 2))
    assert distance == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("count", [2, CHUNK, 2 * CHUNK + 1])
def test_statistics_equal_numpys_on_float32_features(count: int) -> None:
    features = (correlated(count, 3, seed=11) + 100).astype(np.float32)
    fitted = gaussian(features)
    wide = features.astype(np.float64)
    assert fitted.count == count
    np.testing.assert_allclose(fitted.mean, wide.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, np.cov(wide, rowvar=False), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("features", [np.zeros((1, 4)), np.zeros(4)])
def test_no_statistics_of_less_than_two(features: Array) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        gaussian(features)


@pytest.mark.parametrize(
    ("mu2", "sigma2", "match"),
    [
        (np.zeros(2), np.eye(3), "mu2"),
        (np.zeros(3), np.eye(2), "sigma2"),
        (np.array([0, np.nan, 0]), np.eye(3), "mu2 holds NaN"),
        (np.zeros(3), np.diag([1, np.inf, 1]), "sigma2 holds NaN or infinity"),
    ],
)
def test_what_does_not_belong_together_is_refused(mu2: Array, sigma2: Array, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        frechet_distance(np.zeros(3), np.eye(3), mu2, sigma2)


# As the competition's scorer does it


def test_a_root_that_is_not_finite_is_taken_again_with_larger_diagonals(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correlated(400, 4, seed=0), correlated(400, 4, seed=1)
    given = [x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)]
    asked, root = [], scipy.linalg.sqrtm

    def fails_once(matrix: np.ndarray) -> np.ndarray:
        asked.append(matrix)
        return np.full_like(matrix, np.nan) if len(asked) == 1 else root(matrix)

    monkeypatch.setattr(scipy.linalg, "sqrtm", fails_once)
    found = sqrtm_reference(*given)
    wider = given[1] + 1e-6 * np.eye(4), given[3] + 1e-6 * np.eye(4)
    np.testing.assert_allclose(asked[1], wider[0] @ wider[1])
    apart = given[0] - given[2]
    traces = np.trace(given[1]) + np.trace(given[3])  # the sum keeps the covariances as they were
    assert found == pytest.approx(apart @ apart + traces - 2 * np.trace(root(wider[0] @ wider[1]).real), rel=1e-12)


def test_a_small_imaginary_part_is_dropped_and_a_large_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [np.zeros(2), np.eye(2), np.zeros(2), np.eye(2)]
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix: np.eye(2) * (1 + 0.9e-3j))
    assert sqrtm_reference(*given) == 0
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix: np.eye(2) * (1 + 1.1e-3j))
    with pytest.raises(ValueError, match="imaginary part"):
        sqrtm_reference(*given)
    with pytest.raises(ValueError, match="do not belong together"):
        sqrtm_reference(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


def test_a_score_says_which_way_it_went(make_set: Callable[..., PreparedSet], make_zip: Callable[..., Path]) -> None:
    prepared, archive = make_set(draw(60, seed=1)), make_zip(draw(40, seed=3))
    features = small_features(epsilon=0.1)
    ours, theirs = (score_pictures(archive, prepared, features=features, method=m) for m in ("symmetric", "sqrtm"))
    assert theirs.fid == pytest.approx(ours.fid, rel=1e-8)
    assert "sqrtm" in "\n".join(theirs.lines())
    assert "method (symmetric and sqrtm)" in str(comparable(ours, theirs))
    few = score_pictures(archive, prepared, features=small_features(dim=16, epsilon=0.1), method="sqrtm", count=9)
    assert few.flags == ("rank-deficient",)
