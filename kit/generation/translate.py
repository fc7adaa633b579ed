"""Translating pictures: those of a prepared set for `images.zip`, and any photographs for `kit sample --inputs`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from kit.core.errors import KitError
from kit.core.files import atomic_folder
from kit.core.progress import Progress, no_progress
from kit.data.archives import BadFile
from kit.data.crops import resize_to_square
from kit.data.decoding import open_picture
from kit.data.grid import make_grid
from kit.generation.export import RunGenerator, require_writable, write_png
from kit.generation.generate import translate
from kit.generation.pack import pack
from kit.generation.pictures import Pixels

log = logging.getLogger(__name__)

MAX_SIDE = 1024
"""Larger photographs are reduced to this side, pixels: activations grow with the area."""

PAIRS = 4
"""Pairs of input and output in a row of a grid."""

JPEG_QUALITY = 95


def translate_folder(
    source: RunGenerator,
    *,
    inputs: Path,
    out: Path,
    count: int | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Translates any photographs with a run's generator.

    Args:
        source: the generator of a translation.
        inputs: folder of pictures, of any size; what is no picture is named and left out.
        out: `FILE.png`: a grid, each input beside its output. `FILE.zip`: an archive as the competition asks for it.
            Without a suffix: a new folder with a JPEG for each input, of the input's own size, named as it.
        count: the first so many; None: all.
        overwrite: whether a file that the kit did not make may be replaced.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: no translation, no pictures there, or an `out` that may not be written.
    """
    require_writable(out, (".png", ".zip", ""), overwrite=overwrite)
    if source.recipe.task != "translation":
        raise KitError(f"{source.run}: {source.recipe.model} draws pictures from noise", "leave --inputs out")
    files = _list_folder(inputs)
    photographs = islice(_read(files, inputs), count)  # one at a time: they may be large
    total = len(files) if count is None else min(count, len(files))
    if out.suffix == "":
        with atomic_folder(out) as folder:
            for done, (name, photograph) in enumerate(photographs, start=1):
                _translate_one(source, photograph).save(folder / f"{name}.jpg", quality=JPEG_QUALITY)
                progress(done, total)
        return out
    size = source.shape.size
    resized = {name: resize_to_square(p, (p.width, p.height), size) for name, p in photographs}
    names, squares = list(resized), np.stack(list(resized.values()))
    size = source.rules.size if out.suffix == ".zip" else size
    outputs = list(translate(source.generator, [squares], size=size, device=source.device, precision=source.precision))
    if out.suffix == ".zip":
        pack(outputs, out, competition=source.rules, count=len(names), names=names, progress=progress)
    else:
        write_png(make_pairs(squares, np.concatenate(outputs)), out)
    return out


def make_pairs(inputs: Pixels, outputs: Pixels) -> Image.Image:
    """A grid of inputs, each with its output beside it.

    Args:
        inputs: uint8 (N, H, W, C).
        outputs: the same shape.
    """
    tiles = np.stack([inputs, outputs], axis=1).reshape(-1, *inputs.shape[1:])
    return make_grid(tiles, columns=2 * PAIRS)


def _translate_one(source: RunGenerator, photograph: Image.Image) -> Image.Image:
    """A photograph at its own size; in between it is resized to the nearest that the network can take."""
    multiple = max(cast(int, getattr(module, "multiple", 1)) for module in source.generator.modules())
    scale = min(1.0, MAX_SIDE / max(photograph.size))
    width, height = (max(2, round(side * scale / multiple)) * multiple for side in photograph.size)
    pixels = np.asarray(photograph.resize((width, height), Image.Resampling.LANCZOS))
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().sub(127.5).div(127.5)
    with torch.inference_mode():
        y = source.generator.eval()(x.to(source.device))[0].float().cpu()
    made = y.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(made.squeeze()).convert("RGB").resize(photograph.size, Image.Resampling.LANCZOS)


def _list_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise KitError(f"{folder}: no such folder", "give --inputs a folder of photographs")
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _read(files: list[Path], folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The pictures among files, RGB, each with its name without suffix; others are named and left out."""
    names: set[str] = set()
    for path in files:
        try:
            image, _ = open_picture(path.read_bytes()).decode(3, least=MAX_SIDE, size=MAX_SIDE)
        except (BadFile, OSError) as error:
            log.warning("%s: left out (%s)", path, error)
            continue
        if path.stem in names:
            log.warning("%s: left out (another picture has this name)", path)
            continue
        names.add(path.stem)
        yield path.stem, image
    if not names:
        raise KitError(f"{folder}: no pictures there", "give --inputs a folder of photographs")
