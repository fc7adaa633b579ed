"""`kit sample`: pictures and videos from a saved run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor, nn

from kit import competition
from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import atomic, atomic_folder
from kit.core.progress import Progress, no_progress
from kit.data.grid import make_grid
from kit.generation.generate import generate, prepare_generator, render
from kit.generation.latents import (
    class_labels,
    find_class,
    first_latents,
    forth_and_back,
    interpolate_classes,
    loop_latents,
)
from kit.generation.pack import DIGITS, is_packed, pack
from kit.generation.pictures import Pixels
from kit.generation.video import MARK, VIDEO_SUFFIXES, require_encoder, write_video
from kit.models.recipe import Recipe, SampleClasses
from kit.training import checkpoint, device
from kit.training.checkpoint import Shape
from kit.training.run_folder import generator_file, read_run

COLUMNS = 8
"""Pictures in a row of a grid."""

FRAMES, RATE = 200, 20
"""Frames of a video, and frames a second."""

STEPS = 10
"""Pictures in a row of a grid that shows an interpolation."""

TRUNCATIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, math.inf)
"""Columns of the truncation grid; infinity is no truncation."""

HEADED_WIDTH = 56
"""Pixels a column is at least wide, so that the number above it fits."""


@dataclass(frozen=True, kw_only=True)
class RunGenerator:
    """The EMA of G of a run, with what is needed to generate from it; the data is not needed."""

    run: Path
    generator: nn.Module
    recipe: Recipe
    shape: Shape
    rules: Competition
    seed: int
    device: torch.device
    precision: torch.dtype  # of the run's own zip

    @classmethod
    def load(
        cls,
        run: Path,
        *,
        seed: int | None = None,
        candidate: int | None = None,
        raw: bool = False,
        trust: bool = False,
    ) -> RunGenerator:
        """Reads it from the run's folder.

        Args:
            run: the folder, with its checkpoint.
            seed: of the latents; None: the run's own, whose first pictures are those of its `images.zip`.
            candidate: the checkpoint after so many pictures; None: the one that `images.zip` is made of.
            raw: G itself, not its average.
            trust: whether the code of a custom model may be run.

        Raises:
            KitError: not a run, a damaged checkpoint, or one with code that is not trusted.
        """
        record = read_run(run)
        file = generator_file(run, pictures=candidate, raw=raw)
        generator, recipe, shape, _ = checkpoint.load_generator(file, trust=trust)
        where = device.choose().kind
        return cls(
            run=run,
            generator=generator.to(where),
            recipe=recipe,
            shape=shape,
            rules=competition.get(record.competition),
            seed=record.seed if seed is None else seed,
            device=where,
            precision=getattr(torch, record.device.precision),
        )

    def generate(
        self, count: int, *, size: int | None = None, truncation: float | None = None, labels: Sequence[int] | None
    ) -> Iterator[Pixels]:
        """Batches of `count` pictures, of the generator's own size unless another is given."""
        return generate(
            self.generator,
            self.recipe,
            count=count,
            size=size or self.shape.size,
            seed=self.seed,
            device=self.device,
            truncation=truncation,
            labels=labels,
            precision=self.precision,
        )

    def prepare(self, truncation: float | None = None) -> tuple[nn.Module, float | None]:
        """The generator ready to `render`, and the truncation of its latents."""
        return prepare_generator(
            self.generator,
            self.recipe,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            truncation=truncation,
        )

    def labels(self, count: int, *, class_name: str | None, how: SampleClasses | None = None) -> list[int] | None:
        """The class of each picture: all of one class, or as the recipe or `how` says."""
        if class_name is not None:
            return [find_class(class_name, self.recipe, self.shape)] * count
        if how is not None and not self.recipe.conditional:
            raise KitError(f"{self.recipe.model} is an unconditional model", "leave --classes out")
        return class_labels(self.recipe, self.shape, count, how=how)

    def render_frames(
        self, generator: nn.Module, z: Tensor, y: Tensor, *, progress: Progress = no_progress
    ) -> Iterator[Pixels]:
        """The pictures (N, H, W, C) of each frame: of latents z (F, N, latent) and labels y (F, N).

        The generator is from `prepare`, or made from that by `interpolate_classes`.
        """
        frames, count = y.shape
        batches = render(
            generator,
            z.reshape(frames * count, -1),
            y.reshape(-1),
            size=self.shape.size,
            device=self.device,
            precision=self.precision,
        )
        pictures = (picture for batch in batches for picture in batch)
        for frame in range(1, frames + 1):
            yield np.stack(list(islice(pictures, count)))
            progress(frame * count, frames * count)


