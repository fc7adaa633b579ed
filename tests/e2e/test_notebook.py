"""The live panel in a real notebook's kernel: what a reader of the notebook finds in its cells afterwards."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Jupyter's kernels start otherwise there")

TINY = "width=4", "latent=8", "batch=4"
FLAGS = " ".join(f"--set {setting}" for setting in TINY)

SHELL = f"!{sys.executable} -m kit train --model dcgan --images 64 --count 12 --data set --out shell {FLAGS}"

PYTHON = f"""
from pathlib import Path
from kit.commands.train import train
from kit.run import budget
budget.tick_seconds = lambda budget_s: 0.0  # a tick a step
train("dcgan", images=48, count=12, data=Path("set"), out=Path("python"), settings={list(TINY)})
"""


@pytest.fixture(scope="module")
def cells(make_set, tmp_path_factory, request):
    """The outputs of each cell, after the whole notebook has run in one kernel."""
    folder = tmp_path_factory.mktemp("notebook")
    make_set(folder / "set", n=16, size=16)
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (SHELL, PYTHON)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(request.config.rootpath), *sys.path])))
        patch.delenv("NO_COLOR", raising=False)
        nbclient.NotebookClient(
            page, kernel_name="python3", timeout=500, resources={"metadata": {"path": str(folder)}}
        ).execute()
    return folder, [cell.outputs for cell in page.cells]


def streams(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def ticks(run):
    return [json.loads(line)["pictures"] for line in (run / "progress.jsonl").read_text().splitlines()]


def test_under_an_exclamation_mark_there_is_a_line_a_tick_and_no_control_code(cells):
    folder, (shell, _) = cells
    text = streams(shell)
    assert "\x1b" not in text
    assert "\b" not in text
    lines = text.replace("\r\n", "\n").split("\n")
    assert not any("\r" in line for line in lines)
    told = [int(m[1].replace(",", "")) for line in lines if (m := re.match(r"([\d,]+) pictures \(\d+%\)", line))]
    assert told == ticks(folder / "shell")
    assert len(lines) < len(told) + 12
    assert lines[-2:] == ["shell", ""]


def test_in_the_kernel_itself_one_panel_is_written_anew(cells):
    folder, (_, python) = cells
    shown = [output.data for output in python if output.output_type == "display_data"]
    panels = [data for data in shown if "dcgan on set, seed 0" in data["text/html"]]
    assert len(ticks(folder / "python")) == 12
    assert len(panels) == 1  # each tick has replaced the one before
    assert len(shown) == len(panels)  # and nothing beside it
    html, plain = panels[0]["text/html"], panels[0]["text/plain"]
    assert "generating and packing: 12 of 12 pictures" in html
    assert re.search(r"loss D\s+\d\.\d{3}\s+[▁▂▃▄▅▆▇█]{12}", html)
    assert "\x1b" not in html + plain
    said = streams(python)
    assert "\x1b" not in said
    assert len(said.splitlines()) < 12
    assert said.splitlines()[-1] == "python"
