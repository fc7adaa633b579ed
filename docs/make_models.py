"""Makes the pictures of docs/models.md from what `bench/learning.py mnist --out FOLDER` kept: digits beside losses.

    python docs/make_models.py FOLDER

What `bench/learning.py dogs --out FOLDER` kept becomes one picture of all its rows, for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from kit.models.registry import MODELS

IMAGES = Path(__file__).parent / "images" / "models"
GRID_LINES = 6  # of the grids that the bench keeps
D, G = "#0065b3", "#b04200"  # as on the pages of kit report


def draw(name: str, folder: Path) -> None:
    """One row's picture."""
    ticks = json.loads((folder / f"mnist-{name}.json").read_text())["ticks"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), dpi=80, width_ratios=(5, 4), layout="constrained")
    left.imshow(Image.open(folder / f"mnist-{name}.png"), cmap="gray")
    left.axis("off")
    pictures = [tick["pictures"] / 1000 for tick in ticks]
    right.plot(pictures, [tick["loss_d"] for tick in ticks], color=D, label="D")
    right.plot(pictures, [tick["loss_g"] for tick in ticks], color=G, label="G")
    right.set_xlabel("pictures seen, thousands")
    right.set_ylabel("loss")
    right.legend(frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64).save(IMAGES / f"{name}.png", optimize=True)


def beside(folder: Path, names: list[str], *, lines: int = 2) -> None:
    """The first dogs of each row, one row below the other."""
    figure, axes = plt.subplots(len(names), figsize=(7, 1.5 * len(names)), dpi=100, layout="constrained", squeeze=False)
    for name, plot in zip(names, axes.flat, strict=True):
        grid = Image.open(folder / f"dogs-{name}.png").convert("RGB")
        plot.imshow(grid.crop((0, 0, grid.width, grid.height * lines // GRID_LINES)))
        plot.set_ylabel(name)
        plot.set_xticks([])
        plot.set_yticks([])
        plot.spines[:].set_visible(False)
    figure.savefig(IMAGES / "dogs.jpg", pil_kwargs={"quality": 88})
    plt.close(figure)


def main() -> None:
    """Draws every row that the folder has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        if (folder / f"mnist-{name}.json").exists():
            draw(name, folder)
    if dogs := [name for name in MODELS if (folder / f"dogs-{name}.png").exists()]:
        beside(folder, dogs)


if __name__ == "__main__":
    main()