def sample_pictures(
    source: RunGenerator,
    *,
    out: Path,
    count: int,
    truncation: float | None = None,
    class_name: str | None = None,
    how: SampleClasses | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Writes pictures of a run's generator.

    Args:
        source: the generator.
        out: `FILE.png`: a grid of pictures. `FILE.zip`: an archive as the competition asks for it. Without a suffix:
            a new folder of PNG files.
        count: number of pictures.
        truncation: of the latents; None: the recipe's.
        class_name: the class, for a conditional model; None: all classes.
        how: the frequency of the classes; None: the recipe's.
        overwrite: whether a file that the kit did not make may be replaced.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: a translation, an unknown class, another kind of file, or an `out` that exists and may not be
            replaced.
    """
    require_writable(out, (".png", ".zip", ""), overwrite=overwrite)
    _require_latents(source)
    size = source.rules.size if out.suffix == ".zip" else None
    labels = source.labels(count, class_name=class_name, how=how)
    batches = source.generate(count, size=size, truncation=truncation, labels=labels)
    if out.suffix == ".zip":
        pack(batches, out, competition=source.rules, count=count, progress=progress)
    elif out.suffix == ".png":
        write_png(make_grid(np.concatenate(list(batches)), columns=COLUMNS), out)
    else:
        pictures = (Image.fromarray(picture.squeeze()) for batch in batches for picture in batch)
        _write_folder(pictures, out, count=count, progress=progress)
    return out


def sample_interpolation(
    source: RunGenerator,
    *,
    out: Path,
    count: int,
    move_latents: bool,
    truncation: float | None = None,
    class_name: str | None = None,
    to_class: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Writes `count` interpolations of a run's generator, side by side; otherwise as `sample_pictures`.

    They begin at the pictures that `sample_pictures` writes. A video ends where it began, so that it can repeat; a grid
    of an interpolation from one class to another ends at that class.

    Args:
        out: `FILE.gif` or `FILE.mp4`: a video. `FILE.png`: a grid, one interpolation a row. Without a suffix: a new
            folder with the video's frames as PNG files.
        move_latents: interpolate between latents; false: the latents stay the same.
        class_name: the class, for a conditional model; with `to_class` the one to begin with.
        to_class: the class to interpolate to.

    Raises:
        KitError: as for `sample_pictures`; an MP4 without PyAV; `to_class` without `class_name`.
    """
    require_writable(out, (*VIDEO_SUFFIXES, ".png", ""), overwrite=overwrite)
    if out.suffix == ".mp4":
        require_encoder(out)
    if to_class is not None and class_name is None:
        raise KitError(f"--to-class {to_class}: from which class?", "name the first class with --class NAME")
    _require_latents(source)
    latent, labels = source.recipe.latent, source.labels(count, class_name=class_name)
    as_grid = out.suffix == ".png"
    frames = STEPS if as_grid else FRAMES
    generator, threshold = source.prepare(truncation)
    if move_latents:
        z = loop_latents(latent, count=count, frames=frames, seed=source.seed, truncation=threshold)
    else:
        z = first_latents(latent, count=count, seed=source.seed, truncation=threshold).expand(frames, -1, -1)
    y = torch.tensor(labels or [0] * count).expand(frames, -1)
    if class_name is not None and to_class is not None:
        start, end = (find_class(name, source.recipe, source.shape) for name in (class_name, to_class))
        t = torch.linspace(0, 1, frames, dtype=torch.float64) if as_grid else forth_and_back(frames)
        generator = interpolate_classes(generator, start, end, t)
        y = torch.arange(frames)[:, None].expand(-1, count)
    pictures = source.render_frames(generator, z, y, progress=progress)
    if as_grid:
        rows = np.stack(list(pictures)).swapaxes(0, 1)  # (interpolations, steps, H, W, C)
        write_png(make_grid(rows.reshape(-1, *rows.shape[2:]), columns=frames), out)
        return out
    columns = math.ceil(math.sqrt(count))
    grids = (make_grid(frame, columns=columns).convert("RGB") for frame in pictures)
    if out.suffix in VIDEO_SUFFIXES:
        write_video(out, grids, count=frames, rate=RATE)
    else:
        _write_folder(grids, out, count=frames)
    return out


def sample_truncations(
    source: RunGenerator,
    *,
    out: Path,
    count: int,
    class_name: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Writes a grid of the same latents at several truncations: a row for each latent, a column for each truncation.

    `out` is `FILE.png`, `count` the number of latents; otherwise as `sample_pictures`.
    """
    require_writable(out, (".png",), overwrite=overwrite)
    _require_latents(source)
    labels = source.labels(count, class_name=class_name)
    columns = []
    for done, threshold in enumerate(TRUNCATIONS, 1):
        columns.append(np.concatenate(list(source.generate(count, truncation=threshold, labels=labels))))
        progress(done * count, len(TRUNCATIONS) * count)
    rows = np.stack(columns, axis=1)  # (latents, truncations, H, W, C)
    scale = max(1, math.ceil(HEADED_WIDTH / source.shape.size))
    grid = make_grid(rows.reshape(-1, *rows.shape[2:]), columns=len(TRUNCATIONS), scale=scale)
    write_png(_with_headings(grid, ["none" if t == math.inf else f"±{t:g}" for t in TRUNCATIONS]), out)
    return out


def _require_latents(source: RunGenerator) -> None:
    if source.recipe.task == "translation":
        raise KitError(
            f"{source.run}: {source.recipe.model} translates pictures", "add --inputs FOLDER, with photographs"
        )


def _write_folder(pictures: Iterable[Image.Image], out: Path, *, count: int, progress: Progress = no_progress) -> None:
    with atomic_folder(out) as folder:
        for index, picture in enumerate(pictures):
            picture.save(folder / f"{index:0{DIGITS}}.png")
            progress(index + 1, count)


def require_writable(out: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Makes sure that a file of this kind can be written.

    Raises:
        KitError: another suffix, a folder that exists, or a file that exists and that `kit sample` did not make.
    """
    if out.suffix not in suffixes:
        kinds = [f"FILE{suffix}" if suffix else "a folder" for suffix in suffixes]
        known = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        raise KitError(f"{out}: not a kind of file that can be written here", f"give {known}")
    if not out.exists():
        return
    if out.suffix == "" or out.is_dir():
        raise KitError(f"{out} exists already", "choose another name, or remove it first")
    if not overwrite and not _made_by_kit(out):
        raise KitError(f"{out} exists, and the kit did not make it", "choose another name, or add --overwrite")


def _made_by_kit(path: Path) -> bool:
    if path.suffix == ".zip":
        return is_packed(path)
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(-min(4096, path.stat().st_size), 2)
        return MARK in head + file.read()


def write_png(picture: Image.Image, out: Path) -> None:
    """Writes a PNG that says that the kit made it, so that `kit sample` may replace it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MARK.decode())
    with atomic(out) as file:
        picture.save(file, "PNG", pnginfo=info)


def _with_headings(grid: Image.Image, texts: Sequence[str]) -> Image.Image:
    """A grid with a line of text above its columns."""
    line = 20
    whole = Image.new(grid.mode, (grid.width, grid.height + line), "white")
    whole.paste(grid, (0, line))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for index, text in enumerate(texts):
        pen.text(((index + 0.5) * grid.width / len(texts), line / 2), text, fill="black", font=font, anchor="mm")
    return whole
