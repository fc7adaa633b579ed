"""Less memory at the price of speed: activations on the host, batches in several steps of gradient accumulation."""

from __future__ import annotations

import contextlib
import gc
import re
from dataclasses import dataclass

import torch

from kit.core.errors import KitError

SMALLEST_SLICE = 2
"""Pictures that a step of gradient accumulation has at least, in each process: batch norm cannot do with one."""

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class MemoryPolicy:
    """How a training step saves memory.

    Offloading changes nothing but the last bits. Gradients that are accumulated equal those of the whole batch where
    nothing connects the pictures of a batch; batch norm, and losses that compare with the batch's mean, see a part of
    the batch at a time.
    """

    accumulation_steps: int = 1  # forward and backward passes for each optimizer step
    offload_activations: bool = False  # activations wait for the backward pass in the host's memory, not the GPU's

    def __str__(self) -> str:
        words = [f"{self.accumulation_steps} steps of gradient accumulation"] if self.accumulation_steps > 1 else []
        words += ["activations on the host"] if self.offload_activations else []
        return ", ".join(words) or "with unused memory released"

    def reduce_memory(self, *, batch: int, processes: int, device: torch.device) -> MemoryPolicy | None:
        """The next policy that needs less memory, or None if there is none.

        Args:
            batch: pictures in a step.
            processes: that share them.
            device: where they are computed; a CPU's activations are in the host's memory anyway.
        """
        if device.type != "cpu" and not self.offload_activations:
            return MemoryPolicy(self.accumulation_steps, offload_activations=True)
        if batch // (2 * self.accumulation_steps * processes) < SMALLEST_SLICE:
            return None
        return MemoryPolicy(2 * self.accumulation_steps, self.offload_activations)

    def activations(self) -> contextlib.AbstractContextManager[object]:
        """Forward passes in this context keep activations where the policy says."""
        if not self.offload_activations:
            return contextlib.nullcontext()
        return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())


DEFAULT = MemoryPolicy()
"""Memory is enough: the whole batch at once, all of it on the device."""


def free() -> None:
    """Releases memory that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left. A CPU's allocator raises a plain RuntimeError."""
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
        raise KitError(f"{text!r} is not an amount of memory", "write it like 14GB or 800MB")
    return round(float(match[1]) * UNITS[match[2]])


def limit(size: int, device: torch.device) -> None:
    """Limits the bytes of its GPU's memory that this process may use; more is then out of memory.

    Raises:
        KitError: the GPU has less, or there is none: libraries crash where the system refuses them host memory.
    """
    if device.type != "cuda":
        raise KitError("--memory limits a GPU's memory, and there is none", "leave it out, or limit the container")
    total = torch.cuda.get_device_properties(device).total_memory
    if size > total:
        raise KitError(f"--memory: {torch.cuda.get_device_name(device)} has {total / 1e9:.1f} GB", "ask for less")
    torch.cuda.set_per_process_memory_fraction(size / total, device)
