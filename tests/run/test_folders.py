"""A run's folder: one process works in it, and what is not the kit's stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_helpers import Silent
from run_tools import run_record

from kit.core.errors import KitError
from kit.core.lock import folder_lock
from kit.training import checkpoint
from kit.training.run_folder import claim_run, newest_finished, newest_unfinished, read_progress, read_run
from kit.training.run_record import CandidateRecord


@pytest.mark.abuse("B8")
def test_a_run_that_is_still_training_is_not_resumed_beside_it(run_tiny, tmp_path):
    with folder_lock(tmp_path / "run"), pytest.raises(KitError, match="in use by process"):
        run_tiny(images=8, resume=True)
    assert run_tiny(images=8).record.state == "finished"


@pytest.mark.abuse("B8")
def test_runs_begun_at_once_get_folders_of_their_own(tmp_path):
    script = "from kit.training.run_folder import claim_run; from pathlib import Path; print(claim_run('m', Path('d')))"
    begun = [
        subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert {process.communicate()[0].strip() for process in begun} == {f"runs/m-d-{n}" for n in (1, 2)}


@pytest.mark.abuse("B7")
def test_resuming_a_foreign_folder_touches_nothing_in_it(run_tiny, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    names = [".thesis.tex.part", ".run.json.part", "notes.md", ".run.json.ab12cd34ef56.part.old"]
    for name in names:
        (folder / name).write_text("mine")
    with pytest.raises(KitError, match=r"run\.json: no such file"):
        run_tiny(images=8, resume=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.abuse("B7")
def test_resuming_a_run_clears_up_after_itself_and_nobody_else(run_tiny, tmp_path):
    run = run_tiny(images=8)
    record = read_run(run.path)
    record.state = "stopped"
    record.save(run.path / "run.json")
    left = [run.path / ".checkpoint.pt.ab12cd34ef56.part", run.path / "samples" / ".0000000008.png.ab12cd34ef56.part"]
    mine = [run.path / ".thesis.tex.ab12cd34ef56.part", run.path / ".checkpoint.pt.part", run.path / "mine" / ".x.part"]
    mine[-1].parent.mkdir()
    for path in (*left, *mine):
        path.write_text("x")
    run_tiny(images=8, resume=True)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)


@pytest.mark.abuse("A3")
@pytest.mark.parametrize(
    "file", ["../notes.pt", "/etc/passwd", "candidates/../../notes.pt", "candidates/a.pt", "notes.md"]
)
def test_a_candidate_outside_its_folder_is_a_damaged_record(tmp_path, file):
    run_record().save(tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    content["candidates"] = [{"pictures": 8, "seconds": 1.0, "file": file}]
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(KitError, match=r"run\.json: candidates\[0\]: file is"):
        read_run(tmp_path)
    with pytest.raises(KitError):
        CandidateRecord(pictures=8, seconds=1.0, file=file)


@pytest.mark.abuse("A3")
def test_a_hidden_model_file_is_not_run_for_film_and_page(run_tiny, tmp_path, monkeypatch):
    """The page draws the generator of a candidate; a foreign one may bring code."""
    import torch

    from kit.report import films

    run = run_tiny(images=8)
    path = run.path / "candidates" / "0000000008.pt"
    path.parent.mkdir()
    content = torch.load(run.path / "checkpoint.pt", weights_only=True)
    content["recipe"]["source"] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    checkpoint.write(path, content)
    monkeypatch.setattr(films, "GALLERY", 1)
    films.make_artifacts(run.path, left_s=None, told_to_stop=lambda: False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.abuse("F32")
def test_a_damaged_run_does_not_stand_in_the_way_of_the_others(tmp_path, caplog):
    root = tmp_path / "runs"
    run_record("good", state="stopped").save(root / "good" / "run.json")
    run_record("done").save(root / "done" / "run.json")
    (root / "bad").mkdir()
    (root / "bad" / "run.json").write_text("[" * 10_000)
    assert newest_unfinished(root) == root / "good"
    assert newest_finished(root) == root / "done"
    assert "bad/run.json" in "".join(caplog.messages)


def test_a_folder_of_the_kit_before_is_refused_in_a_line(tmp_path):
    (tmp_path / "run.json").write_text('{"version": 1, "name": "old"}')
    with pytest.raises(KitError, match=r"run\.json: not a kit-run file"):
        read_run(tmp_path)


def test_damaged_lines_of_progress_are_counted(tmp_path):
    good = '{"pictures": 8, "seconds": 1.5, "loss_d": NaN}\n'
    lines = ["{", "[]", '{"pictures": "x", "seconds": 1}', "[" * 100_000, '{"pictures": 8}', "1" * 5000]
    (tmp_path / "progress.jsonl").write_text(good + "\n".join(lines))
    (tick,), damaged = read_progress(tmp_path)
    assert (tick.pictures, tick.loss_d, damaged) == (8, None, len(lines))


class Broken(Silent):
    """A terminal that has gone."""

    def on_plan(self, record):
        raise BrokenPipeError

    def on_tick(self, tick):
        raise SystemExit(1)  # as rich does

    def on_progress(self, stage, done, total):
        raise OSError(28, "No space left on device")


@pytest.mark.abuse("F21")
def test_what_cannot_be_shown_ends_no_run(run_tiny):
    assert run_tiny(images=16, callback=Broken()).record.state == "finished"


@pytest.mark.abuse("D15")
@pytest.mark.parametrize("seed", [-1, 2**63, 10**26])
def test_a_seed_beyond_all_generators_is_refused(run_tiny, seed):
    with pytest.raises(KitError, match="--seed"):
        run_tiny(images=0, seed=seed)


def test_a_claimed_folder_is_trained_in(run_tiny, tmp_path):
    claimed = claim_run("run", Path("set"), tmp_path)
    assert run_tiny(images=0, name=claimed.name).path == claimed


@pytest.mark.abuse("F21")
def test_a_run_whose_reader_has_gone_comes_to_its_end(make_set, tmp_path):
    """As `kit train … 2>&1 | head -n 1`."""
    make_set(tmp_path / "set", n=16, size=16)
    words = ["--set", "width=4", "--set", "latent=8", "--set", "batch=8", "--count", "12"]
    words += ["--data", "set", "--out", "run"]
    command = [sys.executable, "-P", "-m", "kit", "train", "--model", "dcgan", "--images", "80", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdout.readline()
    process.stdout.close()
    process.wait()
    assert read_run(tmp_path / "run").state == "finished"
