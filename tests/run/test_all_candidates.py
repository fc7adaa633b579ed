"""`kit score RUN --all`: the candidates of a run like for like, the recommended one, and the refused ones."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from run_helpers import Silent
from typer.testing import CliRunner

import kit.run
from kit import cli
from kit.core.errors import KitError
from kit.core.seeds import derive
from kit.data.prepared_set import load
from kit.generation.export import RunGenerator, sample_pictures
from kit.generation.pictures import read_pictures
from kit.models.registry import MODELS
from kit.run import budget
from kit.scoring import candidates, features, score_record
from kit.scoring.compute_score import score_pictures
from kit.scoring.interval import GROUPS
from kit.scoring.score_record import comparable
from kit.training import checkpoint
from kit.training.run_folder import Candidate, candidate_files, generator_file, read_run

COUNT = 24


@pytest.fixture(scope="module")
def run(make_set, tmp_path_factory):
    """A run with five candidates and a last state."""
    from run_helpers import Clock

    folder = tmp_path_factory.mktemp("compared")
    make_set(folder / "set", n=32, size=16)
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8", "lr_g=0.01", "lr_d=0.01"])
    job = kit.run.RunConfig(recipe=recipe, data=folder / "set", out=folder / "run", images=160, count=COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "tick_seconds", lambda budget_s: 0.0)
        return kit.run.train(job, clock=Clock(), callback=Silent())


@pytest.fixture(scope="module")
def network():
    return features.build("random")


@pytest.fixture(scope="module")
def compared(run, network):
    prepared = load(run.path.parent / "set")
    return candidates.compare(run.path, prepared, features=network, count=COUNT, truncations=(0.5, 1.0))


def test_all_are_scored_like_for_like_and_the_best_is_swept(compared):
    entries = compared.entries
    assert {one.pictures for one in entries if one.truncation is None} == {80, 96, 112, 128, 144, 160}
    assert all(comparable(entries[0].score, one.score) is None for one in entries)
    keys = [one.score.rank_key for one in entries]
    assert keys == sorted(keys)
    plain = [one for one in entries if one.truncation is None]
    swept = [one for one in entries if one.truncation is not None]
    assert {one.pictures for one in swept} == {plain[0].pictures}
    assert sorted(one.truncation for one in swept) == [0.5, 1.0]


@pytest.mark.parametrize(("pictures", "truncation"), [(160, None), ("best", 0.5)])
def test_each_number_is_that_of_a_zip_of_the_same_pictures(compared, run, network, tmp_path, pictures, truncation):
    if pictures == "best":
        pictures = next(one.pictures for one in compared.entries if one.truncation is None)
    (entry,) = [e for e in compared.entries if (e.pictures, e.truncation) == (pictures, truncation)]
    folder = sample_pictures(
        RunGenerator.load(run.path, candidate=pictures, seed=derive(run.record.seed, "candidates")),
        out=tmp_path / "pictures",
        count=COUNT,
        truncation=truncation,
    )
    alone = score_pictures(folder, load(run.path.parent / "set"), features=network)
    assert entry.score.fid == pytest.approx(alone.fid, rel=1e-6)
    assert entry.score.distance == pytest.approx(alone.distance, rel=1e-6)


def test_a_candidate_near_the_threshold_is_refused(compared, monkeypatch):
    best = compared.recommended
    assert best is compared.entries[0]
    assert best.score.margin > 0.5
    monkeypatch.setattr(score_record, "TOO_NEAR", 1 + best.score.margin + 0.001)
    assert best.score.too_near
    assert compared.recommended is not best
    monkeypatch.setattr(score_record, "TOO_NEAR", 1e9)
    assert compared.recommended is None
    assert "none is recommended" in candidates.verdict(None, compared)[0]


def test_what_is_told(compared, run):
    columns, rows = candidates.rows(compared)
    assert len(rows) == 8
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[0][-1] == "recommended"
    best = compared.recommended
    assert f"--candidate {best.pictures}" in candidates.verdict(run.path, compared)[-1]


@pytest.mark.parametrize("dim", [6, 256, 1600, 2048, 4032])
def test_there_are_pictures_enough_for_an_interval(dim):
    count = candidates.enough(dim)
    assert count >= candidates.COMPARED
    assert count - math.ceil(count / GROUPS) > dim


def test_the_command(run, monkeypatch, network):
    monkeypatch.setattr(candidates, "TRUNCATIONS", (1.0,))
    arguments = ["score", str(run.path), "--all", "--features", "random", "--count", "16", "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    kept = candidates.Comparison.load(run.path / "candidates.json")
    assert json.loads(result.stdout)["recommended"]["pictures"] == kept.recommended.pictures
    assert {entry.pictures for entry in kept.entries} == {80, 96, 112, 128, 144, 160}


def test_a_zip_has_no_candidates(run):
    result = CliRunner().invoke(cli.app, ["score", str(run.path / "images.zip"), "--all"])
    assert result.exit_code == 1
    assert "name the folder of a run" in str(result.exception)


def test_a_candidate_by_its_pictures(run, tmp_path):
    files = candidate_files(run.path)
    assert [(which.pictures, which.raw) for which in files] == [(n, False) for n in (80, 96, 112, 128, 144)]
    assert generator_file(run.path) == run.path / "checkpoint.pt"
    assert generator_file(run.path, pictures=160) == run.path / "checkpoint.pt"
    assert generator_file(run.path, pictures=112) == files[Candidate(112)]
    with pytest.raises(KitError, match="no candidate of 100 pictures; it has 80, 96, 112, 128, 144, 160"):
        generator_file(run.path, pictures=100)
    with pytest.raises(KitError, match="no raw candidate of 160 pictures"):
        generator_file(run.path, raw=True)


def test_samples_are_of_the_generator_that_made_the_zip(run, tmp_path, monkeypatch):
    record = read_run(run.path)
    record.result = dataclasses.replace(record.result, pictures=96)
    copy = tmp_path / "run"
    (copy / "candidates").mkdir(parents=True)
    record.save(copy / "run.json")
    early = candidate_files(run.path)[Candidate(96)]
    (copy / "candidates" / early.name).write_bytes(early.read_bytes())
    generator, *_ = checkpoint.load_generator(generator_file(copy))
    expected, *_ = checkpoint.load_generator(early)
    assert checkpoint.weights_digest(generator) == checkpoint.weights_digest(expected)
    ours = sample_pictures(RunGenerator.load(copy), out=tmp_path / "a", count=4)
    theirs = sample_pictures(RunGenerator.load(run.path, candidate=96), out=tmp_path / "b", count=4)
    for (_, a), (_, b) in zip(read_pictures(ours), read_pictures(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
