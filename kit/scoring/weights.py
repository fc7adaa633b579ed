"""Weights of a feature network: read without running code from the file, fitted exactly or refused by name."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from kit.core.errors import KitError

COUNTER = "num_batches_tracked"
"""Batch norm's count of training steps: older files lack it, and it changes no feature."""

AUXILIARY = "AuxLogits."
"""Inception's second classifier, used in training only: torchvision's files have it, feature networks do not."""

HOW = "give a .safetensors file, or a state dict written by torch.save(model.state_dict(), …)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU. Nothing in the file is run, whatever it holds.

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
            warnings.simplefilter("ignore")  # about old or odd pickles, which are read or refused all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The readers raise whatever the bytes led them to, in many lines; the way out is the same for all.
        kind = type(error).__name__
        raise KitError(
            f"{path}: no weights can be read from it: damaged, or no plain state dict ({kind})", HOW
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise KitError(f"{path}: holds no state dict (names and tensors)", HOW)
    return {str(name): value for name, value in content.items()}


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], *, source: str, architecture: str) -> None:
    """Puts weights into a network, every tensor of it, and refuses anything else.

    Args:
        network: changed in place; half precision is widened to the network's own.
        weights: its state dict.
        source: the file, for the error.
        architecture: the network's name, for the error.

    Raises:
        KitError: a tensor is missing, too many, or of another shape.
    """
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    given = {
        name: value
        for name, value in weights.items()
        if not name.endswith(COUNTER) and (name in own or not name.startswith(AUXILIARY))
    }
    wrong = [f"{name} is missing" for name in own if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in own]
    wrong += [
        f"{name} is {_shape(given[name])} in place of {_shape(own[name])}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise KitError(
            f"{source}: not the weights of {architecture}: {wrong[0]}{more}", "give the file of that network"
        )
    network.load_state_dict(given, strict=False)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def weights_digest(network: nn.Module) -> str:
    """The identity of a feature network's weights, whatever file they came in.

    Returns:
        SHA-256, in hexadecimal, over the tensors sorted by name: "name shape\\n" in UTF-8, then the values as
        little-endian float32. Batch norm's step counters are left out; a classifier is, because it was taken off.
    """
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.endswith(COUNTER):
            total.update(f"{name} {_shape(value)}\n".encode())
            total.update(np.ascontiguousarray(value.float().cpu().numpy(), dtype="<f4").data)
    return total.hexdigest()
