"""What a piece of work asks of a machine, counted, and what the machine can do, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """Adds up floating-point operations by torch's own formulas, and the bytes that operations read and write.

    torch's `FlopCounterMode` also keeps a tally for each module, for which it hooks into the backward pass in a way
    that penalties on gradients do not allow. Every operation counts as if it read from memory and wrote to it, so the
    bytes are the most that it can be: caches save some.
    """

    operations = 0.0
    bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts it."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.operations += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        if not func.is_view:
            self.bytes += sum(x.numel() * x.element_size() for x in _tensors((args, kwargs, out)))
        return out


class Limits(NamedTuple):
    """What a device reaches at its best."""

    operations: float  # a second, in matrix products
    bytes: float  # a second, read and written, in copies


def limits(where: torch.device, precision: torch.dtype) -> Limits:
    """Measures a device: the product of square matrices, and a copy that no cache holds."""
    on_gpu = where.type == "cuda"
    side, length = (8192, 2**30) if on_gpu else (2048, 2**27)
    a, b = (torch.randn(side, side, device=where).to(precision) for _ in range(2))
    source = torch.zeros(length, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    return Limits(
        2 * side**3 / best_seconds(lambda: a @ b, where), 2 * length / best_seconds(lambda: target.copy_(source), where)
    )


def best_seconds(work: Callable[[], object], where: torch.device, *, times: int = 5) -> float:
    """The shortest of some runs, after one that warms up."""
    work()
    found = []
    for _ in range(times):
        wait(where)
        began = time.perf_counter()
        work()
        wait(where)
        found.append(time.perf_counter() - began)
    return min(found)


def wait(where: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def _tensors(nested: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))
