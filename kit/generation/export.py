"""`kit sample`: pictures from a saved run, as a grid, a zip or a folder; the data is not needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kit import competition
from kit.data.contact import mosaic
from kit.errors import KitError
from kit.files import atomic, atomic_folder
from kit.generation.pack import DIGITS, no_progress, pack
from kit.generation.standing import draw
from kit.runs import generator_file, read_run
from kit.training import checkpoint, device

COLUMNS = 8


def sample_run(
    run: Path,
    *,
    out: Path,
    count: int,
    truncation: float | None = None,
    seed: int | None = None,
    candidate: int | None = None,
    trust: bool = False,
    progress: Callable[[int, int], None] = no_progress,
) -> Path:
    """Draws pictures from a run's averaged generator.

    Args:
        run: a run folder with its checkpoint.
        out: `FILE.png`: a grid of the generator's own pictures. `FILE.zip`: an archive as the competition asks for it.
            Anything without a suffix: a new folder of PNG files.
        count: pictures.
        truncation: threshold of the truncation trick; None: the recipe's.
        seed: of the latents; None: the run's own, whose first pictures are those of its `images.zip`.
        candidate: the average that had seen so many pictures; None: the one that `images.zip` is made of.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: not a run, a damaged checkpoint, one that brings code and is not trusted, another kind of file, or a
            folder that is there already.
    """
    if out.suffix not in (".png", ".zip", ""):
        raise KitError(f"{out}: the kit writes no {out.suffix} files", "give FILE.png, FILE.zip or a folder")
    if out.suffix == "" and out.exists():
        raise KitError(f"{out} exists already", "choose another folder, or remove it first")
    record = read_run(run)
    rules = competition.get(record["competition"])
    generator, recipe, shape, _ = checkpoint.load_generator(generator_file(run, pictures=candidate), trust=trust)
    where = device.choose().kind
    batches = draw(
        generator.to(where),
        recipe,
        count=count,
        size=rules.size if out.suffix == ".zip" else shape.size,
        seed=record["seed"] if seed is None else seed,
        device=where,
        truncation=truncation,
        precision=getattr(torch, record["device"]["precision"]),  # as the run's own zip was made
    )
    if out.suffix == ".zip":
        pack(batches, out, competition=rules, progress=lambda done, _: progress(done, count))
    elif out.suffix == ".png":
        with atomic(out) as file:
            mosaic(np.concatenate(list(batches)), columns=COLUMNS).save(file, "PNG")
    else:
        with atomic_folder(out) as folder:
            for index, picture in enumerate(picture for batch in batches for picture in batch):
                Image.fromarray(picture.squeeze()).save(folder / f"{index:0{DIGITS}}.png")
                progress(index + 1, count)
    return out
