"""Several processes that train one run: they share out each batch, and end every step with the same weights.

What a process computes is its part of the gradient of the whole batch's objective. So the logits of all are gathered
before a loss is taken (its means are over the whole batch then, whatever the loss), batch norm's statistics are those
of the whole batch (`kit.training.batch_norm`), and gradients are added up. The sums are differentiable, twice, which
DistributedDataParallel's are not: gradient penalties need it. GPUs talk through torch's process group, processes on a
CPU through `kit.training.sockets`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from kit.core.errors import KitError
from kit.run.launch import inside, leash
from kit.training.random import BatchSlice
from kit.training.sockets import Sockets

PATIENCE = timedelta(days=7)
"""How long a process waits to be told what comes next: the first one packs and checks zips meanwhile."""

STEP_LIMIT = timedelta(minutes=2)
"""How long GPUs wait for each other within a step. A process that is gone leaves them waiting for ever otherwise."""


_sockets: Sockets | None = None
"""What everything goes through on a CPU; otherwise there is torch's default process group."""


class WorkerLostError(Exception):
    """Another process is gone, and a step cannot be finished without it."""


@dataclass(frozen=True)
class Distributed:
    """The processes that train together. The first one decides and writes; the others follow.

    Every method is called by all processes at the same point of the same step.
    """

    rank: int = 0
    size: int = 1
    talk: dist.ProcessGroup | None = None  # for words, between CPUs; None: the same connections as for numbers

    @property
    def leads(self) -> bool:
        """Whether this process is the one that decides and writes."""
        return self.rank == 0

    def own(self, share: BatchSlice) -> BatchSlice:
        """This process's rows of a share of the batch.

        Raises:
            KitError: there are fewer rows than processes.
        """
        if len(share) < self.size:
            raise KitError(
                f"{len(share)} pictures at a time cannot be shared by {self.size} processes",
                "take a larger batch, or fewer processes",
            )
        return share.split(self.size)[self.rank]

    def gather(self, rows: Tensor, own: BatchSlice, share: BatchSlice) -> Tensor:
        """The numbers of all rows of a share, (len(share),), from each process's own, (len(own),).

        Each process takes the same loss of them; its gradient reaches only the process's own rows.
        """
        return rows if self.size == 1 else cast(Tensor, _Gather.apply(rows, own.first - share.first, len(share)))

    def add_gradients(self, network: nn.Module) -> None:
        """Makes each gradient the sum over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        flat = add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def agree(self, decision: bool) -> bool:
        """What the first process decides, whatever the others would."""
        if self.size == 1:
            return decision
        with _others():
            if _sockets:
                return bool(_sockets.tell(decision))
            flag = torch.tensor([decision], dtype=torch.uint8)
            dist.broadcast(flag, src=0, group=self.talk)
        return bool(flag.item())

    def tell(self, order: object) -> object:
        """The first process's order, as all hear it; None sends the others home."""
        if self.size == 1:
            return order
        with _others():
            if _sockets:
                return _sockets.tell(order)
            message = [order]
            dist.broadcast_object_list(message, src=0, group=self.talk)
        return message[0]


SINGLE_PROCESS = Distributed()
"""One process that trains by itself."""


def join() -> Distributed:
    """The crew that torchrun started this process in, or `ALONE`. On GPUs, each process takes one of its own."""
    if not inside():
        return SINGLE_PROCESS
    leash()
    if not torch.cuda.is_available():
        global _sockets
        store, rank, size = next(rendezvous("env://"))
        _sockets = Sockets(rank, size, store)
        return Distributed(rank, size)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl", timeout=STEP_LIMIT)
    return Distributed(rank, size, cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE)))


def leave() -> None:
    """Says goodbye to the other processes."""
    global _sockets
    if _sockets:
        _sockets.close()
        _sockets = None
    if dist.is_initialized():
        dist.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's rank, and how many there are, in whatever connects them."""
    return (_sockets.rank, _sockets.size) if _sockets else (dist.get_rank(), dist.get_world_size())


class _Sum(torch.autograd.Function):
    """The sum over all processes. What each makes of it counts, so the gradient is a sum as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return add_up(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return summed(slopes[0])


class _Gather(torch.autograd.Function):
    """The rows of all processes. All make the same of it, so the gradient of one's own rows is at hand."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, first: int, total: int) -> Tensor:
        ctx.rows = slice(first, first + len(rows))
        whole = rows.new_zeros(total)
        whole[ctx.rows] = rows
        return add_up(whole)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        return slopes[0][ctx.rows], None, None


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over the processes, differentiable, as often as is wanted.

    Raises:
        LostError: one of them is gone.
    """
    return cast(Tensor, _Sum.apply(x))


def add_up(x: Tensor) -> Tensor:
    """Adds up a tensor over the processes, in place.

    Raises:
        LostError: one of them is gone.
    """
    with _others():
        _sockets.add_up(x) if _sockets else dist.all_reduce(x)
    return x


@contextlib.contextmanager
def _others() -> Iterator[None]:
    """Tells a process that is gone from one's own mistakes."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ConnectionError) as error:
        raise WorkerLostError("a process is gone") from error
