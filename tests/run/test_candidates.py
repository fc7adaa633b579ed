"""Candidates and scores on the way: the best average makes the pictures, and training does not notice."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest
import torch
from run_helpers import Clock, Even, Silent

import kit.run
from kit.core.clock import parse_duration
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.data.prepared_set import load
from kit.generation.export import RunGenerator
from kit.generation.generate import generate
from kit.models.registry import MODELS
from kit.run import budget, snapshots
from kit.scoring import candidates
from kit.scoring.score_record import FeaturesRecord, ReferenceRecord, Score, groups
from kit.training import checkpoint
from kit.training.run_folder import read_run
from kit.training.run_record import CandidateRecord

ALWAYS = candidates.ScoringConfig(share=0.99, features="random", count=16)


@pytest.fixture
def every_step(monkeypatch):
    """A tick after each step, and a score at each tick."""
    monkeypatch.setattr(budget, "tick_seconds", lambda budget_s: 0.0)
    monkeypatch.setattr(candidates.PeriodicScorer, "due", lambda self, now_s: True)


def weights(run, name="checkpoint.pt"):
    return torch.load(run.path / name, weights_only=True)


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return one == other


def test_scores_change_no_trained_byte_and_the_best_average_makes_the_zip(run_tiny, every_step, tmp_path):
    settings = ["schedule=linear", "lr_g=0.01", "lr_d=0.01"]
    plain = run_tiny(images=64, name="plain", settings=settings)
    scored = run_tiny(images=64, name="scored", settings=settings, scores=ALWAYS)
    assert equal(weights(plain), weights(scored))

    entries = scored.record.candidates
    assert [entry.pictures for entry in entries] == list(range(8, 65, 8))
    assert len({entry.score["features"]["weights"] for entry in entries}) == 1
    kept = [entry for entry in entries if entry.file]
    assert {path.name for path in (scored.path / "candidates").iterdir()} == {e.file.split("/")[1] for e in kept}
    assert len(kept) == snapshots.KEPT
    best = min(entries, key=lambda entry: entry.score["mifid"] or entry.score["fid"])
    assert best in kept
    assert scored.record.result.pictures == best.pictures
    generator, *_ = checkpoint.load_generator(scored.path / best.file)
    assert scored.record.result.weights_sha256 == checkpoint.weights_digest(generator)
    assert plain.record.result.pictures == 64

    again = kit.run.replay(
        read_run(scored.path),
        data=tmp_path / "set",
        out=tmp_path / "again",
        clock=Clock(),
        callback=Silent(),
    )
    assert sha256(again.path / "images.zip") == sha256(scored.path / "images.zip")


def test_a_zip_of_an_early_candidate_is_made_again(run_tiny, every_step, monkeypatch, tmp_path):
    """A schedule over all pictures must not shrink to those that the zip's candidate had seen."""
    first = []

    def worse_and_worse(score):
        first.append(score)
        return (False, len(first))

    monkeypatch.setattr(Score, "rank_key", property(worse_and_worse))  # so that the earliest is the best
    run = run_tiny(images=64, settings=["schedule=linear", "lr_end=0"], scores=ALWAYS)
    assert run.record.result.pictures == 8
    again = kit.run.replay(run.record, data=tmp_path / "set", out=tmp_path / "again", clock=Clock(), callback=Silent())
    assert again.record.result.sha256 == run.record.result.sha256


