"""Several processes that train one run, over torch.distributed: gloo between CPUs, NCCL between GPUs.

They share each batch and end every step with the same weights, those that one process would have. So the logits of all
are gathered before a loss is taken (losses compare and average over the whole batch), batch norm's statistics are those
of the whole batch (`SyncBatchNorm`), and gradients are summed. DistributedDataParallel does only the last,
and cannot be differentiated twice, which gradient penalties need.

All processes are on one machine. They find each other through a file in a folder that only their user can read, and
connect over the loopback interface: no other machine can reach a port, and the host's name need not resolve. Messages
are tensors and JSON; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.core.errors import KitError
from kit.core.signals import exit_with_parent
from kit.training.random import BatchSlice

Network = TypeVar("Network", bound=nn.Module)

RENDEZVOUS = "KIT_RENDEZVOUS"
"""Environment variable: the file through which the processes of a run find each other."""

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
"""Name of the network interface that is reached from this machine alone."""

STEP_TIMEOUT = timedelta(minutes=5)
"""How long processes wait for each other in the middle of a step."""

MESSAGE_TIMEOUT = timedelta(days=1)
"""How long they wait for a message of the first process, which writes checkpoints and zips in between."""

MESSAGE_BYTES = 8192
"""Every message has this size; JSON is shorter and is padded with zeros."""

LOST = 76
"""Exit code of a process that cannot go on because another one is gone."""


class WorkerLostError(Exception):
    """Another process is gone, and a step cannot be finished without it."""


@dataclass(frozen=True)
class Distributed:
    """The processes that train one run together. The first one decides and writes files.

    Every method is called by all processes at the same point of the same step.
    """

    rank: int = 0
    size: int = 1
    messages: dist.ProcessGroup | None = None  # for `broadcast`; tensors go through torch's default group

    @property
    def is_main(self) -> bool:
        """Whether this process decides and writes files."""
        return self.rank == 0

    def local(self, batch_slice: BatchSlice) -> BatchSlice:
        """This process's rows of a slice of the batch.

        Raises:
            KitError: there are fewer rows than processes.
        """
        if len(batch_slice) < self.size:
            raise KitError(
                f"{len(batch_slice)} pictures at a time cannot be shared by {self.size} processes",
                "take a larger batch, or fewer processes",
            )
        return batch_slice.split(self.size)[self.rank]

    def gather(self, rows: Tensor, batch_slice: BatchSlice) -> Tensor:
        """The rows of a slice, (len(batch_slice), …), from each process's own rows.

        The gradient reaches the process's own rows only: all processes take the same loss of the result, and their
        gradients are summed afterwards.

        Raises:
            WorkerLostError: another process is gone.
        """
        if self.size == 1:
            return rows
        local = self.local(batch_slice)
        before, after = local.first - batch_slice.first, batch_slice.last - local.last
        zeros = (rows.new_zeros(count, *rows.shape[1:]) for count in (before, after))
        whole = torch.cat([next(zeros), rows.detach(), next(zeros)])
        with _worker_lost():
            dist.all_reduce(whole)
        return torch.cat([whole[:before], rows, whole[len(whole) - after :]])

    def sum(self, x: Tensor) -> Tensor:
        """The sum of a tensor over the processes, without a gradient.

        Raises:
            WorkerLostError: another process is gone.
        """
        if self.size > 1:
            x = x.detach().clone()
            with _worker_lost():
                dist.all_reduce(x)
        return x

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replaces each gradient by its sum over the processes, in one message.

        Raises:
            WorkerLostError: another process is gone.
        """
        if self.size == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _worker_lost():
            dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def broadcast(self, message: Any = None) -> Any:
        """The first process's message, in all processes: anything that JSON can hold.

        Raises:
            WorkerLostError: another process is gone.
        """
        if self.size == 1:
            return message
        text = json.dumps(message).encode() if self.is_main else b""
        buffer = torch.frombuffer(bytearray(text.ljust(MESSAGE_BYTES, b"\0")), dtype=torch.uint8)
        with _worker_lost():
            dist.broadcast(buffer, src=0, group=self.messages)
        return json.loads(bytes(buffer.numpy()).rstrip(b"\0"))


