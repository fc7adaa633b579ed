from __future__ import annotations

import hashlib
import json
import shlex
from datetime import UTC, datetime

import pytest

from kit.core.errors import KitError
from kit.models.recipe import Recipe
from kit.models.registry import MODELS
from kit.report.page import recipe_rows, train_command
from kit.report.run_data import rate, read, timeline

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


def segments(found):
    return [(s.kind, round(s.start, 2), round(s.stop, 2)) for s in timeline(found).segments]


def test_time_is_divided_as_it_was_spent(make_run, tmp_path):
    changes = {"interim_zips": [{"at": 200, "seconds": 2.0, "ended_s": 22.0}]}
    found = read(make_run(tmp_path / "run", ticks=12, changes=changes), now=NOW)
    assert rate(found) == pytest.approx(1200 / 58)
    assert segments(found) == [
        ("ready", 0, 10),
        ("training", 10, 20),
        ("interim", 20, 22),
        ("training", 22, 70),
        ("generating", 70, 73),
        ("packing", 73, 74),
        ("left", 74, 100),
    ]
    assert (timeline(found).deadline, timeline(found).reserve) == (88, 12)
    assert sum(timeline(found).totals().values()) == pytest.approx(100)


def test_scores_are_part_of_the_time(make_run, make_score, tmp_path):
    score = make_score(tmp_path).to_json()

    def candidate(tick, seconds, took):
        return {"pictures": 100 * tick, "seconds": seconds, "score": {**score, "seconds": took}}

    unscored = {"pictures": 300, "seconds": 25.0, "score": None}
    changes = {
        "interim_zips": [{"at": 200, "seconds": 2.0, "ended_s": 22.0}],
        "candidates": [candidate(2, 20.0, 3.0), unscored, candidate(12, 70.0, 2.5)],  # the last one after training
        "seconds": {"finishing": 6.5, "generating": 3.0, "in_all": 76.5},
    }
    assert segments(read(make_run(tmp_path / "run", ticks=12, changes=changes), now=NOW)) == [
        ("ready", 0, 10),
        ("training", 10, 20),
        ("scoring", 20, 23),
        ("interim", 23, 25),
        ("training", 25, 70),
        ("scoring", 70, 72.5),
        ("generating", 72.5, 75.5),
        ("packing", 75.5, 76.5),
        ("left", 76.5, 100),
    ]


