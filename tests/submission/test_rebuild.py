"""A kernel made again from the code that was kept, though the kit has moved on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from run_tools import run_record

from kit import __version__
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.source_zip import write_files
from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_spec import KernelSpec, spec_text
from kit.submission.ledger import Images, Kernel, Source, Submission
from kit.submission.rebuild import rebuild

SLUG = "my-gan"

MODEL_FILE = """\
from kit.models.recipe import Recipe
from kit.models.registry import ModelEntry
ENTRY = ModelEntry(recipe=Recipe(model="mine", architecture="dcgan", loss="hinge"), about="dcgan, hinge", paper="none")
"""


@pytest.fixture
def kept(tmp_path: Path) -> Submission:
    """What is kept of a kernel that an older kit wrote, with another head."""
    files = dict(provenance.package_files())
    words = b"Written by `kit kernel build`"
    assert files["kit/kaggle/kernel_files.py"].count(words) == 1
    files["kit/kaggle/kernel_files.py"] = files["kit/kaggle/kernel_files.py"].replace(
        words, b"Written by the kit of old"
    )
    folder = tmp_path / "submissions" / f"{SLUG}-v1"
    write_files(files, folder / "source.zip")
    spec = KernelSpec(slug=SLUG, model="dcgan", settings=("width=8",), seed=2)
    tree = provenance.tree_digest(files)
    return Submission(
        folder=folder,
        name=folder.name,
        kit=__version__,
        packed="2026-01-01T00:00:00+00:00",
        competition=spec.competition,
        run=run_record(),
        source=Source(sha256=sha256(folder / "source.zip"), tree=tree, commit="c" * 40, dirty=True),
        images=Images(count=12, bytes=1, sha256="0" * 64, pixels_sha256="0" * 64),
        warnings=[],
        scores=[],
        receipts=[],
        answer=None,
        kernel=Kernel(
            version=f"jane/{SLUG}/1",
            receipt="r-1",
            pushed="2026-01-01T00:00:00+00:00",
            code=f"{SLUG}.py",
            code_sha256="0" * 64,
            recipe=spec_text(spec),
            status="COMPLETE",
        ),
    )


def changed(submission: Submission, **changes: str) -> Submission:
    """The same with other words about its kernel."""
    assert submission.kernel
    return dataclasses.replace(submission, kernel=dataclasses.replace(submission.kernel, **changes))


def test_the_stored_kit_writes_the_kernel_again(kept: Submission, tmp_path: Path) -> None:
    verdict, built = rebuild(kept, tmp_path / "one")
    assert not verdict.identical  # the digest that was kept is none
    assert "Written by the kit of old" in built.code.read_text()[:500]
    # As it was pushed then, with a receipt.
    pushed = kernel.fill(built.folder, tmp_path / "pushed", owner="jane", receipt="r-1")
    then = kernel.read_kernel(pushed)
    assert (then.source.digest, then.source.commit, then.source.dirty) == (kept.source.tree, "c" * 40, True)
    verdict, again = rebuild(changed(kept, code_sha256=then.digest), tmp_path / "two")
    assert verdict.identical
    assert again.code.read_bytes() == built.code.read_bytes()


def test_what_cannot_be_made_again_is_said(kept: Submission, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="not made by a kernel"):
        rebuild(dataclasses.replace(kept, kernel=None), tmp_path / "out")
    with pytest.raises(
        KitError, match=r"does not write the kernel \(my-gan: unknown model 'dcgna'.*did you mean 'dcgan'"
    ):
        rebuild(changed(kept, recipe='model = "dcgna"'), tmp_path / "out")
    other = dataclasses.replace(kept, source=dataclasses.replace(kept.source, tree="0" * 64))
    with pytest.raises(KitError, match=r"source\.zip: damaged .not the code that ran."):
        rebuild(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_file_is_run_only_for_someone_who_trusts_it(kept: Submission, tmp_path: Path) -> None:
    trap = MODEL_FILE + f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\n"
    mine = changed(kept, recipe=spec_text(KernelSpec(slug=SLUG, model="mine", source=trap)))
    with pytest.raises(KitError, match=r"my-gan-v1: the model file of mine is code .*; add --trust"):
        rebuild(mine, tmp_path / "out")
    assert not (tmp_path / "it-ran").exists()
    _, built = rebuild(mine, tmp_path / "out", trust=True)
    assert (tmp_path / "it-ran").exists()
    assert kernel.read_kernel(built.code).spec.source == trap