SINGLE_PROCESS = Distributed()
"""One process that trains by itself."""


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_options(processes: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """How to start processes on this machine with torchrun, so that nothing listens on the network.

    torchrun's own `--standalone` opens a store on all interfaces, and reads pickles from it.

    Args:
        processes: how many.
        folder: an empty one that only this user can read; it must last as long as the processes.

    Returns:
        Options of `torch.distributed.run`, and environment variables for it and its processes.
    """
    options = ["--nnodes", "1", "--nproc-per-node", str(processes), "--max-restarts", "0"]
    options += ["--rdzv-backend", "c10d", "--rdzv-id", "kit", "--local-addr", "127.0.0.1"]
    options += ["--rdzv-conf", "store_type=file", "--rdzv-endpoint", str(folder / "launcher")]
    return options, {RENDEZVOUS: str(folder / "processes"), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def init() -> Distributed:
    """Joins the processes that torchrun started with `torchrun_options`; `SINGLE_PROCESS` where it did not.

    On GPUs each process takes one of its own.

    Raises:
        KitError: torchrun was started in another way.
        WorkerLostError: the processes could not connect.
    """
    if not started_by_torchrun():
        return SINGLE_PROCESS
    exit_with_parent(LOST)  # it would go on in a folder in which the user starts another run
    if RENDEZVOUS not in os.environ:
        raise KitError("torchrun started this process, not the kit", "leave torchrun out, and add --gpus N")
    os.environ |= {"GLOO_SOCKET_IFNAME": LOOPBACK, "NCCL_SOCKET_IFNAME": LOOPBACK}
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    with _worker_lost():
        store = dist.FileStore(os.environ[RENDEZVOUS], size)  # type: ignore[attr-defined]  # though it is public
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=STEP_TIMEOUT)
        messages = dist.new_group(backend="gloo", timeout=MESSAGE_TIMEOUT)
    return Distributed(rank, size, cast(dist.ProcessGroup, messages))


def destroy() -> None:
    """Leaves the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def all_reduce(x: Tensor) -> Tensor:
    """The sum of a tensor over the processes, differentiable any number of times.

    Raises:
        WorkerLostError: another process is gone.
    """
    return cast(Tensor, _AllReduce.apply(x))


class _AllReduce(torch.autograd.Function):
    """That of torch.distributed.nn.functional, which torch 2.14 deprecates; the torch of Kaggle has nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        with _worker_lost():
            dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce(gradients[0])


@contextlib.contextmanager
def _worker_lost() -> Iterator[None]:
    """torch raises a plain RuntimeError when a process is gone; only running out of memory has a type of its own."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise WorkerLostError("a process is gone") from error


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of the pictures of all processes.

    torch's own needs GPUs and cannot be differentiated twice, which gradient penalties do.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes (B, C) and (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C) or (B, C, H, W) to the same shape; B may differ between the processes."""
        if not self.training:
            return super().forward(x)
        dims, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = all_reduce(torch.cat([y.sum(dims), y.new_full((1,), y.numel() // y.shape[1])]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        y = y - mean.view(shape)
        var = all_reduce(y.square().sum(dims)) / total
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = y * scale.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        self._update_running_statistics(mean.detach(), var.detach() * total / (total - 1))
        return y.to(x.dtype)

    def _update_running_statistics(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), momentum)


def convert_sync_batch_norm(network: Network) -> Network:
    """Replaces every batch norm of a network, in place, by one over all processes, with its weights and buffers."""
    for name, module in network.named_children():
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            synchronized = SyncBatchNorm(
                module.num_features,
                eps=module.eps,
                momentum=module.momentum,
                affine=module.affine,
                track_running_stats=module.track_running_stats,
                device="meta",
            )
            synchronized.weight, synchronized.bias = module.weight, module.bias
            for key, buffer in module.named_buffers(recurse=False):
                synchronized.register_buffer(key, buffer)
            setattr(network, name, synchronized.train(module.training))
        else:
            convert_sync_batch_norm(module)
    return network
