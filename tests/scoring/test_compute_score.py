"""A whole score: the number against NumPy, its reference, its threshold, its record, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from scoring_helpers import Pixels, draw, small_features

from kit.core.errors import KitError
from kit.data.prepared_set import PreparedSet, Split
from kit.scoring.compute_score import score_pictures
from kit.scoring.extract import FeatureSet
from kit.scoring.kid import kid
from kit.scoring.reference import default_cache
from kit.scoring.score_record import FLAGS, Kind, Score

MakeSet = Callable[..., PreparedSet]
MakeZip = Callable[..., Path]

HELD = range(0, 60, 5)


@pytest.fixture
def prepared(make_set: MakeSet) -> PreparedSet:
    return make_set(draw(60, seed=1), draw(60, seed=2), holdout=HELD)


@pytest.fixture
def archive(make_zip: MakeZip) -> Path:
    return make_zip(draw(40, seed=3))


def expected(generated: Pixels, real: Pixels, features: FeatureSet) -> tuple[float, float]:
    """FID and distance in plain NumPy and SciPy, from the same features."""
    g, r = (features.extract(pictures).astype(np.float64) for pictures in (generated, real))
    root = scipy.linalg.sqrtm(np.cov(g.T) @ np.cov(r.T))
    fid = ((g.mean(0) - r.mean(0)) ** 2).sum() + np.trace(np.cov(g.T) + np.cov(r.T) - 2 * np.real(root))
    unit = [rows[rows.sum(1) != 0] for rows in (g, r)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit]
    return float(fid), float((1 - np.abs(unit[0] @ unit[1].T)).min(1).mean())


def side_of(prepared: PreparedSet, kind: Kind, split: Split) -> Pixels:
    rows = {"all": range(60), "train": [row for row in range(60) if row not in HELD], "holdout": HELD}[split]
    return (prepared.whole if kind == "whole" else prepared.images)[list(rows)]


@pytest.mark.parametrize(("kind", "split"), [("whole", "all"), ("whole", "holdout"), ("crops", "train")])
def test_the_number(prepared: PreparedSet, archive: Path, kind: Kind, split: Split) -> None:
    features = small_features(epsilon=0.1)
    fid, distance = expected(draw(40, seed=3), side_of(prepared, kind, split), features)
    kept = default_cache(prepared)
    for cache in (None, kept, kept):
        result = score_pictures(archive, prepared, features=features, reference=kind, split=split, cache=cache)
        assert result.fid == pytest.approx(fid, rel=1e-6)
        assert result.distance == pytest.approx(distance, rel=1e-6)
        assert result.mifid == pytest.approx(fid / (distance + 1e-14 if distance < 0.1 else 1), rel=1e-6)
        assert (result.count, result.reference.count) == (40, len(side_of(prepared, kind, split)))
        assert (result.reference.kind, result.reference.split) == (kind, split)


def test_pictures_in_a_folder_and_the_first_so_many(prepared: PreparedSet, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(draw(40, seed=3)[:25]):
        Image.fromarray(picture).save(folder / f"{index:05}.png")
    features = small_features(epsilon=0.1)
    whole = score_pictures(folder, prepared, features=features)
    part = score_pictures(archive, prepared, features=features, count=25)
    assert whole.fid == part.fid
    assert whole.count == part.count == 25
    assert whole.archive is None
    assert part.archive == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_the_threshold_is_half_the_hold_outs_distance(prepared: PreparedSet, archive: Path) -> None:
    features = small_features()
    held, train = (side_of(prepared, "crops", split) for split in ("holdout", "train"))
    result = score_pictures(archive, prepared, features=features, reference="whole", cache=default_cache(prepared))
    assert result.epsilon == pytest.approx(expected(held, train, features)[1] / 2, rel=1e-6)
    assert result.mifid is not None
    assert "12 held-out crops to 48 training crops" in result.epsilon_origin


def test_no_hold_out_no_mifid_unless_there_is_an_official_threshold(make_set: MakeSet, archive: Path) -> None:
    prepared = make_set(draw(60, seed=1))
    result = score_pictures(archive, prepared, features=small_features())
    assert (result.mifid, result.epsilon) == (None, None)
    assert result.fid > 0
    assert result.distance > 0
    assert "no hold-out" in result.epsilon_origin
    assert "MiFID none" in result.lines()[0]
    result = score_pictures(archive, prepared, features=small_features(epsilon=0.25))
    assert result.epsilon == 0.25
    assert result.mifid is not None
    assert "official" in result.epsilon_origin


def test_training_pictures_slightly_noised_are_caught(prepared: PreparedSet, make_zip: MakeZip) -> None:
    train = side_of(prepared, "crops", "train").astype(int)
    noised = np.clip(train + np.random.default_rng(0).integers(-2, 3, train.shape), 0, 255).astype(np.uint8)
    thief, honest = make_zip(noised, name="thief.zip"), make_zip(draw(48, seed=9), name="honest.zip")
    features = small_features(dim=32)
    results = [score_pictures(path, prepared, features=features, reference="crops") for path in (thief, honest)]
    assert results[0].fid < results[1].fid
    assert results[0].mifid is not None
    assert results[1].mifid is not None
    assert results[0].mifid > 10 * results[0].fid
    assert results[1].mifid == pytest.approx(results[1].fid)


def todo(caplog: pytest.LogCaptureFixture) -> str:
    """What was said about the latest score before its work."""
    return [record.getMessage() for record in caplog.records if "generated and" in record.getMessage()][-1]


def test_the_reference_is_computed_once_and_what_is_to_do_is_logged(
    prepared: PreparedSet, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kit")
    # 40 generated; 60 whole pictures, and 60 crops for the threshold; then nothing but the generated.
    for real in (120, 0):
        seen: list[tuple[int, int]] = []
        score_pictures(
            archive,
            prepared,
            features=small_features(),
            cache=default_cache(prepared),
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )
        assert todo(caplog) == f"features of 40 generated and {real} real pictures"
        assert seen[-1] == (40 + real, 40 + real)
        assert seen == sorted(seen)


def test_a_set_of_whole_pictures_is_worked_through_once(make_set: MakeSet, archive: Path) -> None:
    seen: list[int] = []
    prepared = make_set(draw(12, seed=1), holdout=(0, 6))
    score_pictures(archive, prepared, features=small_features(), progress=lambda done, _: seen.append(done))
    assert seen == [16, 32, 40, 52]


def test_another_network_or_set_finds_nothing_kept(
    prepared: PreparedSet, make_set: MakeSet, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kit")
    cache = default_cache(prepared)
    score_pictures(archive, prepared, features=small_features(epsilon=0.1), cache=cache)
    other_set = make_set(draw(60, seed=4), draw(60, seed=5), name="others")
    for other, features in (
        (prepared, small_features(epsilon=0.1, seed=1)),
        (prepared, small_features(epsilon=0.1, side=14)),
        (other_set, small_features(epsilon=0.1)),
    ):
        result = score_pictures(archive, other, features=features, cache=cache)
        assert "and 60 real" in todo(caplog)
        assert result.fid == pytest.approx(expected(draw(40, seed=3), other.whole, features)[0], rel=1e-6)


def test_pictures_at_the_competitions_size_are_resized_to_the_sets(make_set: MakeSet, make_zip: MakeZip) -> None:
    """A generator of 32 px digits writes RGB or grey pictures of 64 px: its images.zip can be scored."""
    features = small_features(epsilon=0.1)
    prepared = make_set(draw(40, side=32, channels=1, seed=1))
    pictures = draw(30, side=64, channels=1, seed=2)
    half = np.stack(
        [np.asarray(Image.fromarray(p[:, :, 0]).resize((32, 32), Image.Resampling.LANCZOS)) for p in pictures]
    )
    fid, _ = expected(half[..., None], prepared.whole, features)
    for name, channels in (("grey.zip", 1), ("rgb.zip", 3)):
        result = score_pictures(make_zip(pictures.repeat(channels, axis=3), name=name), prepared, features=features)
        assert result.fid == pytest.approx(fid, rel=1e-6)
        assert result.resized == "resized from 64² to 32² by Pillow's LANCZOS"
        assert any("resized from 64²" in line for line in result.lines())


def test_the_untouched_inputs_stand_beside_a_translation(prepared: PreparedSet, make_zip: MakeZip) -> None:
    features, inputs = small_features(epsilon=0.1), draw(50, seed=8)
    translation = dataclasses.replace(
        prepared,
        inputs=inputs,
        record=dataclasses.replace(prepared.record, competition="gan-getting-started"),
    )
    for _ in range(2):
        result = score_pictures(
            make_zip(draw(40, seed=3)), translation, features=features, detailed=True, cache=default_cache(prepared)
        )
        untouched = result.inputs
        assert untouched is not None
        fid, distance = expected(inputs[:40], prepared.whole, features)
        assert (untouched.count, untouched.fid) == (40, pytest.approx(fid, rel=1e-6))
        assert untouched.mifid == pytest.approx(fid / (distance if distance < 0.1 else 1), rel=1e-6)
        assert untouched.kid == pytest.approx(
            kid(features.extract(inputs[:40]), features.extract(prepared.whole)).mean, rel=1e-6
        )
        assert any(line.startswith("untouched inputs (40), to be beaten: KID") for line in result.lines())
        assert "an assumption" in result.epsilon_origin


def test_flags(prepared: PreparedSet, archive: Path, make_zip: MakeZip) -> None:
    assert score_pictures(archive, prepared, features=small_features()).flags == ()
    few = score_pictures(archive, prepared, features=small_features(dim=16), count=9)
    assert few.flags == ("rank-deficient",)
    untrained = score_pictures(archive, prepared, features=small_features(trained=False))
    assert untrained.flags == ("uncalibrated",)
    for result in (few, untrained):
        assert FLAGS[result.flags[0]] in result.lines()


def test_scoring_leaves_everyones_random_numbers_alone(prepared: PreparedSet, archive: Path) -> None:
    features = small_features()
    torch.manual_seed(7)
    np.random.seed(7)
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    score_pictures(archive, prepared, features=features)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()


def test_the_record_comes_back_and_its_lines_say_everything(
    prepared: PreparedSet, archive: Path, tmp_path: Path
) -> None:
    features = small_features()
    result = score_pictures(archive, prepared, features=features)
    result.save(tmp_path / "score.json")
    assert Score.load(tmp_path / "score.json") == result
    assert (result.features, result.reference.digest, result.size) == (features.record, prepared.digest, 16)
    text = "\n".join(result.lines())
    for part in ("MiFID", "FID", "ε", "40 generated", "60 whole", "discs", features.record.weights[:12], "float32"):
        assert part in text


# Bad input


def refused(archive: Path, prepared: PreparedSet, match: str, **arguments: Any) -> None:
    with pytest.raises(KitError, match=match):
        score_pictures(archive, prepared, features=small_features(), cache=default_cache(prepared), **arguments)


def test_fewer_than_two_pictures(make_set: MakeSet, archive: Path, make_zip: MakeZip) -> None:
    prepared = make_set(draw(20))
    for count in (1, 0, -3):
        refused(archive, prepared, "only", count=count)
    refused(make_zip(draw(1), name="one.zip"), prepared, r"one\.zip: only 1 picture")
    refused(archive, prepared, "only 0 picture.* in its holdout part", split="holdout")


def test_pictures_of_another_size_or_mode(prepared: PreparedSet, make_zip: MakeZip) -> None:
    refused(make_zip(draw(5, side=24)), prepared, r"00000\.png is 24×24, and the pictures of .* are 16×16")
    for odd in (Image.new("RGB", (16, 8)), Image.new("L", (16, 16)), Image.new("RGBA", (16, 16))):
        before = sorted(prepared.path.rglob("*"))
        refused(make_zip([*map(Image.fromarray, draw(50)), odd]), prepared, r"00050\.png")
        assert sorted(prepared.path.rglob("*")) == before  # nothing is left of a score that failed


def test_features_that_are_zero_throughout(prepared: PreparedSet, make_zip: MakeZip) -> None:
    class Nothing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 4)

    features = dataclasses.replace(small_features(epsilon=0.1), network=Nothing(), dim=4)
    with pytest.raises(KitError, match="sum to 0"):
        score_pictures(make_zip(draw(5)), prepared, features=features)
