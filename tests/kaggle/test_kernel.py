"""From a recipe to a kernel's files, and back."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.cli import app
from kit.core import provenance
from kit.core.errors import KitError
from kit.kaggle import kernel_files as bundle
from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_files import RECEIPT_PLACEHOLDER
from kit.kaggle.kernel_spec import KernelSpec, find_spec, own_slug, parse_spec, read_spec, spec_text, write_spec
from kit.kaggle.kernels import OWNER_PLACEHOLDER
from kit.models import custom

ROOT = Path(__file__).parents[2]
FILES = {"kit/__init__.py": b'\x00\xff\'"""\\', "kit/a/b.html": b"", "kit/a/c.py": b"print(1)\n" * 100}
SOURCE = provenance.Source(commit="c" * 40, dirty=False, digest=provenance.tree_digest(FILES))


def make(tmp_path, **changes):
    spec = KernelSpec(**{"slug": "my-biggan", "model": "biggan", **changes})
    return kernel.build(spec, tmp_path, source=SOURCE, files=FILES)


# ---- the recipe

EVERYTHING = KernelSpec(
    slug="all-of-it",
    model="biggan",
    budget="1h5m",
    competition="gan-getting-started",
    gpus="none",
    notebook=True,
    seed=7,
    count=7001,
    crop="whole",
    size=128,
    source='# a model file\nNAME = "it\'s"\n',
    settings=("width=48", "flip=false", "lr_g=0.0001", "lr_d=4e-4", "augment=color,cutout"),
)