@pytest.mark.parametrize("better", ["the average", "G itself"])
def test_a_translation_keeps_its_raw_generator_and_takes_the_better(better, make_set, monkeypatch, tmp_path):
    made = make_set(tmp_path / "set", n=16, size=32, inputs=10, classes=0, competition="gan-getting-started")
    recipe = MODELS["cut"].recipe.override(["width=4", "batch=4", "lr_g=0.01"])
    config = kit.run.RunConfig(recipe=recipe, data=made.path, out=tmp_path / "run", images=16, scores=ALWAYS)
    ranks = iter(range(100) if better == "the average" else range(100, 0, -1))
    numbers: dict[float, int] = {}
    monkeypatch.setattr(Score, "rank_key", property(lambda score: numbers.setdefault(score.fid, next(ranks))))
    run = kit.run.train(config, clock=Clock(), callback=Silent())
    average, raw = run.record.candidates
    assert [(entry.pictures, entry.raw) for entry in (average, raw)] == [(16, False), (16, True)]
    assert average.score["fid"] != raw.score["fid"]
    assert run.record.result.raw == (better == "G itself")
    taken, *_ = checkpoint.load_generator(run.path / (raw if run.record.result.raw else average).file)
    assert run.record.result.weights_sha256 == checkpoint.weights_digest(taken)
    source = RunGenerator.load(run.path, raw=True)
    assert checkpoint.weights_digest(source.generator) == checkpoint.weights_digest(
        checkpoint.load_generator(run.path / raw.file)[0]
    )
    replayed = kit.run.replay(
        read_run(run.path), data=made.path, out=tmp_path / "again", clock=Clock(), callback=Silent()
    )
    assert replayed.record.result == run.record.result


def test_a_damaged_candidate_gives_way_to_the_last_state(run_tiny, every_step, monkeypatch, caplog):
    kept = checkpoint.save_ema

    def spoilt(path, *arguments, **named):
        kept(path, *arguments, **named)
        path.write_bytes(path.read_bytes()[:100])

    monkeypatch.setattr(checkpoint, "save_ema", spoilt)
    monkeypatch.setattr(Score, "rank_key", (False, 0))  # the first of equals
    callback = Silent()
    run = run_tiny(images=24, scores=ALWAYS, callback=callback)
    assert run.record.result.pictures == 24
    assert any("damaged" in text and "the last state" in text for text in caplog.messages)


def test_without_scores_a_few_are_kept(run_tiny, monkeypatch):
    monkeypatch.setattr(budget, "tick_seconds", lambda budget_s: 0.0)
    run = run_tiny(images=160)
    entries = run.record.candidates
    assert [entry.pictures for entry in entries] == [80, 96, 112, 128, 144]
    assert all(entry.score is None and (run.path / entry.file).is_file() for entry in entries)
    assert run.record.result.pictures == 160
    *_, pictures = checkpoint.load_generator(run.path / entries[0].file)
    assert pictures == 80


def test_a_resumed_run_drops_candidates_of_another_way(run_tiny, every_step, tmp_path):
    run = run_tiny(images=64, scores=ALWAYS)
    kept = [entry for entry in run.record.candidates if entry.file]
    late = kept[-1]
    watched = snapshots.Snapshots(run, None, MODELS["dcgan"].recipe, None)
    watched.forget_after(late.pictures - 1)
    assert not (run.path / f"candidates/{late.pictures:010d}.pt").exists()
    assert [entry.pictures for entry in run.record.candidates] == list(range(8, late.pictures, 8))


def test_a_score_gives_way_to_a_signal(run_tiny, every_step, monkeypatch):
    draw, drawn = generate, []

    def told_to_stop(*arguments, **options):
        drawn.append(0)
        if len(drawn) == 4:  # the first one was the trial
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*arguments, **options)

    monkeypatch.setattr(candidates, "generate", told_to_stop)
    run = run_tiny(images=10_000, scores=ALWAYS)
    assert (run.record.state, run.record.pictures) == ("stopped", 24)
    assert [entry.pictures for entry in run.record.candidates] == [8, 16]


