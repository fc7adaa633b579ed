"""What a process finds of batch norm in the tests; a module of its own, as new processes import it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.training import distributed
from kit.training.batch_norm import synchronise

PROCESSES = 2
PICTURES = 7
CHANNELS = 6


class Case(NamedTuple):
    """What batch norm gets."""

    dtype: torch.dtype = torch.float64
    first: int = 4  # pictures of the first process; the second has the rest
    affine: bool = True
    side: int = 3  # of the pictures; 0: vectors
    layout: torch.memory_format = torch.contiguous_format

    @property
    def tolerance(self) -> float:
        """How far two ways to compute the same may be apart, as a share of its length."""
        return 1e-10 if self.dtype == torch.float64 else 0.02


CASES = {
    "plain": Case(),
    "channels last": Case(layout=torch.channels_last),
    "one picture and the rest": Case(first=1),
    "vectors": Case(side=0),
    "without weights": Case(affine=False),
    "bfloat16": Case(dtype=torch.bfloat16, side=8, layout=torch.channels_last),
}


def found(case: Case, rows: slice, *, share: bool) -> dict[str, Tensor]:
    """Values, gradients, second derivatives and buffers for some rows of the same seven pictures.

    The objective is a sum over pictures; the second derivatives are those of the squared length of its gradient in x.
    """
    torch.manual_seed(0)
    kind = nn.BatchNorm2d if case.side else nn.BatchNorm1d
    norm = kind(CHANNELS, affine=case.affine, dtype=torch.promote_types(case.dtype, torch.float32))
    if case.affine:
        nn.init.normal_(norm.weight, 1.0)
        nn.init.normal_(norm.bias)
    shape = (PICTURES, CHANNELS, *[case.side] * 2 * bool(case.side))
    pictures, slopes = (3 + 2 * torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x, slopes = (whole[rows].to(case.dtype) for whole in (pictures, slopes))
    if case.side:
        x = x.contiguous(memory_format=case.layout)
    x.requires_grad_()
    network = nn.Sequential(norm)
    if share:
        synchronise(network)
    weights = dict(norm.named_parameters())

    y = network(x)
    objective = (torch.tanh(y) * slopes).sum()
    once = torch.autograd.grad(objective, (x, *weights.values()), retain_graph=True)
    again = torch.autograd.grad(objective, (x, *weights.values()), create_graph=True)
    twice = torch.autograd.grad(again[0].square().sum(), (x, *weights.values()))
    names = ("x", *weights)
    return {
        "y": y.detach(),
        **{f"d{name}": slope for name, slope in zip(names, once, strict=True)},
        **{f"d{name} with a graph": slope.detach() for name, slope in zip(names, again, strict=True)},
        **{f"dd{name}": slope for name, slope in zip(names, twice, strict=True)},
        **{f"buffer {name}": buffer for name, buffer in network[0].named_buffers()},
    }


def work(rank: int, store: str, out: Path) -> None:
    """One of the processes: all cases, one after the other."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    halves = {name: (slice(case.first), slice(case.first, None)) for name, case in CASES.items()}
    torch.save({name: found(case, halves[name][rank], share=True) for name, case in CASES.items()}, out / f"{rank}.pt")
    distributed.leave()
