"""A kernel run as Kaggle would: a fresh process in an empty folder, Kaggle's packages, no kit, no network."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import kaggle_desk
import kaggle_image
import numpy as np
import pytest
from dog_files import LAYOUTS, clean_dogs
from kaggle_user import clock, home, policy, said, server, waits
from run_tools import result_record, run_record
from typer.testing import CliRunner

import kit.run
from kit import kernel_main
from kit.cli import app
from kit.competition import COMPETITIONS, DEFAULT
from kit.core import provenance
from kit.core.errors import KitError
from kit.generation.pack import pack
from kit.generation.validate import check
from kit.kaggle import client as client_module
from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_spec import KERNELS, KernelSpec, find_spec, spec_text, write_spec
from kit.run import processes
from kit.run.processes import Ended
from kit.scoring import compute_score
from kit.scoring.extract import FeatureSet
from kit.scoring.reference import References
from kit.scoring.score_record import Score
from kit.submission.make_submission import make_submission
from kit.training import checkpoint
from kit.training.run_folder import Run, read_run
from kit.training.run_record import DataRecord, PlanRecord, TickRecord

__all__ = ["clock", "home", "policy", "said", "server", "waits"]

ROOT = Path(__file__).parents[1]
DOGS = COMPETITIONS[DEFAULT]
COUNT = 16
RESULTS = {"images.zip", "run.json", "score.json", "report.html", "checkpoint.pt", "samples.png", "film.gif"}
RECEIPT = "r-2026-0123"

BUDGETS = ("40s", "4m")
"""A machine that is so busy that the first is too small for it has the second."""


def recipes():
    return sorted(path.parent.name for path in (ROOT / KERNELS).glob("*/kernel.toml"))


def tiny(slug, **changes):
    """A recipe of kernels/, as small as a test can have it."""
    spec, _ = find_spec(slug, ROOT / KERNELS)
    return dataclasses.replace(
        spec, gpus="none", count=COUNT, settings=("width=4", "latent=8", "batch=8", "standing_batches=0"), **changes
    )


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    root = tmp_path_factory.mktemp("kaggle") / "input"
    LAYOUTS["two zips"](clean_dogs(40), root / "competitions" / DOGS.slug)
    return root


@pytest.fixture(scope="module")
def ran(mounts, tmp_path_factory):
    """A script of the smallest kernel after it ran: (folder, log, recipe)."""
    for budget in BUDGETS:
        folder = tmp_path_factory.mktemp("session")
        spec = tiny("dcgan", budget=budget)
        built = kernel.build(spec, folder / "kernels")
        code = kernel.fill(built.folder, folder / "push", owner="jane", receipt=RECEIPT)
        done = kaggle_image.run(code, folder=folder / "run", mounts=mounts)
        if "is too small" not in done.stdout:
            break
    assert done.returncode == 0, done.stdout
    return folder / "run", done.stdout, spec


# ---- the recipes in git


def test_the_recipes_are_there():
    assert {"dcgan", "sagan", "biggan", "r3gan", "monet-cyclegan", "monet-cut"} <= set(recipes())


@pytest.mark.parametrize("slug", recipes())
def test_every_recipe_builds(slug, tmp_path):
    spec, _ = find_spec(slug, ROOT / KERNELS)
    built = kernel.build(spec, tmp_path)
    assert built.bytes < 400_000
    assert kernel.read_kernel(built.code).spec == spec
    compile(built.code.read_text(), built.code.name, "exec")


# ---- one of them, run


def test_it_leaves_a_valid_zip_and_nothing_but_results(ran):
    folder, log, _ = ran
    left = {path.name for path in (folder / "working").iterdir()}
    assert left <= RESULTS
    # On a machine too busy for them the kernel says so.
    for name, what in {"score.json": "a score", "report.html": "the report", "film.gif": "the report"}.items():
        assert name in left or "no time" in log, what
    assert RESULTS - left <= {"score.json", "report.html", "film.gif", "samples.png"}
    assert check(folder / "working/images.zip", competition=DOGS, count=COUNT).ok
    assert not any((folder / "empty").iterdir())
    assert not list((folder / "tmp").glob("kit-kernel-*"))
    assert f"images.zip: {COUNT} pictures, valid for {DOGS.slug}" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_it_asks_for_no_network(ran):
    folder, _, _ = ran
    assert not (folder / kaggle_image.NETWORK).exists()


def test_its_record_says_where_it_comes_from(ran):
    folder, _, spec = ran
    record = json.loads((folder / "working/run.json").read_text())
    source = provenance.source_tree()
    assert (record["tree"], record["commit"], record["dirty"]) == (source.digest, source.commit, source.dirty)
    assert record["kernel"] == {
        "slug": "dcgan",
        "receipt": RECEIPT,
        "recipe": "\n" + spec_text(spec),
        "budget_s": spec.budget_s,
    }
    assert record["state"] == "finished"
    assert record["data"]["path"] == f"data/{DOGS.slug}"
    assert record["budget_s"] < record["kernel"]["budget_s"]
    assert record["seconds"]["in_all"] < spec.budget_s


def test_its_results_are_those_of_a_run(ran, tmp_path):
    folder, _, _ = ran
    working = folder / "working"
    submission = make_submission(working, out=tmp_path / "submission")
    assert submission.images.count == COUNT
    record = json.loads((working / "run.json").read_text())
    assert {score.features.name for score in submission.scores} <= {"own"}  # no foreign weights
    generator, _, shape, pictures = checkpoint.load_generator(working / "checkpoint.pt")
    assert (pictures, shape.size) == (record["result"]["pictures"], 64)
    assert checkpoint.weights_digest(generator) == record["result"]["weights_sha256"]


def test_nothing_of_its_machine_is_in_its_results(ran):
    folder, log, _ = ran
    assert str(folder) not in (folder / "working/run.json").read_text()
    if "no time left for the page" not in log:
        assert str(folder) not in (folder / "working/report.html").read_text()


def test_what_is_pulled_is_a_run_to_sample_from_and_to_report_on(ran, server, clock, said, tmp_path, monkeypatch):
    folder, _, spec = ran

    def leaves(version):
        files = {path.name: path.read_bytes() for path in (folder / "working").iterdir()}
        [receipt] = re.findall(r'^RECEIPT = "(.+)"$', version.request["text"], flags=re.MULTILINE)
        return files | {"run.json": files["run.json"].replace(RECEIPT.encode(), receipt.encode())}

    def kit(*words):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.exception
        return done

    server.kernels.next_run = kaggle_desk.Run(leaves=leaves)
    monkeypatch.setattr(client_module, "RETRY_POLICY", clock)
    monkeypatch.chdir(tmp_path)
    write_spec(spec)
    kit("kernel", "run", "dcgan", "--no-submit")
    [run] = re.findall(r"^(\S+): the run itself", "\n".join(said), flags=re.MULTILINE)
    assert {path.name for path in Path(run).iterdir()} == {path.name for path in (folder / "working").iterdir()} | {
        "source.zip"
    }
    kit("sample", run, "--count", str(COUNT), "--out", "again.zip")
    assert Path("again.zip").read_bytes() == (folder / "working/images.zip").read_bytes()

    page = Path(run, "report.html")
    page.write_text("with its curves")
    assert kit("report", run).stdout == f"{page}\n"
    assert page.read_text() == "with its curves"
    page.unlink()  # a kernel may have had no time for it
    assert kit("report", run).stdout == f"{page}\n"
    assert "From latent to latent and back" in page.read_text()


# ---- what goes wrong


class BrokenError(Exception):
    pass


@pytest.fixture
def session(mounts, tmp_path, monkeypatch):
    """One in this process, with time enough, and with features that nobody has to teach first."""
    monkeypatch.setattr(kernel_main, "FEATURES", "random")
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [])  # the kernel's log replaces them
    source = provenance.source_tree()
    return kernel_main.Session(
        recipe=spec_text(tiny("dcgan", budget="8h")),
        slug="dcgan",
        tree=source.digest,
        commit=source.commit,
        dirty=source.dirty,
        receipt=RECEIPT,
        input=str(mounts),
        working=str(tmp_path / "working"),
    )


def training(monkeypatch, *, count=COUNT, error=None, zipped=True):
    """Puts into the place of training what leaves a zip of so many pictures, and then fails."""

    def train(job, *, clock, callback):
        run = Run(
            job.out,
            run_record(
                job.out.name, data=DataRecord(name="dogs", digest="d" * 64, size=64, channels=3, path=str(job.data))
            ),
        )
        if zipped:
            pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
            made = pack([pixels], run.path / "images.zip", competition=DOGS, count=count)
            run.record.result = result_record(8, count=count, sha256=made.sha256)
            run.save()
        if error:
            raise error
        return run

    monkeypatch.setattr(kit.run, "train", train)


@pytest.mark.parametrize("error", [BrokenError("cosmic ray"), KitError("the disk is full"), MemoryError()])
def test_after_a_valid_zip_nothing_makes_it_fail(session, monkeypatch, capsys, error):
    training(monkeypatch, error=error)
    assert session.main() == 0
    log = capsys.readouterr().out
    assert f"training failed ({error})" in log
    assert "valid for" in log.splitlines()[-1]
    assert check(session.working / "images.zip", competition=DOGS, count=COUNT).ok


@pytest.mark.abuse("E20")
def test_where_several_processes_cannot_begin_one_trains(session, monkeypatch, capsys):
    """No loopback, say, or an NCCL that fails: the hours are not lost."""
    training(monkeypatch)
    monkeypatch.setattr(session, "_processes", lambda: 2)
    monkeypatch.setattr(processes, "launch", lambda *arguments, **options: Ended(rank=0, code=1))
    assert session.main() == 0
    assert "going on with one process on one GPU" in capsys.readouterr().out
    assert check(session.working / "images.zip", competition=DOGS, count=COUNT).ok


def test_what_fails_after_training_is_said_and_does_no_harm(session, monkeypatch, capsys):
    training(monkeypatch)
    for name in ("_score", "_report", "_keep_generator"):
        monkeypatch.setattr(session, name, lambda name=name: 1 / 0)
    assert session.main() == 0
    log = capsys.readouterr().out
    for what in ("the score", "the report", "the generator"):
        assert f"{what} failed (division by zero); images.zip is valid and stays" in log


@pytest.mark.parametrize(
    ("happens", "last"),
    [
        ({"zipped": False, "error": BrokenError("cosmic ray")}, "error: BrokenError: cosmic ray"),
        ({"zipped": False, "error": KitError("too small", "give more")}, "error: too small; give more"),
        ({"count": COUNT - 1}, "images.zip: not what the competition takes"),
        ({"count": COUNT - 1, "error": BrokenError("cosmic ray")}, "error: BrokenError: cosmic ray"),
    ],
)
def test_without_a_valid_zip_it_fails_with_a_clear_last_line(session, monkeypatch, capsys, happens, last):
    training(monkeypatch, **happens)
    assert session.main() == 1
    assert last in capsys.readouterr().out.splitlines()[-1]


def test_the_score_is_that_of_the_zip(session, monkeypatch, capsys):
    training(monkeypatch)
    assert session.main() == 0
    score = Score.load(session.working / "score.json")
    record = json.loads((session.working / "run.json").read_text())
    assert (score.archive, score.count) == (record["result"]["sha256"], COUNT)
    log = capsys.readouterr().out
    assert all(line in log for line in score.lines())


@pytest.mark.parametrize(
    ("left_s", "counts", "says"),
    [
        (100_000, [10_000], "failed (scored)"),
        (500 + 288, [3_000], "failed (scored)"),  # 500 s, and half of what is kept back, for 1,100 s
        (120 + 288, [], "no time is left for a score"),  # none beside the real ones
        (200, [], "no time is left for the score"),
    ],
)
def test_a_score_takes_no_more_time_than_there_is(session, monkeypatch, capsys, left_s, counts, says):
    training(monkeypatch)
    session.prepare()
    session.train()
    record = read_run(session._run)
    record.result = result_record(8, count=10_000)
    record.save(session._run / "run.json")
    asked = []

    def score(pictures, prepared, *, features, count, cache, progress):
        asked.append(count)
        raise BrokenError("scored")

    monkeypatch.setattr(compute_score, "score_pictures", score)
    monkeypatch.setattr(FeatureSet, "seconds_per_picture", lambda self, pictures: 0.1)
    monkeypatch.setattr(References, "pending_count", lambda self, kind, inputs: 1000)
    monkeypatch.setattr(session.clock, "seconds", lambda: 8 * 3600 - left_s)
    session.score()
    assert asked == counts
    assert says in capsys.readouterr().out


def test_it_chooses_its_generator_without_foreign_weights(mounts, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [])
    source = provenance.source_tree()
    told = {"recipe": spec_text(tiny("biggan")), "slug": "biggan", "receipt": RECEIPT}
    about = {"tree": source.digest, "commit": source.commit, "dirty": source.dirty}
    folders = {"input": str(mounts), "working": str(tmp_path), "scratch": str(tmp_path / "scratch")}
    job = kernel_main.Session(**told, **about, **folders)._config(resume=False)
    assert job.scores
    assert (job.scores.features, job.scores.weights, job.scores.optional) == ("own", None, True)


def test_without_data_it_says_what_to_do(session, capsys, tmp_path):
    session.input = tmp_path
    assert session.main() == 1
    assert "add the competition to the kernel's inputs" in capsys.readouterr().out.splitlines()[-1]


def test_an_interim_zip_is_in_the_output_before_training_ends(session, monkeypatch):
    """A session can be cut off without a word; what was published stays."""
    seen = []

    def train(job, *, clock, callback):
        plan = PlanRecord(at=0, budget_s=9.0, started_s=0.0, reserve_s=1.0, total_images=8)
        run = Run(job.out, run_record(job.out.name, count=COUNT, plans=[plan]))
        tick = TickRecord(pictures=8, seconds=1.0, pictures_per_s=1, loss_d=1, loss_g=1, d_real=0.5, d_fake=0.5)
        callback.on_plan(run.record)
        for grey in range(3):
            callback.on_tick(tick)
            seen.append((session.working / "images.zip").exists())
            pixels = np.full((COUNT, 64, 64, 3), grey, np.uint8)
            made = pack([pixels], run.path / "images.zip", competition=DOGS, count=COUNT)
            run.record.result, run.record.signal = result_record(8, count=COUNT, sha256=made.sha256), "SIGTERM"
            run.save()
        callback.on_tick(tick)
        record = json.loads((session.working / "run.json").read_text())
        report = check(session.working / "images.zip", competition=DOGS, count=COUNT)
        seen.append(report.ok and report.sha256 == record["result"]["sha256"] == made.sha256)
        return run

    monkeypatch.setattr(kit.run, "train", train)
    assert session.main() == 0
    assert seen == [False, True, True, True]
    # Told to end: nothing but what there is.
    assert {path.name for path in session.working.iterdir()} == {"images.zip", "run.json"}


def test_a_kernel_of_another_kit_is_refused(mounts, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("kit"), "handlers", [])
    with pytest.raises(KitError, match="is not the one this kernel carries"):
        kernel_main.Session(
            recipe=spec_text(KernelSpec(slug="dcgan", model="dcgan")),
            slug="dcgan",
            tree="0" * 64,
            commit=None,
            dirty=False,
            receipt=RECEIPT,
            input=str(mounts),
            working=str(tmp_path),
        )