class Costs(candidates.PeriodicScorer):
    """A scorer whose costs are given."""

    def __init__(self, config, *, budget_s, cost_s, setup_s):
        self.config, self.budget_s, self.cost_s, self.setup_s = config, budget_s, cost_s, setup_s
        self.spent_s, self._last_s = 0.0, 0.0


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(("cost_s", "setup_s"), [(1.0, 0.0), (7.0, 20.0), (0.1, 5.0)])
def test_scores_keep_to_their_share(fraction, cost_s, setup_s):
    watch = Costs(candidates.ScoringConfig(share=fraction), budget_s=3600.0, cost_s=cost_s, setup_s=setup_s)
    moments = [now for now in range(0, 3600, 10) if watch.due(now) and add(watch)]
    in_all = setup_s + watch.spent_s + cost_s  # with the last state's
    assert in_all <= fraction * 3600
    expected = (fraction * 3600 - setup_s) / cost_s - 1
    assert len(moments) >= min(expected - 2, 300)
    if len(moments) > 10:  # spread over the run, not all at its start
        assert moments[len(moments) // 2] == pytest.approx(1800, rel=0.25)


def add(watch):
    watch.spent_s += watch.cost_s
    return True


def test_an_interval_is_kept():
    watch = Costs(candidates.ScoringConfig(share=0.5, interval_s=600), budget_s=3600.0, cost_s=1.0, setup_s=0.0)
    assert [now for now in range(0, 3600, 100) if watch.due(now)] == [600, 1200, 1800, 2400, 3000]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5%", (0.05, 0)),
        ("0.5%", (0.005, 0)),
        ("0.1", (0.1, 0)),
        ("10m", (candidates.SHARE, parse_duration("10m"))),
        ("1h30m", (candidates.SHARE, 5400)),
    ],
)
def test_how_often(text, expected):
    assert candidates.parse_every(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0", "0%", "1", "100%", "-3%", "often", "", "%", "5x", "nan"])
def test_how_often_not(text):
    with pytest.raises(KitError, match="neither a share of the time nor an interval"):
        candidates.parse_every(text)


def test_a_share_too_small_for_the_reference_is_refused_before_training(run_tiny, tmp_path):
    asked = dataclasses.replace(ALWAYS, share=0.0001)
    with pytest.raises(KitError, match=r"no scores during training.*larger share"):
        run_tiny(budget_s=30.0, scores=asked)
    assert not (tmp_path / "run").exists()


def score(fid, distance=0.3, *, weights="ab", epsilon=0.1):
    return Score(
        fid=fid,
        distance=distance,
        mifid=fid / (distance if distance < epsilon else 1),
        epsilon=epsilon,
        epsilon_origin="",
        features=FeaturesRecord(
            name="own", weights=weights, input_size=64, resize="", mean=(0, 0, 0), std=(1, 1, 1), dtype="float32"
        ),
        reference=ReferenceRecord(name="dogs", digest="cd", kind="whole", split="all", count=60),
        count=40,
        size=16,
        flags=(),
        seconds=1.0,
    )


def candidate(fid, *args, **named):
    return CandidateRecord(pictures=fid, seconds=1.0, score=score(fid, *args, **named).to_json())


UNSCORED = CandidateRecord(pictures=0, seconds=0.0)


def test_only_like_scores_are_ranked_and_memorizers_come_last():
    entries = [candidate(50), candidate(3, weights="other"), UNSCORED, candidate(10, 0.11), candidate(40)]
    assert [entry.pictures for entry in snapshots.rank(entries)] == [40, 50, 10]
    assert snapshots.rank([UNSCORED]) == []


def test_groups_hold_like_with_like_the_largest_first():
    scored = [
        (name, score(fid, weights=weights))
        for name, fid, weights in (("a", 50, "x"), ("b", 9, "y"), ("c", 40, "y"), ("d", 60, "y"), ("e", 1, "x"))
    ]
    first, second = groups(scored)
    assert (first.members, first.apart) == (["b", "c", "d"], None)
    assert second.members == ["e", "a"]
    assert "features: weights (y and x)" in second.apart
    assert groups([]) == []


class Hasty(Even):
    """Its seconds are counted, and on top of them a tenth at every look: long budgets pass sooner."""

    STEP_S = 0.1

    def seconds(self):
        return super().seconds() + time.monotonic() - self._began

    def __init__(self):
        super().__init__()
        self._began = time.monotonic()


@pytest.mark.slow
def test_scores_against_the_sets_own_network(run_tiny, tmp_path, monkeypatch):
    """The default features, within a budget: all of it ends in time, and the zip names its candidate."""
    run = run_tiny(budget_s=200.0, clock=Hasty(), scores=candidates.ScoringConfig(share=0.4, count=16))
    seconds = run.record.seconds
    assert seconds.in_all - (seconds.artifacts or 0) < 200  # film and page take what is left by another clock
    scored = [entry for entry in run.record.candidates if entry.score]
    assert scored
    assert {entry.score["features"]["name"] for entry in scored} == {"own"}
    assert run.record.result.pictures in {entry.pictures for entry in scored}
    assert load(tmp_path / "set").digest == scored[0].score["reference"]["digest"]
