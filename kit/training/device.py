"""The device that trains, and its precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from kit.core.errors import KitError
from kit.training.run_record import DeviceRecord

NATIVE_BF16, NATIVE_FP16 = (8, 0), (7, 0)
"""Compute capabilities from which on GPUs have units for these: Ampere (A100, L4), and Volta (V100; T4 is 7.5)."""


def autocast(kind: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Forward passes in this context run in the given precision."""
    return torch.autocast(kind.type, dtype=precision, enabled=precision != torch.float32)


@dataclass(frozen=True)
class Device:
    """A device and the precision of its forward passes."""

    kind: torch.device
    name: str
    precision: torch.dtype
    deterministic: bool = False  # only algorithms that give the same bits every time

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Forward passes in this context use the device's precision; weights, losses and averages stay in fp32."""
        return autocast(self.kind, self.precision)

    def autocast_twice(self) -> contextlib.AbstractContextManager[None]:
        """For what is differentiated twice: as `autocast` in bf16, but fp32 in place of fp16.

        The second derivatives leave fp16's range. bf16 has fp32's: measured on a DCGAN and an R3GAN of 64×64, the
        penalty's gradient moves by 0.5 % and 1.4 % of its length, as that of any loss in bf16 does.
        """
        return autocast(self.kind, torch.float32 if self.precision == torch.float16 else self.precision)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16 (Micikevicius et al. 2018); in other precisions it does nothing."""
        return torch.amp.GradScaler(self.kind.type, enabled=self.precision == torch.float16)

    @contextlib.contextmanager
    def algorithms(self) -> Iterator[None]:
        """In this context torch uses deterministic algorithms if the device asks for them.

        An operation that has none is an error then. A CPU gives the same bits with the same threads in any case.
        """
        if not self.deterministic:
            yield
            return
        # Read when cuBLAS is first used: with room of a fixed size it always sums in the same order.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)

    def record(self) -> DeviceRecord:
        """What `run.json` keeps of it: two devices with the same record give the same bytes."""
        return DeviceRecord(
            type=self.kind.type,
            name=self.name,
            precision=str(self.precision).removeprefix("torch."),
            threads=torch.get_num_threads(),
            deterministic=self.deterministic,
        )


def choose(*, deterministic: bool = False) -> Device:
    """The first GPU (of several processes, this one's own), else the CPU, with the precision that it is fast in.

    Args:
        deterministic: see `Device.deterministic`.

    Raises:
        KitError: there is a GPU, and this build of torch cannot use it.
    """
    if torch.cuda.is_available():
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        require_kernels(name, capability, torch.cuda.get_arch_list())
        return Device(torch.device("cuda"), name, gpu_precision(capability), deterministic)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return Device(
        torch.device("cpu"),
        str(capabilities.get("cpu_name") or "CPU"),
        torch.bfloat16 if native else torch.float32,
        deterministic,
    )


def gpu_precision(capability: tuple[int, int]) -> torch.dtype:
    """bf16 where it is native, fp16 where only that is, else fp32.

    `torch.cuda.is_bf16_supported()` says yes to a T4, which emulates it slowly: the compute capability decides.
    """
    if capability >= NATIVE_BF16:
        return torch.bfloat16
    return torch.float16 if capability >= NATIVE_FP16 else torch.float32


def require_kernels(name: str, capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """Makes sure that a build of torch has code for a GPU, which otherwise shows at the first operation.

    Args:
        name: of the GPU.
        capability: its compute capability.
        built_for: as `torch.cuda.get_arch_list()` has it. Code for "sm_XY" runs on X.Y and later X.*; code for
            "compute_XY" is translated on every later GPU.

    Raises:
        KitError: it has none.
    """
    for target in built_for:
        kind, _, digits = target.rstrip("af").partition("_")
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and capability >= (major, minor):
            return
        if kind == "sm" and capability[0] == major and capability[1] >= minor:
            return
    raise KitError(
        f"{name} (compute capability {capability[0]}.{capability[1]}): "
        f"this build of torch has no code for it, only for {', '.join(built_for) or 'none at all'}",
        "take another GPU (in a Kaggle kernel: T4), or set CUDA_VISIBLE_DEVICES= to train on the CPU",
    )
