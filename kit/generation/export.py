"""`kit sample`: pictures, films and strips from a saved run; the data is not needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from kit import competition
from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import atomic, atomic_folder
from kit.core.progress import Progress, no_progress
from kit.data.grid import mosaic
from kit.generation import classes
from kit.generation import interpolate as walks
from kit.generation.batch_norm_statistics import draw, settled
from kit.generation.generate import render
from kit.generation.pack import DIGITS, pack
from kit.generation.pictures import Pixels
from kit.generation.video import has_encoder, write_film
from kit.models.recipe import Recipe, SampleClasses
from kit.training import checkpoint, device
from kit.training.checkpoint import Shape
from kit.training.run_folder import generator_file, read_run

COLUMNS = 8
"""Pictures in a row of a grid."""

FILMS = (".gif", ".mp4")
"""Suffixes of films."""

FRAMES, RATE = 200, 20
"""Frames of a walk, and how many a second: ten seconds, of which no one's GIF is too large to be sent."""

STATIONS = 10
"""Pictures of a walk that is written as a strip."""

TRUNCATIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, math.inf)
"""Thresholds of a strip; infinity is none."""

READABLE = 56
"""Pixels a column of a strip is at least wide, so that the number above it fits."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An averaged generator of a run, with what drawing from it takes."""

    generator: nn.Module
    recipe: Recipe
    shape: Shape
    rules: Competition
    seed: int
    device: torch.device
    precision: torch.dtype  # of the run's own zip

    @classmethod
    def load(cls, run: Path, *, seed: int | None, candidate: int | None = None, trust: bool = False) -> Saved:
        """Reads a run folder.

        Args:
            run: with its checkpoint.
            seed: of the latents; None: the run's own.
            candidate: the average that had seen so many pictures; None: the one that `images.zip` is made of.
            trust: whether the code of a model file that made the run may be run.

        Raises:
            KitError: not a run, a damaged checkpoint, or one that brings code and is not trusted.
        """
        record = read_run(run)
        generator, recipe, shape, _ = checkpoint.load_generator(generator_file(run, pictures=candidate), trust=trust)
        where = device.choose().kind
        return cls(
            generator=generator.to(where),
            recipe=recipe,
            shape=shape,
            rules=competition.get(record.competition),
            seed=record.seed if seed is None else seed,
            device=where,
            precision=getattr(torch, record.device.precision),
        )

    def draw(
        self, count: int, *, size: int | None = None, truncation: float | None = None, labels: Sequence[int] | None
    ) -> Iterator[Pixels]:
        """Batches of `count` pictures; of the generator's own size unless another is asked for."""
        return draw(
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

    def find(self, class_name: str) -> int:
        """The index of a class by its name."""
        return classes.find(class_name, self.recipe, self.shape)

    def labels(self, count: int, *, class_name: str | None, how: SampleClasses | None = None) -> list[int] | None:
        """The class of each picture: all of one breed, or as the recipe or `how` wants them."""
        if class_name is not None:
            return [self.find(class_name)] * count
        if how is not None and not self.recipe.conditional:
            raise KitError(f"{self.recipe.model} was not told the classes", "leave --classes out")
        return classes.labels(self.recipe, self.shape, count, classes=how)

    def frames(
        self, generator: nn.Module, z: Tensor, y: Tensor, *, progress: Progress = no_progress
    ) -> Iterator[Pixels]:
        """The pictures (N, H, W, C) of each frame.

        Args:
            generator: this one, or one made of it (see `kit.generation.walks.between`).
            z: latents, (F, N, latent).
            y: classes, (F, N).
            progress: called with (pictures made, pictures in all).
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
        waiting: list[Pixels] = []
        done = 0
        for batch in batches:
            done += len(batch)
            progress(done, frames * count)
            waiting = [np.concatenate([*waiting, batch])]
            while len(waiting[0]) >= count:
                yield waiting[0][:count]
                waiting = [waiting[0][count:]]


def sample_run(
    run: Path,
    *,
    out: Path,
    count: int,
    truncation: float | None = None,
    class_name: str | None = None,
    how: SampleClasses | None = None,
    seed: int | None = None,
    candidate: int | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Draws pictures from a run's averaged generator.

    Args:
        run: a run folder with its checkpoint.
        out: `FILE.png`: a grid of the generator's own pictures. `FILE.zip`: an archive as the competition asks for it.
            Anything without a suffix: a new folder of PNG files.
        count: pictures.
        truncation: threshold of the truncation trick; None: the recipe's.
        class_name: the class to draw, for a conditional model; None: all of them.
        how: how often which class comes; None: as the recipe says.
        seed: of the latents; None: the run's own, whose first pictures are those of its `images.zip`.
        candidate: the average that had seen so many pictures; None: the one that `images.zip` is made of.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: not a run, a damaged checkpoint, one that brings code and is not trusted, an unknown class, another
            kind of file, or a folder that is there already.
    """
    _require_free(out, (".png", ".zip", ""))
    saved = Saved.load(run, seed=seed, candidate=candidate, trust=trust)
    size = saved.rules.size if out.suffix == ".zip" else None
    batches = saved.draw(
        count, size=size, truncation=truncation, labels=saved.labels(count, class_name=class_name, how=how)
    )
    if out.suffix == ".zip":
        pack(batches, out, competition=saved.rules, progress=lambda done, _: progress(done, count))
    elif out.suffix == ".png":
        with atomic(out) as file:
            mosaic(np.concatenate(list(batches)), columns=COLUMNS).save(file, "PNG")
    else:
        with atomic_folder(out) as folder:
            for index, picture in enumerate(picture for batch in batches for picture in batch):
                Image.fromarray(picture.squeeze()).save(folder / f"{index:0{DIGITS}}.png")
                progress(index + 1, count)
    return out


def walk_run(
    run: Path,
    *,
    out: Path,
    count: int,
    interpolate: bool,
    truncation: float | None = None,
    class_name: str | None = None,
    to_class: str | None = None,
    seed: int | None = None,
    candidate: int | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Walks through what a run's generator knows, `count` walks side by side.

    The walks begin at the pictures that `sample_run` draws. A film comes back to where it began, so that it can run
    for ever; a strip of a walk from one class to another ends at that one.

    Args:
        run: a run folder with its checkpoint.
        out: `FILE.gif` or `FILE.mp4`: a film. `FILE.png`: a strip, each row a walk. Anything without a suffix: a new
            folder with the film's frames as PNG files.
        count: walks.
        interpolate: go from latent to latent; else they stay where they are.
        truncation: threshold of the truncation trick; None: the recipe's.
        class_name: the class, for a conditional model; with `to_class` the one to begin with.
        to_class: the class to go to.
        seed: of the latents; None: the run's own.
        candidate: the average that had seen so many pictures; None: the one that `images.zip` is made of.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: as for `sample_run`; an MP4 without PyAV; `to_class` without `class_name`.
    """
    _require_free(out, (*FILMS, ".png", ""))
    if out.suffix == ".mp4" and not has_encoder():
        raise KitError(f"{out}: MP4 needs PyAV", 'install it with `pip install "kit[video]"`, or write a .gif')
    if to_class is not None and class_name is None:
        raise KitError(f"--to-class {to_class}: from which class?", "name the first class with --class NAME")
    saved = Saved.load(run, seed=seed, candidate=candidate, trust=trust)
    strip = out.suffix == ".png"
    frames = STATIONS if strip else FRAMES
    labels = saved.labels(count, class_name=class_name)
    ends = None if class_name is None or to_class is None else (saved.find(class_name), saved.find(to_class))
    generator, threshold = settled(
        saved.generator,
        saved.recipe,
        seed=saved.seed,
        device=saved.device,
        precision=saved.precision,
        truncation=truncation,
    )
    way = walks.loop if interpolate else walks.still
    z = way(saved.recipe.latent, count=count, frames=frames, seed=saved.seed, truncation=threshold)
    y = torch.tensor(labels if labels is not None else [0] * count).expand(frames, -1)
    if ends:
        shares = torch.linspace(0, 1, frames, dtype=torch.float64) if strip else walks.there_and_back(frames)
        generator = walks.between(generator, ends, shares)
        y = torch.arange(frames)[:, None].expand(-1, count)
    pictures = saved.frames(generator, z, y, progress=progress)
    if strip:
        rows = np.stack(list(pictures)).swapaxes(0, 1)  # (walks, stations, H, W, C)
        with atomic(out) as file:
            mosaic(rows.reshape(-1, *rows.shape[2:]), columns=frames).save(file, "PNG")
        return out
    columns = math.ceil(math.sqrt(count))
    sheets = (mosaic(frame, columns=columns).convert("RGB") for frame in pictures)
    if out.suffix in FILMS:
        write_film(out, sheets, count=frames, rate=RATE)
    else:
        with atomic_folder(out) as folder:
            for index, sheet in enumerate(sheets):
                sheet.save(folder / f"{index:0{DIGITS}}.png")
    return out


def truncation_strip(
    run: Path,
    *,
    out: Path,
    count: int,
    truncations: Sequence[float] = TRUNCATIONS,
    class_name: str | None = None,
    seed: int | None = None,
    candidate: int | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Draws latents at several truncations: a row for each latent, a column for each threshold, with its number.

    Args:
        run: a run folder with its checkpoint.
        out: `FILE.png`.
        count: latents, the first of those that `sample_run` draws.
        truncations: thresholds, infinity for none.
        class_name: the class to draw, for a conditional model.
        seed: of the latents; None: the run's own.
        candidate: the average that had seen so many pictures; None: the one that `images.zip` is made of.
        trust: whether the code of a model file that made the run may be run.
        progress: called with (pictures made, pictures in all).

    Returns:
        `out`.

    Raises:
        KitError: as for `sample_run`.
    """
    _require_free(out, (".png",))
    saved = Saved.load(run, seed=seed, candidate=candidate, trust=trust)
    labels = saved.labels(count, class_name=class_name)
    columns = []
    for done, threshold in enumerate(truncations, 1):
        columns.append(np.concatenate(list(saved.draw(count, truncation=threshold, labels=labels))))
        progress(done * count, len(truncations) * count)
    rows = np.stack(columns, axis=1)  # (latents, thresholds, H, W, C)
    scale = max(1, math.ceil(READABLE / saved.shape.size))
    sheet = mosaic(rows.reshape(-1, *rows.shape[2:]), columns=len(truncations), scale=scale)
    with atomic(out) as file:
        _headed(sheet, ["all" if t == math.inf else f"±{t:g}" for t in truncations]).save(file, "PNG")
    return out


def _headed(sheet: Image.Image, texts: Sequence[str]) -> Image.Image:
    """A sheet with a line of text above its columns."""
    line = 20
    whole = Image.new(sheet.mode, (sheet.width, sheet.height + line), "white")
    whole.paste(sheet, (0, line))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for index, text in enumerate(texts):
        pen.text(((index + 0.5) * sheet.width / len(texts), line / 2), text, fill="black", font=font, anchor="mm")
    return whole


def _require_free(out: Path, suffixes: Sequence[str]) -> None:
    if out.suffix not in suffixes:
        kinds = [f"FILE{suffix}" if suffix else "a folder" for suffix in suffixes]
        known = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        raise KitError(f"{out}: no kind of file for this", f"give {known}")
    if out.suffix == "" and out.exists():
        raise KitError(f"{out} exists already", "choose another folder, or remove it first")