def test_a_recipe_reads_back_from_its_text():
    for spec in (EVERYTHING, KernelSpec(slug="plain", model="dcgan")):
        assert parse_spec(spec_text(spec), slug=spec.slug) == spec
    # Each field is another than its default, so none of them was forgotten.
    assert all(getattr(EVERYTHING, f.name) != f.default for f in dataclasses.fields(KernelSpec))
    for source in ("a\n'''b'''\n", "ends with '\nits'", "tab\tand\r\nreturns\n", "\n\nx\n", "one line", "\\ \n"):
        spec = KernelSpec(slug="plain", model="mine", source=source)
        assert parse_spec(spec_text(spec), slug="plain") == spec
    assert spec_text(KernelSpec(slug="plain", model="dcgan")) == 'model = "dcgan"\nbudget = "8h30m"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = 3", "model is 3, not text"),
        ('model = "dcgan"\nbudgte = "3m"', r"unknown key 'budgte'; did you mean 'budget'"),
        ('model = "dcgan"\nseed = true', "seed is True, not a whole number"),
        ('model = "dcgan"\ncount = 0', "count of 0"),
        ('model = "dcgan"\n[set]\nwidth = [3]', "set is no table"),
        ('model = "dcgan"\nbudget = "10h"', "a budget of 10h, and a kernel of generative-dog-images has 9h"),
        ('model = "dcgan"\nbudget = "soon"', "'soon' is not a duration"),
        ('model = "dcgan"\ngpus = "t4x3"', "unknown accelerator 't4x3'; did you mean 't4x2'"),
        ("model = dcgan", "no TOML"),
        ("", "no model"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(text, says):
    with pytest.raises(KitError, match=f"^kernel.toml: .*{says}"):
        parse_spec(text, slug="my-dcgan")


@pytest.mark.parametrize("slug", ["abcd", "My-Dcgan", "my--dcgan", "../dcgan"])
def test_a_slug_is_one_that_kaggle_makes_of_a_title(slug):
    with pytest.raises(KitError, match="no slug"):
        KernelSpec(slug=slug, model="dcgan")


def test_a_recipe_on_disk_is_found_kept_and_not_overwritten(tmp_path):
    root = tmp_path / "kernels"
    path = write_spec(EVERYTHING, root)
    path.write_text("# mine\n" + path.read_text())
    write_spec(EVERYTHING, root)
    assert path.read_text().startswith("# mine")
    with pytest.raises(KitError, match=r"says otherwise \(budget 1h5m → 2h, seed 7 → 8\)"):
        write_spec(dataclasses.replace(EVERYTHING, budget="2h", seed=8), root)
    changes = r"\(count 7001 → left out, source a file with digest \w{12} → a file .*, settings width=48 .* → none\)"
    with pytest.raises(KitError, match=changes):
        write_spec(dataclasses.replace(EVERYTHING, count=None, source="x = 1\n", settings=()), root)
    for words in ("all-of-it", str(root / "all-of-it"), str(path)):
        assert find_spec(words, root) == (EVERYTHING, root)
    with pytest.raises(KitError, match="unknown kernel 'all-of-them'; did you mean 'all-of-it'"):
        find_spec("all-of-them", root)
    (root / "empty").mkdir()
    with pytest.raises(KitError, match=r"empty/kernel\.toml: no such file"):
        read_spec(root / "empty")


# ---- the kit inside


def test_files_go_through_text_unchanged():
    text = bundle.encode(FILES)
    assert bundle.decode(text) == FILES
    assert bundle.encode(dict(reversed(FILES.items()))) == text
    assert not set("'\"\\") & set(text)
    assert max(map(len, text.split("\n"))) <= bundle.LINE
    for damaged in (text[:-9], text[:20] + "0" + text[21:], "", "not in base 85: ~~~~~ \x7f"):
        with pytest.raises(KitError, match="damaged"):
            bundle.decode(damaged)


# ---- the kernel


@pytest.mark.parametrize("notebook", [False, True])
def test_the_same_recipe_and_kit_give_the_same_bytes(tmp_path, notebook):
    one, two = make(tmp_path / "one", notebook=notebook), make(tmp_path / "two", notebook=notebook)
    for path in one.folder.iterdir():
        assert path.read_bytes() == (two.folder / path.name).read_bytes()
    assert one.digest == two.digest != make(tmp_path / "three", notebook=notebook, seed=1).digest


@pytest.mark.parametrize("notebook", [False, True])
def test_a_kernel_reads_back_before_and_after_it_was_filled_in(tmp_path, notebook):
    built = make(tmp_path, notebook=notebook, settings=("width=8",))
    code = kernel.fill(built.folder, tmp_path / "push", owner="jane", receipt="r-0123")
    assert json.loads((code.parent / kernel.METADATA).read_text())["id"] == "jane/my-biggan"
    assert OWNER_PLACEHOLDER not in (code.parent / kernel.METADATA).read_text()
    for path, receipt in ((built.code, RECEIPT_PLACEHOLDER), (code, "r-0123")):
        read = kernel.read_kernel(path)
        assert (read.spec, read.source, read.files) == (built.spec, SOURCE, FILES)
        assert (read.receipt, read.digest) == (receipt, built.digest)
    code.write_text(code.read_text().replace("width = 8", "width = 9"))
    assert kernel.read_kernel(code).digest != built.digest


def test_a_notebook_that_kaggle_laid_out_anew_is_the_same(tmp_path):
    built = make(tmp_path, notebook=True)
    page = json.loads(built.code.read_text())
    for cell in page["cells"]:
        cell["source"] = "".join(cell["source"])  # as the client sends it
        cell.pop("id")
    page["metadata"]["kaggle"] = {"accelerator": "nvidiaTeslaT4"}
    built.code.write_text(json.dumps(page))
    assert kernel.read_kernel(built.code).digest == built.digest


def test_what_is_no_kernel_is_refused(tmp_path):
    path = tmp_path / "script.py"
    for text in ("print(1)\n", "{}", "{", "def broken(", 'RECEIPT = "x"\n'):
        path.write_text(text)
        with pytest.raises(KitError, match=r"script\.py: no kernel of the kit"):
            kernel.read_kernel(path)
    with pytest.raises(KitError, match=r"other\.py: no such file"):
        kernel.read_kernel(tmp_path / "other.py")
    built = make(tmp_path)
    kernel.fill(built.folder, built.folder, owner="jane", receipt="r-1")
    with pytest.raises(KitError, match="changed by hand"):
        kernel.fill(built.folder, tmp_path / "push", owner="jane", receipt="r-2")


@pytest.mark.parametrize(("gpus", "notebook"), [("t4x2", False), ("none", True)])
def test_metadata_say_everything(tmp_path, gpus, notebook):
    built = make(tmp_path, gpus=gpus, notebook=notebook)
    said = json.loads((built.folder / kernel.METADATA).read_text())
    assert said == {
        "id": "<owner>/my-biggan",
        "title": "my biggan",
        "code_file": "my-biggan.ipynb" if notebook else "my-biggan.py",
        "language": "python",
        "kernel_type": "notebook" if notebook else "script",
        "is_private": True,
        "enable_gpu": gpus != "none",
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": {"t4x2": "NvidiaTeslaT4", "none": ""}[gpus],
        "dataset_sources": [],
        "competition_sources": ["generative-dog-images"],
        "kernel_sources": [],
        "model_sources": [],
        "keywords": [],
        "docker_image_pinning_type": "original",
    }
    assert re.sub(r"\s+", "-", said["title"].lower()) == built.slug
    assert {path.name for path in built.folder.iterdir()} == {said["code_file"], kernel.METADATA}


def test_a_notebook_is_one_and_replaces_an_earlier_script(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    make(tmp_path)
    built = make(tmp_path, notebook=True)
    nbformat.validate(nbformat.read(built.code, as_version=4))
    assert sorted(path.name for path in built.folder.iterdir()) == [kernel.METADATA, "my-biggan.ipynb"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "bigan"}, "did you mean 'biggan'"),
        ({"settings": ("widht=8",)}, "did you mean 'width'"),
        ({"settings": ("norm_g=batch",)}, "unknown setting 'norm_g'"),  # dcgan has it
    ],
)
def test_what_only_the_kernel_would_notice_is_said_at_once(tmp_path, changes, says):
    with pytest.raises(KitError, match=rf"^my-biggan: .*{says}"):
        make(tmp_path, **changes)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--crop", "boxes"], "did you mean 'box'"),
        (["--size", "63"], "a size of 63 px"),
        (["--competition", "gan-getting-started", "--budget", "5h1m"], "gan-getting-started has 5h; give less; 4h30m"),
    ],
)
def test_what_the_competition_or_the_data_do_not_allow_is_said_at_once(tmp_path, monkeypatch, flags, says):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["kernel", "build", "--model", "dcgan", *flags])
    assert says in str(done.exception)
    assert not any(tmp_path.iterdir())


