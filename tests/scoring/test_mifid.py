"""The scorer's last line: the threshold and what is added to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kit.competition import COMPETITIONS
from kit.scoring.frechet import frechet_distance, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.mifid import mifid


@pytest.mark.parametrize("epsilon", sorted({record.epsilon for record in COMPETITIONS.values()} | {0.25, 0.0113}))
@pytest.mark.parametrize("fid", [0.0, 12.46, 128.0])
def test_threshold(epsilon: float, fid: float) -> None:
    under, over = math.nextafter(epsilon, 0), math.nextafter(epsilon, 1)
    assert mifid(fid, under, epsilon) == pytest.approx(fid / epsilon)
    assert mifid(fid, epsilon, epsilon) == pytest.approx(fid)
    assert mifid(fid, over, epsilon) == pytest.approx(fid)


def test_a_distance_of_zero_divides_by_1e_minus_14() -> None:
    assert mifid(2.0, 0.0, 0.1) == pytest.approx(2e14)


def test_an_honest_score_is_divided_by_one_and_a_bit() -> None:
    assert mifid(55.42, 0.3, 0.25) == 55.42 / (1 + 1e-14)


def test_a_memorizing_generator_is_caught() -> None:
    rng = np.random.default_rng(0)
    real, honest = rng.gamma(1.0, size=(2, 400, 32))
    thief = real[:200] + rng.normal(0, 0.02, (200, 32))
    fits = {name: gaussian(rows) for name, rows in (("real", real), ("honest", honest), ("thief", thief))}
    fid = {
        name: frechet_distance(fit.mean, fit.covariance, fits["real"].mean, fits["real"].covariance)
        for name, fit in fits.items()
    }
    distance = {"honest": memorization_distance(honest, real), "thief": memorization_distance(thief, real)}
    epsilon = distance["honest"] / 2
    assert mifid(fid["honest"], distance["honest"], epsilon) == pytest.approx(fid["honest"])
    assert mifid(fid["thief"], distance["thief"], epsilon) > 100 * fid["thief"]