def test_the_parts_of_a_resumed_run_each_get_ready(make_run, tmp_path):
    parts = [{"from": 0, "to": 300, "seconds": 27.0}, {"from": 300, "to": 600, "seconds": 17.0}]
    run = make_run(tmp_path / "run", ticks=6, budget_s=None, changes={"parts": parts, "seconds": None})
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    for line in lines[3:]:
        line["seconds"] += 4  # the second process began at 27 s and trained from 29 s on
    (run / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert segments(read(run, now=NOW)) == [
        ("ready", 0, 10),
        ("training", 10, 27),
        ("ready", 27, 29),
        ("training", 29, 44),
    ]


@pytest.mark.parametrize(
    ("state", "age_s", "shown"),
    [("running", 60, "running"), ("running", 3600, "silent"), ("failed", 3600, "failed"), ("stopped", 9e6, "stopped")],
)
def test_a_run_that_writes_nothing_for_long_was_killed(make_run, tmp_path, state, age_s, shown):
    assert read(make_run(tmp_path / "run", state=state, age_s=age_s), now=NOW).state == shown


def test_a_running_run_is_right_up_to_its_last_tick(make_run, tmp_path):
    run = make_run(
        tmp_path / "run",
        ticks=4,
        state="running",
        changes={"pictures": 100, "parts": [{"from": 0, "to": 100, "seconds": 15.0}]},
    )
    found = read(run, now=NOW)
    assert (found.pictures, found.elapsed_s) == (400, 30)
    assert segments(found)[:2] == [("ready", 0, 10), ("training", 10, 30)]


def test_damaged_lines_are_skipped_and_said(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=4)
    good = (run / "progress.jsonl").read_text()
    (run / "progress.jsonl").write_bytes(b'{"pictures": "x"}\n\xff\xfe\n[]\n' + good.encode() + b'{"pictures": 50')
    found = read(run, now=NOW)
    assert [tick.pictures for tick in found.ticks] == [100, 200, 300, 400]
    assert found.notes == ["4 damaged lines of progress.jsonl left out."]


def test_numbers_that_are_not_finite_are_gaps(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=3)
    text = (run / "progress.jsonl").read_text().replace('"loss_d": 1.5', '"loss_d": NaN')
    (run / "progress.jsonl").write_text(text)
    assert read(run, now=NOW).ticks[0].loss_d is None


def test_a_damaged_score_is_said_and_the_rest_stands(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=3)
    (run / "score.json").write_text('{"fid": 3}')
    found = read(run, now=NOW)
    assert found.score is None
    assert "score" in found.notes[0]


def test_scores_during_training_that_do_not_compare_or_cannot_be_read_are_no_curve(make_run, make_score, tmp_path):
    score = make_score(tmp_path).to_json()
    other = {**score, "count": 10}
    way = [
        {"pictures": 100 * k, "seconds": 20.0, "score": s} for k, s in enumerate((other, score, {"fid": 3}, score), 1)
    ]
    found = read(make_run(tmp_path / "run", ticks=6, changes={"candidates": way}), now=NOW)
    assert [score.pictures for score in found.scored] == [200, 400]
    assert found.scored_as.count == 256
    assert found.notes == ["1 score taken during training cannot be read."]


@pytest.mark.parametrize("key", ["recipe", "plans", "seed"])
def test_a_record_without_its_parts_is_a_one_line_error(make_run, tmp_path, key):
    run = make_run(tmp_path / "run", ticks=1, changes={key: None})
    with pytest.raises(KitError, match=rf"run\.json: {key}"):
        read(run, now=NOW)


@pytest.mark.parametrize("model", ["dcgan", "biggan", "cut"])
def test_the_command_rebuilds_the_recipe(make_run, tmp_path, model):
    row = MODELS[model]
    changed = {"batch": 48, "lr_g": 1e-5, "flip": not row.recipe.flip, "schedule": "cosine"}
    words = shlex.split(train_command(read(make_run(tmp_path / "run", ticks=1, model=model, recipe=changed), now=NOW)))
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert row.override(settings) == Recipe(**{**row.recipe.__dict__, **changed})
    assert words[:6] == ["kit", "train", "--model", model, "--budget", "1m40s"]


def test_a_model_from_elsewhere_has_settings_and_no_defaults(make_run, tmp_path):
    found = read(make_run(tmp_path / "run", ticks=1, recipe={"model": "mine"}), now=NOW)
    rows = {s.key: s for s in recipe_rows(found)}
    assert rows["width"].value == "64"
    assert not any(s.changed or s.default for s in rows.values())


def test_a_model_file_is_named_and_shown_by_its_digest(make_run, tmp_path):
    text = "ENTRY = ...\n# the rest of the file\n"
    found = read(make_run(tmp_path / "run", ticks=1, recipe={"source": text}), now=NOW)
    (source,) = (s.value for s in recipe_rows(found) if s.key == "source")
    assert source == f"a file with digest {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    assert shlex.split(train_command(found))[:4] == ["kit", "train", "--model", "dcgan.py"]


def test_what_was_done_between_steps_is_no_training(make_run, tmp_path):
    plan = {"budget_s": 100.0, "started_s": 10.0, "reserve_s": 12.0, "total_images": 1500}
    plans = [{**plan, "at": at, "measuring_s": measured} for at, measured in ((0, 4), (300, 3))]
    changes = {"interim_zips": [{"at": 300, "seconds": 1.0, "ended_s": 26.0}], "plans": plans}
    found = read(make_run(tmp_path / "run", ticks=12, changes=changes), now=NOW)
    assert segments(found)[:5] == [
        ("ready", 0, 10),
        ("training", 10, 25),
        ("interim", 25, 26),
        ("ready", 26, 29),
        ("training", 29, 70),
    ]
    assert rate(found) == pytest.approx(1200 / 56)