def test_the_command_waits_for_no_torch(tmp_path):
    """Importing it takes longer than all the rest; a row of the zoo is checked without."""
    words = ["kernel", "build", "--model", "biggan", "--slug", "my-biggan", "--set", "attention=16", "--crop", "box"]
    heavy = ("torch", "torchvision", "timm", "albumentations", "scipy", "kaggle", "matplotlib")
    code = f"""
import sys
from kit.cli import app
app({words}, standalone_mode=False)
from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_spec import KernelSpec
from kit.models.registry import MODELS
for name in MODELS:
    kernel.require_known(KernelSpec(slug="any-of-them", model=name))
print([module for module in {heavy} if module in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines() == ["kernels/my-biggan", "[]"]


def test_a_kernel_too_large_for_kaggle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "MAX_BYTES", 2_000)
    with pytest.raises(KitError, match=r"the kernel would have \d,\d\d\d bytes, and Kaggle takes less than 2,000"):
        make(tmp_path)


def test_the_head_says_what_it_does(tmp_path):
    spec = KernelSpec(slug="heads-up", model="dcgan", competition="gan-getting-started", seed=5, settings=("width=8",))
    dirty = dataclasses.replace(SOURCE, dirty=True)
    head = kernel.build(spec, tmp_path, source=dirty, files=FILES).code.read_text()[:1500]
    rules = spec.rules
    about = (rules.title, "dcgan, with width=8", "4h30m", f"{rules.count:,} pictures", "seed      5")
    for words in (*about, SOURCE.digest[:12], "not committed"):
        assert words in head


def test_the_kit_itself_is_carried_whole_and_small(tmp_path):
    built = kernel.build(KernelSpec(slug="my-biggan", model="biggan"), tmp_path)
    assert built.bytes < 400_000 < kernel.MAX_BYTES == 1_000_000
    read = kernel.read_kernel(built.code)
    assert read.files == provenance.package_files()
    assert read.source == provenance.source_tree()


def test_a_kernel_carries_a_model_file(tmp_path):
    text = (
        '"""It\'s a \\"model\\" of my own."""\nfrom kit.models.recipe import Recipe\n'
        "from kit.models.registry import ModelEntry\n"
        "ENTRY = ModelEntry(recipe=Recipe(model='mine', architecture='dcgan', loss='hinge'), about='', paper='')\n"
    )
    custom.require_trust("mine", text, trust=True, where=tmp_path)
    for notebook in (False, True):
        built = make(tmp_path, model="mine", source=text, notebook=notebook)
        read = kernel.read_kernel(built.code)
        assert read.spec == built.spec
        assert read.spec.source == text
    with pytest.raises(KitError, match="unknown setting 'widht'"):
        make(tmp_path, model="mine", source=text, settings=("widht=8",))
    custom.require_trust("mine", "x = 1\n", trust=True, where=tmp_path)
    with pytest.raises(KitError, match="mine: sets no ENTRY"):
        make(tmp_path, model="mine", source="x = 1\n")


@pytest.mark.abuse("A2")
def test_a_recipes_own_code_runs_only_for_someone_who_trusts_it(tmp_path, capfd):
    text = f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\n"
    with pytest.raises(KitError, match=r"my-biggan: kernel\.toml: the model file of evil is code .* add --trust"):
        make(tmp_path, model="evil", source=text)
    assert not (tmp_path / "it-ran").exists()
    spec = KernelSpec(slug="my-biggan", model="evil", source=text)
    with pytest.raises(KitError, match="the model file of evil cannot be used"):
        kernel.build(spec, tmp_path, source=SOURCE, files=FILES, trust=True)
    assert (tmp_path / "it-ran").exists()
    assert "sets no ENTRY" in capfd.readouterr().err


# ---- what a recipe from elsewhere may not do

