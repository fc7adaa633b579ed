"""Weights of a feature network: read without running code, loaded exactly, found on this machine or downloaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from kit.core.errors import KitError

COUNTER = "num_batches_tracked"
"""Batch norm's count of training steps: missing in older files, and without influence on features."""

AUXILIARY = "AuxLogits."
"""Inception's auxiliary classifier, used in training only: torchvision's files have it, feature networks do not."""

KAGGLE_INPUT = Path("/kaggle/input")
"""Where a kernel finds the data sets attached to it."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

HUB_TIMEOUT_S = 5.0
"""For the hub's first answer. Its own client retries for a minute where there is no network."""

HOW = "give a .safetensors file, or a state dict written by torch.save(model.state_dict(), …)"


class MissingWeightsError(KitError):
    """Weights that are not on this machine and cannot be downloaded."""


RANDOM_SEED = 0


def untrained(create: Callable[[], Any], *, seed: int = RANDOM_SEED) -> Any:
    """A network with initial weights from a seed; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
        return create()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU. No code in the file is run.

    Args:
        path: `.safetensors`, or what `torch.save` wrote of a state dict (also as `state_dict` of a checkpoint).

    Raises:
        KitError: it is missing, truncated, holds something else, or is a pickle that would run code.
    """
    if not path.is_file():
        raise KitError(f"{path}: no such weights file", HOW)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old or odd pickles
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The readers raise errors of many kinds and many lines; the remedy is the same for all.
        kind = type(error).__name__
        raise KitError(f"{path}: cannot be read as weights: damaged, or no plain state dict ({kind})", HOW) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise KitError(f"{path}: holds no state dict (names and tensors)", HOW)
    return {str(name): value for name, value in content.items()}


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], *, source: str, architecture: str) -> None:
    """Loads a state dict into a network: every tensor of it, and nothing else; half precision is converted.

    Raises:
        KitError: a tensor is missing, unknown, or of another shape; it names `source` and `architecture`.
    """
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    given = {
        name: value
        for name, value in weights.items()
        if not name.endswith(COUNTER) and (name in own or not name.startswith(AUXILIARY))
    }
    wrong = [f"{name} is missing" for name in own if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in own]
    shared = [(name, given[name], own[name]) for name in own if name in given]
    wrong += [f"{name} is {_shape(a)} in place of {_shape(b)}" for name, a, b in shared if a.shape != b.shape]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise KitError(
            f"{source}: not the weights of {architecture}: {wrong[0]}{more}", "give the file of that network"
        )
    network.load_state_dict(given, strict=False)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def weights_digest(network: nn.Module) -> str:
    """The identity of a feature network's weights, whatever file they are from.

    Returns:
        SHA-256, in hexadecimal, over the tensors sorted by name: "name shape\\n" in UTF-8, then the values as
        little-endian float32. Batch norm's step counters are left out, and so is a classifier, which has been removed.
    """
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.endswith(COUNTER):
            total.update(f"{name} {_shape(value)}\n".encode())
            total.update(np.ascontiguousarray(value.float().cpu().numpy(), dtype="<f4").data)
    return total.hexdigest()


def pretrained_weights(cfg: Any) -> tuple[dict[str, Tensor], str]:
    """The pretrained weights of a timm network.

    They are looked for in the Hugging Face cache, in torch hub's, and in a Kaggle kernel's inputs; if they are in none
    of these, timm downloads them.

    Returns:
        The state dict of timm's `PretrainedCfg`, tag included, and where it came from.

    Raises:
        MissingWeightsError: they are not there, and cannot be downloaded.
        KitError: the file is damaged.
    """
    file = _on_this_machine(cfg)
    if file:
        return read_weights(file), str(file)
    if cfg.hf_hub_id and _hub_answers(cfg.hf_hub_id):
        return _download(cfg.hf_hub_id)
    name = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else str(cfg.architecture)
    get = f"download {HUB_FILES[0]} of {cfg.hf_hub_id} from the Hugging Face hub" if cfg.hf_hub_id else "get its file"
    raise MissingWeightsError(
        f"the pretrained weights of {name} are not on this machine, and cannot be downloaded",
        f"{get} elsewhere and give it as --weights FILE (in a Kaggle kernel: attach it as {name}.safetensors); "
        "or use --features random, which is uncalibrated",
    )


def hub_checkpoint(name: str) -> Path | None:
    """A file of this name in torch hub's cache, or in a Kaggle kernel's inputs."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    return cached if cached.is_file() else _attached([name])


def _on_this_machine(cfg: Any) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # half a second of imports

    if cfg.hf_hub_id:
        for name in HUB_FILES:
            cached = try_to_load_from_cache(cfg.hf_hub_id, name)
            if isinstance(cached, str):
                return Path(cached)
    old = hub_checkpoint(Path(cfg.url).name) if cfg.url else None
    stem = f"{cfg.architecture}.{cfg.tag}"
    return old or _attached([stem + suffix for suffix in SUFFIXES] + [f"{stem}/{name}" for name in HUB_FILES])


def _attached(names: list[str]) -> Path | None:
    found = (file for name in names for file in sorted(KAGGLE_INPUT.rglob(name)) if file.is_file())
    return next(found, None)


def _hub_answers(repository: str) -> bool:
    """Whether the hub can be reached: one request, without retries."""
    import requests
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(hf_hub_url(repository, HUB_FILES[0]), timeout=HUB_TIMEOUT_S)
    except requests.RequestException:
        return False
    return True


def _download(repository: str) -> tuple[dict[str, Tensor], str]:
    from timm.models import load_state_dict_from_hf

    try:
        return load_state_dict_from_hf(repository, weights_only=True), repository
    except Exception as error:
        # Its own errors, requests' or httpx's: it depends on the version.
        raise MissingWeightsError(
            f"{repository}: the weights could not be downloaded ({type(error).__name__})",
            "try again, or download them elsewhere and give them as --weights FILE",
        ) from error
