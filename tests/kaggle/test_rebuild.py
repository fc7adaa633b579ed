"""A kernel made again from the code that was kept, though the kit has moved on."""

from __future__ import annotations

import zipfile

import pytest

from kit import provenance
from kit.errors import KitError
from kit.kaggle import kernel
from kit.kaggle.rebuild import rebuild
from kit.kaggle.spec import KernelSpec, spec_text


@pytest.fixture
def kept(tmp_path):
    """A kernel built by an older kit, which wrote another head, with its `source.zip` and its `run.json`."""
    files = dict(provenance.package_files())
    words = b"Written by `kit kernel build`"
    assert files["kit/kaggle/layout.py"].count(words) == 1
    files["kit/kaggle/layout.py"] = files["kit/kaggle/layout.py"].replace(words, b"Written by the kit of old")
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    spec = KernelSpec(slug="my-gan", model="dcgan", settings=("width=8",), seed=2)
    record = {
        "kernel": {"slug": spec.slug, "recipe": spec_text(spec), "receipt": "r-1"},
        "commit": "c" * 40,
        "dirty": True,
        "tree": provenance.tree_digest(files),
    }
    return tmp_path / "source.zip", record, files


def test_the_stored_kit_writes_the_kernel_again(kept, tmp_path):
    source, record, files = kept
    one, two = rebuild(record, source, tmp_path / "one"), rebuild(record, source, tmp_path / "two")
    assert one.digest == two.digest
    assert one.files == files
    text = (tmp_path / "one/my-gan/my-gan.py").read_text()
    assert "Written by the kit of old" in text[:500]
    # As it was pushed then, with a receipt.
    pushed = kernel.fill(tmp_path / "one/my-gan", tmp_path / "pushed", owner="jane", receipt="r-1")
    assert kernel.read_kernel(pushed).digest == one.digest
    other = rebuild({**record, "kernel": {**record["kernel"], "recipe": 'model = "dcgan"'}}, source, tmp_path / "other")
    assert other.digest != one.digest


def test_what_cannot_be_made_again_is_said(kept, tmp_path):
    source, record, _ = kept
    with pytest.raises(KitError, match="not made by a kernel"):
        rebuild({**record, "kernel": None}, source, tmp_path / "out")
    with pytest.raises(KitError, match=r"source\.zip: not the code that the kernel carried"):
        rebuild({**record, "tree": "0" * 64}, source, tmp_path / "out")
    wrong = {**record, "kernel": {**record["kernel"], "recipe": 'model = "dcgna"'}}
    with pytest.raises(KitError, match=r"the stored kit does not build the kernel .*did you mean 'dcgan'"):
        rebuild(wrong, source, tmp_path / "out")