BREAK_OUT = '"""\nimport os\nos.environ["OWNED"] = "1"\n"""'


@pytest.mark.parametrize("notebook", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"model": BREAK_OUT},
        {"model": "dcgan\\"},
        {"crop": BREAK_OUT},
        {"budget": f"1h{BREAK_OUT}"},
        {"settings": (f"width={BREAK_OUT}",)},
        {"settings": ('augment=x"""',)},
        {"settings": (f"{BREAK_OUT}=8",)},
        {"competition": BREAK_OUT},
        {"gpus": BREAK_OUT},
        {"slug": f"my-{BREAK_OUT}"},
    ],
    ids=str,
)
@pytest.mark.abuse("A2")
def test_no_value_leaves_its_place_in_the_script(tmp_path, monkeypatch, changes, notebook):
    """It is refused; or where it is taken, it stands in a string."""
    monkeypatch.setattr(kernel, "require_known", lambda spec, *, trust: None)  # as if the model were known
    try:
        built = make(tmp_path, notebook=notebook, source="x = 1\n" + BREAK_OUT, **changes)
    except KitError:
        return
    read = kernel.read_kernel(built.code)
    assert read.spec == built.spec
    code = built.code.read_text()
    if notebook:
        cells = json.loads(code)["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant) and node.value == "OWNED"]


@pytest.mark.parametrize(
    "text",
    [
        f"model = 'dcgan'\nseed = {'9' * 5000}",
        f"model = 'dcgan'\ncount = {'9' * 40}",
        f"model = 'dcgan'\nbudget = '{'9' * 5000}h'",
        f"model = '{'x' * 5000}'",
        f"model = 'dcgan'\n{'x' * 5000} = 1",
        "x = " + "[" * 200_000,
        f"model = 'dcgan'\n[set]\n{'x' * 5000} = 1",
        "model = 'dcgan'\n[set]\nwidth = 1979-05-27",
        "model = 'dcgan'\nset = []",
        "[model]",
    ],
    ids=lambda text: text[:40],
)
@pytest.mark.abuse("D15")
def test_odd_numbers_and_words_are_an_error_of_one_line(text):
    with pytest.raises(KitError, match=r"^kernel\.toml: ") as caught:
        parse_spec(text, slug="my-dcgan")
    assert len(str(caught.value)) < 1500
    assert "\n" not in str(caught.value)


@pytest.mark.abuse("A1")
def test_a_packed_kit_that_would_fill_the_memory_is_refused(monkeypatch):
    text = bundle.encode({"kit/__init__.py": bytes(3_000_000)})
    monkeypatch.setattr(bundle, "MAX_UNPACKED", 1_000_000)
    with pytest.raises(KitError, match="more than 1,000,000 bytes"):
        bundle.decode(text)


# ---- what belongs to the user


@pytest.mark.parametrize("name", ["my-biggan.py", "my-biggan.ipynb", kernel.METADATA])
@pytest.mark.abuse("B7")
def test_a_file_that_the_kit_did_not_write_is_not_replaced(tmp_path, name):
    path = tmp_path / "my-biggan" / name
    path.parent.mkdir()
    path.write_text('{"id": "me/mine", "cells": []}')
    notebook = name.endswith(".ipynb")
    with pytest.raises(KitError, match=rf"{re.escape(name)} is not a file that the kit wrote.*--overwrite"):
        make(tmp_path, notebook=notebook)
    if name != kernel.METADATA:
        make(tmp_path, notebook=not notebook)  # the user's file is not in its way, and stays
    assert path.read_text() == '{"id": "me/mine", "cells": []}'
    spec = KernelSpec(slug="my-biggan", model="biggan", notebook=notebook)
    kernel.build(spec, tmp_path, source=SOURCE, files=FILES, overwrite=True)
    assert path.read_text() != '{"id": "me/mine", "cells": []}'
    make(tmp_path, notebook=notebook)  # its own files it writes anew


def test_a_kernel_without_a_slug_takes_a_name_of_its_own(tmp_path):
    spec = KernelSpec(slug="of-its-own", model="biggan", budget="8h30m")
    assert own_slug(spec, tmp_path) == "biggan-8h30m"
    write_spec(dataclasses.replace(spec, slug="biggan-8h30m"), tmp_path)
    assert own_slug(spec, tmp_path) == "biggan-8h30m"  # the same recipe
    assert own_slug(dataclasses.replace(spec, seed=1), tmp_path) == "biggan-8h30m-2"
    assert own_slug(KernelSpec(slug="of-its-own", model="X_1", budget="9m"), tmp_path) == "x-1-9m"
    (tmp_path / "biggan-1h").mkdir()
    assert own_slug(dataclasses.replace(spec, budget="1h"), tmp_path) == "biggan-1h-2"
