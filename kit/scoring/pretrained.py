"""timm's pretrained weights: found on this machine, or fetched by timm; else an error that says which file to get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.core.errors import KitError
from kit.scoring.weights import read_weights

KAGGLE_INPUT = Path("/kaggle/input")
"""Where a kernel finds the data sets attached to it."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

ANSWER_S = 5.0
"""How long to wait for the hub's first answer. Its own client tries for a minute where there is no network."""


class MissingWeightsError(KitError):
    """Weights that are neither on this machine nor to be had from here."""


def pretrained_weights(cfg: Any) -> tuple[dict[str, Tensor], str]:
    """The pretrained weights of a timm network.

    They are looked for in the Hugging Face cache, in torch hub's, and among a Kaggle kernel's inputs, and fetched by
    timm where there is a network.

    Args:
        cfg: timm's `PretrainedCfg`, tag included.

    Returns:
        The state dict, and where it came from.

    Raises:
        MissingWeightsError: none of these has them.
        KitError: the file is damaged.
    """
    file = _on_this_machine(cfg)
    if file:
        return read_weights(file), str(file)
    if cfg.hf_hub_id and _hub_answers(cfg.hf_hub_id):
        return _fetched(cfg.hf_hub_id)
    name = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else str(cfg.architecture)
    get = f"download {HUB_FILES[0]} of {cfg.hf_hub_id} from the Hugging Face hub" if cfg.hf_hub_id else "get its file"
    raise MissingWeightsError(
        f"the pretrained weights of {name} are not on this machine, and cannot be fetched from here",
        f"{get} elsewhere and give it as --weights FILE (in a Kaggle kernel: attach it as {name}.safetensors); "
        "or take --features random, which is uncalibrated",
    )


def hub_checkpoint(name: str) -> Path | None:
    """A file of this name that an earlier download left in torch hub's cache, or that a Kaggle kernel was given."""
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
    """Whether there is a network and the hub at its end: one request, and no retries."""
    import requests  # not needed where nothing is fetched, as in a kernel
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(hf_hub_url(repository, HUB_FILES[0]), timeout=ANSWER_S)
    except requests.RequestException:
        return False
    return True


def _fetched(repository: str) -> tuple[dict[str, Tensor], str]:
    from timm.models import load_state_dict_from_hf

    try:
        return load_state_dict_from_hf(repository, weights_only=True), repository
    except Exception as error:
        # The hub's client raises its own errors, requests' and httpx's, by version.
        raise MissingWeightsError(
            f"{repository}: the weights could not be fetched ({type(error).__name__})",
            "try again, or download them elsewhere and give them as --weights FILE",
        ) from error
