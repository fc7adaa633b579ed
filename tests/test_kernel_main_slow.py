"""The same as in test_kernel_main.py for a notebook, and for two processes that stand in for T4 ×2."""

from __future__ import annotations

import dataclasses
import json
import sys

import kaggle_image
import pytest
from dog_files import LAYOUTS, clean_dogs, photo

from kit.competition import COMPETITIONS, DEFAULT
from kit.generation.validate import check
from kit.kaggle import kernels as kernel
from kit.kaggle.kernel_spec import KernelSpec
from kit.models.registry import of_task

pytestmark = pytest.mark.slow

DOGS = COMPETITIONS[DEFAULT]
COUNT = 16
SPEC = KernelSpec(
    slug="tiny-kernel",
    model="dcgan",
    budget="60s",
    gpus="none",
    count=COUNT,
    settings=("width=4", "latent=8", "batch=8"),
)


@pytest.fixture
def mounts(tmp_path):
    LAYOUTS["folders in folders"](clean_dogs(40), tmp_path / "input" / DOGS.slug)
    return tmp_path / "input"


def test_two_processes_share_the_training(mounts, tmp_path):
    built = kernel.build(dataclasses.replace(SPEC, gpus="t4x2", budget="90s"), tmp_path / "kernels")
    done = kaggle_image.run(built.code, folder=tmp_path / "run", mounts=mounts, alone=False)
    assert done.returncode == 0, done.stdout
    assert check(tmp_path / "run/working/images.zip", competition=DOGS, count=COUNT).ok
    record = json.loads((tmp_path / "run/working/run.json").read_text())
    assert record["parts"][0]["processes"] == 2
    assert record["kernel"]["slug"] == SPEC.slug
    assert f"{COUNT} pictures, valid for {DOGS.slug}" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("gpus", ["none", "t4x2"])
@pytest.mark.parametrize("model", of_task("translation"))
def test_photographs_are_translated_by_one_process_and_by_two(model, gpus, tmp_path):
    monet = COMPETITIONS["gan-getting-started"]
    for name, count in (("monet_jpg", 12), ("photo_jpg", COUNT)):
        (tmp_path / "input" / monet.slug / name).mkdir(parents=True)
        for k in range(count):
            (tmp_path / "input" / monet.slug / name / f"{k:x}.jpg").write_bytes(
                photo(256, 256, seed=len(name) * 99 + k)
            )
    settings = ("width=4", "generator=unet", "batch=4")
    spec = KernelSpec(
        slug="tiny-monet", model=model, budget="3m", gpus=gpus, count=COUNT, competition=monet.slug, settings=settings
    )
    built = kernel.build(spec, tmp_path / "kernels")
    done = kaggle_image.run(built.code, folder=tmp_path / "run", mounts=tmp_path / "input", alone=gpus == "none")
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert check(tmp_path / "run/working/images.zip", competition=monet, count=COUNT).ok
    record = json.loads((tmp_path / "run/working/run.json").read_text())
    assert record["parts"][0]["processes"] == (1 if gpus == "none" else 2)
    assert record["pictures"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="Jupyter's kernels start otherwise there")
def test_a_notebook_runs_cell_by_cell_and_shows_the_pictures(mounts, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    built = kernel.build(dataclasses.replace(SPEC, notebook=True), tmp_path / "kernels")
    folder = tmp_path / "run"
    kaggle_image.make_folders(folder)
    words = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {
        "argv": kaggle_image.command(folder, *words, more=("ipykernel",)),
        "display_name": "Kaggle's image",
        "language": "python",
        "env": kaggle_image.environment(folder, mounts),
    }
    spec = tmp_path / "jupyter" / "kernels" / "image" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(described))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    page = nbformat.read(built.code, as_version=4)
    nbclient.NotebookClient(
        page, kernel_name="image", timeout=500, resources={"metadata": {"path": str(folder / "empty")}}
    ).execute()
    outputs = [output for cell in page.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    assert shown == ["image/png", "image/gif"]
    log = "".join(output.get("text", "") for output in outputs)
    assert f"{COUNT} pictures, valid for {DOGS.slug}" in log
    assert not any(output.output_type == "error" for output in outputs)
    assert check(folder / "working/images.zip", competition=DOGS, count=COUNT).ok
    assert not (folder / kaggle_image.NETWORK).exists()
