"""Checkpoints: everything that training changes, in one file that loads without running code from it."""

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

VERSION = 2


@dataclass(frozen=True)
class Shape:
    """What the networks were built for, beside the recipe."""

    size: int  # side of the pictures, pixels
    channels: int  # 1 or 3
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()  # pictures of each class that are trained on, to sample in their proportions


def save(path: Path, state: TrainState, recipe: Recipe, shape: Shape) -> None:
    """Writes `checkpoint.pt`, whole or not at all.

    Raises:
        KitError: the disk is full.
    """
    record = _generators(state, recipe, shape) | {
        "networks": {name: network.state_dict() for name, network in state.networks.items()},
        "optimizers": {player: optimizer.state_dict() for player, optimizer in state.optimizers.items()},
        "scalers": {player: scaler.state_dict() for player, scaler in state.scalers.items()},
        "extra": state.extra,
    }
    write(path, record)


def save_ema(path: Path, state: TrainState, recipe: Recipe, shape: Shape, *, raw: bool = False) -> None:
    """Writes only what it takes to generate: `load_generator` reads it, but training cannot go on from it.

    Args:
        path: the file.
        state: what is trained.
        recipe: of the run.
        shape: what the networks were built for.
        raw: write the weights of G itself in the place of its average.

    Raises:
        KitError: the disk is full.
    """
    record = _generators(state, recipe, shape)
    write(
        path, {**record, "ema": {name: state.networks[name].state_dict() for name in record["ema"]}} if raw else record
    )


def extract_ema(checkpoint: Path, out: Path) -> None:
    """Writes of a checkpoint what `save_ema` would have written.

    Args:
        checkpoint: as `save` wrote it.
        out: the smaller file.

    Raises:
        KitError: no such checkpoint, a damaged one, or a full disk.
    """
    record = _read(checkpoint)
    write(out, {key: record.get(key) for key in ("version", "recipe", "shape", "pictures", "ema")})


def load_ema(path: Path, like: nn.Module) -> nn.Module:
    """The averaged generator of a file that this run wrote.

    Args:
        path: what `save`, `save_ema` or `extract_ema` wrote.
        like: the current average; it is copied, and stays as it is.

    Returns:
        The generator, on the device of `like`.

    Raises:
        KitError: no such file, or a damaged one.
    """
    generator = copy.deepcopy(like)
    try:
        generator.load_state_dict(_read(path)["ema"]["G"])
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
        generator.load_state_dict(record["ema"]["G"])
        # As in training: batch norm sums another memory layout in another order, and the last bits would differ.
        generator = generator.to(memory_format=torch.channels_last)
        return generator.eval().requires_grad_(False), recipe, shape, int(record["pictures"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise KitError(f"{path}: damaged checkpoint ({error})", "train again, or take another run") from error


def load(path: Path, state: TrainState, recipe: Recipe, shape: Shape) -> None:
    """Puts a checkpoint into a state that was built from the same recipe, to go on training.

    Random generators have no state to restore: what a step draws depends on the seed and the pictures seen alone.

    Raises:
        KitError: no such file, a damaged one, or one of another recipe or version.
    """
    record = _read(path)
    if record.get("recipe") != dataclasses.asdict(recipe) or record.get("shape") != dataclasses.asdict(shape):
        raise KitError(f"{path}: a checkpoint of another recipe or set", "start a new run")
    if "networks" not in record:
        raise KitError(f"{path}: the generator alone, as a kernel leaves it", "start a new run")
    try:
        for name, network in state.networks.items():
            network.load_state_dict(record["networks"][name])
        for name, ema in state.ema_models.items():
            ema.module.load_state_dict(record["ema"][name])
        for player, optimizer in state.optimizers.items():
            optimizer.load_state_dict(record["optimizers"][player])
        for player, scaler in state.scalers.items():
            if saved := record["scalers"][player]:  # empty where the run comes from a device that needs none
                scaler.load_state_dict(saved)
        device = next(state.G.parameters()).device
        state.extra = {name: tensor.to(device) for name, tensor in record["extra"].items()}
        state.pictures = int(record["pictures"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise KitError(f"{path}: damaged checkpoint ({error})", "start a new run") from error


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a checkpoint's content with its digest, which every reader compares.

    Raises:
        KitError: the disk is full.
    """
    content = {key: value for key, value in record.items() if key != "digest"}
    with atomic(path) as file:
        torch.save({**content, "digest": _digest(content)}, file)


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over a network's parameters and buffers, by name; equal weights give it on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _generators(state: TrainState, recipe: Recipe, shape: Shape) -> dict[str, Any]:
    return {
        "version": VERSION,
        "recipe": dataclasses.asdict(recipe),
        "shape": dataclasses.asdict(shape),
        "pictures": state.pictures,
        "ema": {name: ema.module.state_dict() for name, ema in state.ema_models.items()},
    }


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
    if record.pop("digest", None) != _digest(record):
        raise KitError(f"{path}: damaged checkpoint (its digest differs)", "train again, or take another run")
    return dict(record)


def _digest(record: dict[str, Any]) -> str:
    """SHA-256 over all that a checkpoint holds: torch checks nothing of a tensor's bytes when it loads them."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            digest.update(f"{{{len(value)}".encode())
            for key, item in value.items():
                digest.update(f"{key!r}:".encode())
                add(item)
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}".encode())
            for item in value:
                add(item)
        elif isinstance(value, torch.Tensor):
            digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{value!r};".encode("utf-8", "surrogatepass"))

    add(record)
    return digest.hexdigest()
