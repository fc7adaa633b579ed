"""What the training runs on, and in which precision."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch


def autocast(kind: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Forward passes in here run in the given precision; float32 leaves them as they are."""
    return torch.autocast(kind.type, dtype=precision, enabled=precision != torch.float32)


@dataclass(frozen=True)
class Device:
    """A device and the precision of its forward passes."""

    kind: torch.device
    name: str
    precision: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Forward passes in here use the device's precision; weights, losses and averages stay in fp32."""
        return autocast(self.kind, self.precision)

    def record(self) -> dict[str, object]:
        """What `run.json` keeps of it: two devices with the same record give the same bytes."""
        return {
            "type": self.kind.type,
            "name": self.name,
            "precision": str(self.precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }


def choose() -> Device:
    """The first GPU, else the CPU; bf16 where it is native, fp32 otherwise."""
    if torch.cuda.is_available():
        # is_bf16_supported() says yes to a T4, which only emulates it: go by the compute capability.
        native = torch.cuda.get_device_capability() >= (8, 0)
        return Device(torch.device("cuda"), torch.cuda.get_device_name(), torch.bfloat16 if native else torch.float32)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return Device(
        torch.device("cpu"),
        str(capabilities.get("cpu_name") or "CPU"),
        torch.bfloat16 if native else torch.float32,
    )
