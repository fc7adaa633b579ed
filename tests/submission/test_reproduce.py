"""A submission made again by its own code: identical, or the link at which it differs; never by a stranger's code."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from submission_tools import Silent

import kit.run
from kit import __version__
from kit.core import provenance, trust
from kit.core.clock import Stopwatch
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.provenance import SourceRecord, read_source, write_files
from kit.data.prepared_set import PreparedSet
from kit.kaggle import kernels
from kit.kaggle.kernel_spec import KernelSpec, spec_text
from kit.models.registry import MODELS
from kit.submission.make_submission import make_submission
from kit.submission.reproduce import rebuild_kernel, reproduce
from kit.submission.submission_record import ImagesRecord, KernelVersion, Submission, load

SLUG = "my-gan"

MODEL_FILE = """\
from kit.models.recipe import Recipe
from kit.models.registry import ModelEntry
ENTRY = ModelEntry(recipe=Recipe(model="mine", architecture="dcgan", loss="hinge"), about="dcgan, hinge", paper="none")
"""


@pytest.fixture(scope="module")
def trained(make_set: Callable[..., PreparedSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = make_set(folder / "set", n=32, size=16).path
    recipe = MODELS["dcgan"].recipe.override(["width=4", "latent=8", "batch=8"])
    job = kit.run.RunConfig(recipe=recipe, data=data, out=folder / "run", images=40, count=12, seed=7)
    return kit.run.train(job, clock=Stopwatch(), callback=Silent()).path


@pytest.fixture
def made(trained: Path, tmp_path: Path) -> Submission:
    return make_submission(trained, out=tmp_path / "submissions" / "one")


def with_code(submission: Submission, changes: dict[str, Callable[[bytes], bytes]]) -> Submission:
    """The submission with a changed `source.zip`, and a record that agrees with it: as a stranger would write both."""
    path = submission.folder / "source.zip"
    files = read_source(path)
    for name, change in changes.items():
        files[name] = change(files[name])
    write_files(files, path)
    source = dataclasses.replace(submission.source, sha256=sha256(path), tree=provenance.tree_digest(files))
    return submission.update(source=source)


def test_a_submission_is_made_again_to_the_byte(made: Submission, tmp_path: Path) -> None:
    verdict = reproduce(made, keep=tmp_path / "again")
    assert verdict.identical
    assert verdict.lines[-1] == "identical"
    assert (tmp_path / "again" / "images.zip").read_bytes() == (made.folder / "images.zip").read_bytes()


@pytest.mark.abuse("A1")
def test_a_strangers_code_runs_only_for_someone_who_trusts_it(made: Submission, tmp_path: Path) -> None:
    """And then it is the stored code that runs: one that starts from other weights gives other pictures."""
    mark = tmp_path / "it-ran"
    trap = f"\nopen({str(mark)!r}, 'w').write(str(dict(__import__('os').environ)))\n".encode()
    changes = {
        "kit/__init__.py": lambda text: text + trap,
        "kit/training/train_state.py": lambda text: text.replace(b'"weights"', b'"other weights"'),
    }
    evil = with_code(made, changes)
    with pytest.raises(KitError, match=rf"source\.zip: the stored kit is code .*{evil.source.tree[:12]}.*add --trust"):
        reproduce(evil)
    assert not mark.exists()
    verdict = reproduce(evil, trust=True)
    assert mark.exists()
    assert not verdict.identical
    assert [line.split()[:2] for line in verdict.lines[:5]] == [
        ["data", "identical"],
        ["set", "identical"],
        ["weights", "differs:"],
        ["pixels", "differs:"],
        ["zip", "differs:"],
    ]


@pytest.mark.abuse("A1")
def test_a_source_that_the_record_does_not_describe_is_refused(made: Submission, tmp_path: Path) -> None:
    record = (made.folder / "submission.json").read_bytes()
    with_code(made, {"kit/cli.py": lambda text: text + b"\nopen('it-ran', 'w')\n"})
    (made.folder / "submission.json").write_bytes(record)
    for trusted in (False, True):
        with pytest.raises(KitError, match=r"source\.zip: not the file that the record describes"):
            reproduce(load(made.folder), trust=trusted)


def test_another_set_is_the_first_link_that_differs(
    made: Submission, make_set: Callable[..., PreparedSet], tmp_path: Path
) -> None:
    other = make_set(tmp_path / "other", n=24, size=16)
    verdict = reproduce(made, data=other.path)
    assert not verdict.identical
    assert verdict.lines[1].split()[:2] == ["set", "differs:"]


def test_what_cannot_begin_is_said(made: Submission, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="nowhere"):
        reproduce(made, data=tmp_path / "nowhere")
    with pytest.raises(KitError, match="exists already"):
        reproduce(made, keep=tmp_path)
    parts = [*made.run.parts, dataclasses.replace(made.run.parts[0], processes=2)]
    by_both = dataclasses.replace(made, run=dataclasses.replace(made.run, parts=parts))
    with pytest.raises(KitError, match="trained by 1 and 2 processes"):
        reproduce(by_both)


def test_a_stored_kit_that_fails_leaves_nothing(made: Submission, tmp_path: Path) -> None:
    broken = with_code(made, {"kit/cli.py": lambda text: text + b"\nraise SystemExit(7)\n"})
    with pytest.raises(KitError, match=r"did not come to its end .exit code 7."):
        reproduce(broken, keep=tmp_path / "again", trust=True)
    assert not (tmp_path / "again").exists()


@pytest.mark.abuse("B9")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_training_too(made: Submission, tmp_path: Path, number: signal.Signals) -> None:
    mark, scratch = tmp_path / "pid", tmp_path / "scratch"
    scratch.mkdir()
    sleep = f"\nimport os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)\n".encode()
    slow = with_code(made, {"kit/cli.py": lambda text: text + sleep})
    command = [sys.executable, "-m", "kit", "reproduce", str(slow.folder), "--trust", "--keep", str(tmp_path / "again")]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait() != 0
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "again").exists()


# ---- of a kernel


@pytest.fixture
def of_kernel(make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    """What is kept of a kernel that an older kit wrote, with another head."""
    run = make_run()
    monkeypatch.undo()  # the real kit is what has to run
    submission = make_submission_with(run, tmp_path)
    spec = KernelSpec(slug=SLUG, model="dcgan", settings=("width=8",), seed=2)
    return dataclasses.replace(
        submission,
        kernel=KernelVersion(
            version=f"jane/{SLUG}/1",
            receipt="r-1",
            pushed="2026-01-01T00:00:00+00:00",
            code=f"{SLUG}.py",
            code_sha256="0" * 64,
            recipe=spec_text(spec),
            status="COMPLETE",
        ),
    )


def make_submission_with(run: Path, tmp_path: Path) -> Submission:
    """A submission with the kit of old as its code."""
    from kit.training.run_folder import read_run

    files = dict(provenance.package_files())
    words = b"Written by `kit kernel build`"
    assert files["kit/kaggle/kernel_files.py"].count(words) == 1
    files["kit/kaggle/kernel_files.py"] = files["kit/kaggle/kernel_files.py"].replace(
        words, b"Written by the kit of old"
    )
    folder = tmp_path / "submissions" / f"{SLUG}-v1"
    write_files(files, folder / "source.zip")
    tree = provenance.tree_digest(files)
    return Submission(
        folder=folder,
        name=folder.name,
        kit=__version__,
        packed="2026-01-01T00:00:00+00:00",
        competition="generative-dog-images",
        run=read_run(run),
        source=SourceRecord(sha256=sha256(folder / "source.zip"), tree=tree, commit="c" * 40, dirty=True),
        images=ImagesRecord(count=12, bytes=1, sha256="0" * 64, pixels_sha256="0" * 64),
        warnings=[],
        scores=[],
        receipts=[],
        answer=None,
    )


def changed(submission: Submission, **changes: str) -> Submission:
    """The same with other words about its kernel."""
    assert submission.kernel
    return dataclasses.replace(submission, kernel=dataclasses.replace(submission.kernel, **changes))


def test_the_stored_kit_writes_the_kernel_again(of_kernel: Submission, tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"source\.zip: the stored kit is code .*add --trust"):
        rebuild_kernel(of_kernel, tmp_path / "one")
    verdict, built = rebuild_kernel(of_kernel, tmp_path / "one", trust=True)
    assert not verdict.identical  # the digest that was kept is none
    assert "Written by the kit of old" in built.code.read_text()[:500]
    # As it was pushed then, with a receipt.
    pushed = kernels.fill(built.folder, tmp_path / "pushed", owner="jane", receipt="r-1")
    then = kernels.read_kernel(pushed)
    assert (then.source.digest, then.source.commit, then.source.dirty) == (of_kernel.source.tree, "c" * 40, True)
    verdict, again = rebuild_kernel(changed(of_kernel, code_sha256=then.digest), tmp_path / "two", trust=True)
    assert verdict.identical
    assert again.code.read_bytes() == built.code.read_bytes()


def test_what_cannot_be_made_again_is_said(
    of_kernel: Submission, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KitError, match="not made by a kernel"):
        rebuild_kernel(dataclasses.replace(of_kernel, kernel=None), tmp_path / "out")
    with pytest.raises(KitError, match=r"the stored kit did not come to its end"):
        rebuild_kernel(changed(of_kernel, recipe='model = "dcgna"'), tmp_path / "out", trust=True)
    assert "unknown model 'dcgna'; did you mean 'dcgan'" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.abuse("A2")
def test_a_kernels_model_file_is_run_only_for_someone_who_trusts_it(
    of_kernel: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "is_installed_kit", lambda tree: True)
    trap = MODEL_FILE + f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\n"
    mine = changed(of_kernel, recipe=spec_text(KernelSpec(slug=SLUG, model="mine", source=trap)))
    with pytest.raises(KitError, match=r"my-gan-v1: the model file of mine is code .*; add --trust"):
        rebuild_kernel(mine, tmp_path / "out")
    assert not (tmp_path / "it-ran").exists()
    _, built = rebuild_kernel(mine, tmp_path / "out", trust=True)
    assert (tmp_path / "it-ran").exists()
    assert kernels.read_kernel(built.code).spec.source == trap


@pytest.mark.abuse("A1")
def test_what_a_stored_kit_prints_leads_nowhere(of_kernel: Submission, tmp_path: Path) -> None:
    """It is a stranger's word, too: only a kernel that it wrote at its place counts."""
    path = of_kernel.folder / "source.zip"
    write_files({"kit/__init__.py": b"", "kit/__main__.py": b"print('/etc/../x/evil.py')\n"}, path)
    tree = provenance.tree_digest(read_source(path))
    evil = dataclasses.replace(of_kernel, source=SourceRecord(sha256=sha256(path), tree=tree, commit=None, dirty=False))
    with pytest.raises(KitError, match=rf"out/{SLUG}/{SLUG}\.py: no such file"):
        rebuild_kernel(evil, tmp_path / "out", trust=True)
