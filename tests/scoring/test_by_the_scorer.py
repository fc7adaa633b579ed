"""The scorer's way to the letter: sqrtm, its repairs and its refusal; and where the kit's own way agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from scoring_helpers import draw, small_features

from kit.data.prepared_set import PreparedSet
from kit.scoring.compute_score import score_pictures
from kit.scoring.frechet import frechet_distance, sqrtm_reference
from kit.scoring.score_record import comparable


def gaussians(count: int, dim: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, dim)), rng.normal(size=(count, dim)) * 1.4 + 0.5
    return [x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)]


def test_at_full_rank_both_ways_agree() -> None:
    given = gaussians(400, 12)
    assert sqrtm_reference(*given) == pytest.approx(frechet_distance(*given), rel=1e-9)


def test_a_root_that_is_not_finite_is_taken_again_with_larger_diagonals(monkeypatch: pytest.MonkeyPatch) -> None:
    given = gaussians(400, 4)
    asked = []

    def fails_once(matrix: np.ndarray) -> np.ndarray:
        asked.append(matrix)
        return np.full_like(matrix, np.nan) if len(asked) == 1 else root(matrix)

    root = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", fails_once)
    found = sqrtm_reference(*given)
    wider = given[1] + 1e-6 * np.eye(4), given[3] + 1e-6 * np.eye(4)
    np.testing.assert_allclose(asked[1], wider[0] @ wider[1])
    apart = given[0] - given[2]
    traces = np.trace(given[1]) + np.trace(given[3])  # the sum keeps the covariances as they were
    assert found == pytest.approx(apart @ apart + traces - 2 * np.trace(root(wider[0] @ wider[1]).real), rel=1e-12)


@pytest.mark.parametrize(("imaginary", "fine"), [(0.9e-3, True), (1.1e-3, False)])
def test_a_small_imaginary_part_is_dropped_and_a_large_one_refused(
    monkeypatch: pytest.MonkeyPatch, imaginary: float, fine: bool
) -> None:
    given = [np.zeros(2), np.eye(2), np.zeros(2), np.eye(2)]
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix: np.eye(2) * (1 + 1j * imaginary))
    if fine:
        assert sqrtm_reference(*given) == 0
    else:
        with pytest.raises(ValueError, match="imaginary part"):
            sqrtm_reference(*given)


def test_shapes() -> None:
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
