"""What each of two processes does in the tests: `python distributed_tools.py SETS FOLDER`, started by torchrun.

They leave what they computed, and the addresses on which the processes of the run listen. Then the first one is killed,
and the second leaves the name of the error by which it notices.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from training_tools import BATCH, CPU

from kit.core.signals import ignore_signals
from kit.data import prepared_set
from kit.data.batches import Batches
from kit.models.registry import MODELS
from kit.run.trainer import OBJECTIVES
from kit.training import distributed, loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.distributed import WorkerLostError, convert_sync_batch_norm
from kit.training.memory import DEFAULT, MemoryPolicy

PROCESSES = 2
STEPS = 2

ACCUMULATED = "batch norm, gradients accumulated"

CASES: dict[str, tuple[str, list[str]]] = {
    ACCUMULATED: ("dcgan", []),
    "batch norm in both": ("dcgan", []),
    "means over the batch": ("ralsgan", []),
    "a penalty": ("wgan-gp", []),
    "a penalty through batch norm": ("dcgan", ["penalty=r1", "penalty_weight=0.5"]),
    "pairs and two penalties": ("r3gan", ["schedule=constant"]),
    "conditions and attention": ("sagan", []),
    "dense layers": ("gan", []),
    "everything random": ("dcgan", ["augment=color,translation,cutout", "instance_noise=0.1", "max_grad_norm=0.5"]),
    "two translations and their pools": ("cyclegan", ["generator=resnet", "blocks=2", "buffer_size=6"]),
    "a translation by patches": ("cut", ["nce_patches=16", "flip_equivariance=true"]),
}
"""A model of the registry and what is changed in it."""


class DoubleBatches(Batches):
    """Batches in float64."""

    def draw(self, position, count):
        x, y = super().draw(position, count)
        return x.double(), y

    def draw_inputs(self, position, count):
        return super().draw_inputs(position, count).double()


def train(case: str, data: Path, processes: distributed.Distributed) -> dict[str, Tensor]:
    """Weights, buffers and the last gradients after some steps in float64."""
    torch.set_default_dtype(torch.float64)
    model, settings = CASES[case]
    recipe = MODELS[model].recipe.override(["width=4", "latent=8", f"batch={BATCH}", "d_steps=1", *settings])
    prepared = prepared_set.load(data / recipe.task)
    state = train_state.build(recipe, size=prepared.size, channels=3, classes=2, seed=0, device=CPU)
    if processes.size > 1:
        convert_sync_batch_norm(state.G)
        convert_sync_batch_norm(state.D)
    batches = DoubleBatches(prepared, seed=0, device=CPU.kind, flip=True)
    objective = OBJECTIVES.get(recipe.architecture, Adversarial)
    for _ in loop.train(
        state,
        objective(recipe, batches, 0, CPU, processes),
        tick_due=lambda _: False,
        done=lambda n: n >= STEPS * BATCH if processes.is_main else False,
        total_images=100,
        memory=MemoryPolicy(accumulation_steps=2) if case == ACCUMULATED else DEFAULT,
    ):
        pass
    found: dict[str, Tensor] = {f"extra.{name}": value for name, value in state.extra.items()}
    for name, network in {"G": state.G, "D": state.D, "ema": state.ema.module}.items():
        found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        found |= {f"{name}.{key}'": p.grad for key, p in network.named_parameters() if p.grad is not None}
    return found


class NormCase(NamedTuple):
    """What batch norm gets."""

    dtype: torch.dtype = torch.float64
    first: int = 4  # pictures of the first process; the second has the rest
    affine: bool = True
    side: int = 3  # of the pictures; 0: vectors
    layout: torch.memory_format = torch.contiguous_format

    @property
    def tolerance(self) -> float:
        """Largest relative difference between two ways to compute the same."""
        return 1e-10 if self.dtype == torch.float64 else 0.02


PICTURES = 7
CHANNELS = 6

NORM_CASES = {
    "plain": NormCase(),
    "channels last": NormCase(layout=torch.channels_last),
    "one picture and the rest": NormCase(first=1),
    "vectors": NormCase(side=0),
    "without weights": NormCase(affine=False),
    "bfloat16": NormCase(dtype=torch.bfloat16, side=8, layout=torch.channels_last),
}


def normalize(case: NormCase, rows: slice, *, synchronized: bool) -> dict[str, Tensor]:
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
    pictures, factors = (3 + 2 * torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x, factors = (whole[rows].to(case.dtype) for whole in (pictures, factors))
    if case.side:
        x = x.contiguous(memory_format=case.layout)
    x.requires_grad_()
    network = nn.Sequential(norm)
    if synchronized:
        convert_sync_batch_norm(network)
    weights = dict(norm.named_parameters())

    y = network(x)
    objective = (torch.tanh(y) * factors).sum()
    once = torch.autograd.grad(objective, (x, *weights.values()), retain_graph=True)
    again = torch.autograd.grad(objective, (x, *weights.values()), create_graph=True)
    twice = torch.autograd.grad(again[0].square().sum(), (x, *weights.values()))
    names = ("x", *weights)
    return {
        "y": y.detach(),
        **{f"d{name}": gradient for name, gradient in zip(names, once, strict=True)},
        **{f"d{name} with a graph": gradient.detach() for name, gradient in zip(names, again, strict=True)},
        **{f"dd{name}": gradient for name, gradient in zip(names, twice, strict=True)},
        **{f"buffer {name}": buffer for name, buffer in network[0].named_buffers()},
    }


MESSAGES = (True, None, {"order": "load", "path": "ü" * 1000}, [1, 0.1, "x"])


def listening(processes: list[int]) -> list[str]:
    """Addresses of the TCP sockets on which some processes listen."""
    inodes = set()
    for process in processes:
        for link in Path(f"/proc/{process}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                words = bytes.fromhex(address.partition(":")[0])
                found.append(b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))
    return [str(ipaddress.ip_address(address)) for address in found]


def main(data: Path, out: Path) -> None:
    """All that a process does."""
    torch.set_num_threads(1)
    processes = distributed.init()
    rank = processes.rank
    (out / f"{rank}.pid").write_text(str(os.getpid()))
    received = [processes.broadcast(message if processes.is_main else None) for message in MESSAGES]
    if processes.is_main:
        ids = [int(path.read_text()) for path in out.glob("*.pid")]
        (out / "listening").write_text("\n".join(listening([os.getppid(), *ids])))
    halves = {name: (slice(case.first), slice(case.first, None)) for name, case in NORM_CASES.items()}
    norms = {name: normalize(case, halves[name][rank], synchronized=True) for name, case in NORM_CASES.items()}
    trained = {case: train(case, data, processes) for case in CASES}
    torch.save({"received": received, "norms": norms, "trained": trained}, out / f"{rank}.pt")
    distributed.all_reduce(torch.zeros(1))  # both are here
    if processes.is_main:
        os.kill(os.getpid(), signal.SIGKILL)
    ignore_signals()  # torchrun's, which also notices
    try:
        processes.broadcast()
    except WorkerLostError:
        (out / "noticed").write_text("WorkerLostError")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
