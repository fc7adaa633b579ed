"""What a run gives up when memory runs out: first speed, then the whole batch at once."""

from __future__ import annotations

import contextlib
import gc
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.core.errors import KitError

SMALLEST_PART = 2
"""Pictures a part of a batch has at least, in each process: batch norm has nothing to compare with one."""

KEPT_BYTES = 1 << 16
"""Activations smaller than this stay where they are: to move them costs more than it frees."""

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class MemoryPolicy:
    """How a step saves memory.

    On the host, activations are the same to the bit: it is slower, and changes nothing. In parts, gradients add up to
    those of the whole batch where nothing joins the pictures of a batch; batch norm, and losses that compare with the
    batch's mean, then see a part at a time.
    """

    parts: int = 1  # that a batch is computed in, one after the other
    on_host: bool = False  # activations wait for the backward pass in the machine's memory, not the GPU's

    def __str__(self) -> str:
        words = [f"each batch in {self.parts} parts"] if self.parts > 1 else []
        words += ["activations on the host"] if self.on_host else []
        return ", ".join(words) or "with what nothing used given back"

    def next(self, *, batch: int, processes: int, device: torch.device) -> MemoryPolicy | None:
        """The next way to need less, or None if there is none left.

        Args:
            batch: pictures in a step.
            processes: that share them.
            device: where they are computed; a CPU's activations are in the machine's memory anyway.
        """
        if device.type != "cpu" and not self.on_host:
            return MemoryPolicy(self.parts, on_host=True)
        if batch // (2 * self.parts * processes) < SMALLEST_PART:
            return None
        return MemoryPolicy(2 * self.parts, self.on_host)

    def activations(self) -> contextlib.AbstractContextManager[object]:
        """Forward passes in here leave what the backward pass needs on the host, if that is wanted."""
        if not self.on_host:
            return contextlib.nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(_to_host, _from_host)


PLENTY = MemoryPolicy()
"""There is enough: a batch at once, everything where it is computed."""


def _to_host(x: Tensor) -> Tensor | tuple[torch.device, Tensor]:
    # Weights are on the GPU in any case.
    if isinstance(x, nn.Parameter) or x.nbytes < KEPT_BYTES:
        return x
    host = torch.empty_like(x, device="cpu", pin_memory=x.is_cuda)
    host.copy_(x, non_blocking=x.is_cuda)
    return x.device, host


def _from_host(kept: Tensor | tuple[torch.device, Tensor]) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept[1].to(kept[0], non_blocking=True)


def free() -> None:
    """Gives back what nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left; a CPU's allocator has no type of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def parse_size(text: str) -> int:
    """Bytes in "14GB", "14GiB", "800MB" or a plain number.

    Raises:
        KitError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B?)", text.strip().upper())
    if not match or match[2] not in UNITS or not float(match[1]):
        raise KitError(f"{text!r} is no amount of memory", "write it like 14GB or 800MB")
    return round(float(match[1]) * UNITS[match[2]])


def limit(size: int, device: torch.device) -> None:
    """Lets this process have only so many bytes of its GPU's memory; asking for more is then out of memory.

    Raises:
        KitError: the GPU has less, or it is a CPU: libraries do not survive it when the system refuses them memory.
    """
    if device.type != "cuda":
        raise KitError("--memory limits a GPU's memory, and there is none", "leave it out, or limit the container")
    total = torch.cuda.get_device_properties(device).total_memory
    if size > total:
        raise KitError(f"--memory: {torch.cuda.get_device_name(device)} has {total / 1e9:.1f} GB", "ask for less")
    torch.cuda.set_per_process_memory_fraction(size / total, device)
