"""Checkpoints: everything training changes, in one file that loads without running code from it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kit.core.errors import KitError
from kit.core.files import atomic
from kit.models import custom, registry
from kit.models.recipe import Recipe
from kit.training.train_state import TrainState

VERSION = 1


@dataclass(frozen=True)
class Shape:
    """What the networks were built for, beside the recipe."""

    size: int  # side of the pictures, pixels
    channels: int  # 1 or 3
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()  # pictures of each class that are trained on, to sample in their proportions


def save(path: Path, players: TrainState, recipe: Recipe, shape: Shape) -> None:
    """Writes `checkpoint.pt`, whole or not at all.

    Raises:
        KitError: the disk is full.
    """
    record = {
        "version": VERSION,
        "recipe": dataclasses.asdict(recipe),
        "shape": dataclasses.asdict(shape),
        "pictures": players.pictures,
        "G": players.G.state_dict(),
        "D": players.D.state_dict(),
        "ema": players.ema.module.state_dict(),
        "opt_G": players.opt_G.state_dict(),
        "opt_D": players.opt_D.state_dict(),
        "scaler_G": players.scaler_G.state_dict(),
        "scaler_D": players.scaler_D.state_dict(),
    }
    with atomic(path) as file:
        torch.save(record, file)


def save_generator(checkpoint: Path, out: Path) -> None:
    """Writes what of a checkpoint it takes to generate: the averaged G. `load_generator` reads it, no run can go on.

    Args:
        checkpoint: as `save` wrote it.
        out: the smaller file.

    Raises:
        KitError: no such checkpoint, a damaged one, or a full disk.
    """
    record = _read(checkpoint)
    kept = {key: record.get(key) for key in ("version", "recipe", "shape", "pictures", "ema")}
    with atomic(out) as file:
        torch.save(kept, file)


def save_average(path: Path, players: TrainState, recipe: Recipe, shape: Shape) -> None:
    """Writes the averaged G of players in the middle of their training, as `save_generator` does of a checkpoint.

    Raises:
        KitError: the disk is full.
    """
    record = {
        "version": VERSION,
        "recipe": dataclasses.asdict(recipe),
        "shape": dataclasses.asdict(shape),
        "pictures": players.pictures,
        "ema": players.ema.module.state_dict(),
    }
    with atomic(path) as file:
        torch.save(record, file)


def load_average(path: Path, like: nn.Module) -> nn.Module:
    """The averaged G of a file that this run wrote, on the device of its present average.

    Args:
        path: what `save`, `save_generator` or `save_average` wrote.
        like: the present average; it is copied, and stays as it is.

    Raises:
        KitError: no such file, or a damaged one.
    """
    generator = copy.deepcopy(like)
    try:
        generator.load_state_dict(_read(path)["ema"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise KitError(f"{path}: damaged checkpoint ({error})", "take another candidate") from error
    return generator


def load_generator(path: Path, *, trust: bool = False) -> tuple[nn.Module, Recipe, Shape, int]:
    """The averaged generator of a checkpoint, on the CPU and ready to sample.

    Args:
        path: the file.
        trust: whether the code of a model file that made it may be run (`kit.models.custom`).

    Returns:
        (generator, recipe, shape, pictures it had seen).

    Raises:
        KitError: no such file, a damaged one, one of another version, or one that brings code and is not trusted.
    """
    record = _read(path)
    try:
        recipe = custom.trusted(record["recipe"], trust=trust, where=path)
        shape = Shape(**{**record["shape"], "classes": tuple(record["shape"]["classes"])})
        generator, _ = registry.build(recipe, size=shape.size, channels=shape.channels, classes=len(shape.classes))
        generator.load_state_dict(record["ema"])
        # As in training: batch norm sums another memory layout in another order, and the last bits would differ.
        generator = generator.to(memory_format=torch.channels_last)
        return generator.eval().requires_grad_(False), recipe, shape, int(record["pictures"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise KitError(f"{path}: damaged checkpoint ({error})", "train again, or take another run") from error


def load_players(path: Path, players: TrainState, recipe: Recipe, shape: Shape) -> None:
    """Puts a checkpoint's state into players that were built from the same recipe, to go on training.

    Nothing random needs to be restored: what a step draws depends on the seed and the pictures seen alone.

    Raises:
        KitError: no such file, a damaged one, or one of another recipe or version.
    """
    record = _read(path)
    if record.get("recipe") != dataclasses.asdict(recipe) or record.get("shape") != dataclasses.asdict(shape):
        raise KitError(f"{path}: a checkpoint of another recipe or set", "start a new run")
    if "D" not in record:
        raise KitError(f"{path}: the generator alone, as a kernel leaves it", "start a new run")
    try:
        players.G.load_state_dict(record["G"])
        players.D.load_state_dict(record["D"])
        players.ema.module.load_state_dict(record["ema"])
        players.opt_G.load_state_dict(record["opt_G"])
        players.opt_D.load_state_dict(record["opt_D"])
        for key in ("scaler_G", "scaler_D"):
            if scale := record.get(key):  # empty where the run comes from a device that needs none
                getattr(players, key).load_state_dict(scale)
        players.pictures = int(record["pictures"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise KitError(f"{path}: damaged checkpoint ({error})", "start a new run") from error


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over a network's parameters and buffers, by name; equal weights give it on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise KitError(f"{path}: no such checkpoint", "is this the folder of a run?") from None
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise KitError(f"{path}: damaged checkpoint", "train again, or take another run") from error
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise KitError(f"{path}: a checkpoint of version {version}", f"this kit reads version {VERSION}")
    return dict(record)
