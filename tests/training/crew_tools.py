"""What a process of a crew does in the tests; a module of its own, as new processes import it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from kit.data import prepared_set
from kit.models.registry import MODELS
from kit.training import distributed, loop, train_state
from kit.training.batch_norm import synchronise
from kit.training.device import Device
from kit.training.memory import PLENTY, MemoryPolicy

PROCESSES = 2
STEPS = 2
BATCH = 8
CPU = Device(torch.device("cpu"), "CPU", torch.float32)

IN_PARTS = "batch norm, in two parts"

CASES: dict[str, tuple[str, list[str]]] = {
    IN_PARTS: ("dcgan", []),
    "batch norm in both": ("dcgan", []),
    "means over the batch": ("ralsgan", []),
    "a penalty": ("wgan-gp", []),
    "a penalty through batch norm": ("dcgan", ["penalty=r1", "penalty_weight=0.5"]),
    "pairs and two penalties": ("r3gan", ["schedule=constant"]),
    "conditions and attention": ("sagan", []),
    "dense layers": ("gan", []),
    "everything that is random": (
        "dcgan",
        ["augment=color,translation,cutout", "instance_noise=0.1", "max_grad_norm=0.5"],
    ),
}
"""A name, a row of the zoo and what is changed in it."""


class Doubled(prepared_set.Batches):
    """Batches in float64."""

    def draw(self, position, count):
        x, y = super().draw(position, count)
        return x.double(), y


def trained(case: str, data: Path, crew: distributed.Distributed) -> dict[str, torch.Tensor]:
    """Weights, buffers and the last gradients after some steps in float64."""
    torch.set_default_dtype(torch.float64)
    model, settings = CASES[case]
    recipe = MODELS[model].recipe.override(["width=4", "latent=8", f"batch={BATCH}", "d_steps=1", *settings])
    state = train_state.build(recipe, size=16, channels=3, classes=2, seed=0, device=CPU)
    if crew.size > 1:
        synchronise(state.G)
        synchronise(state.D)
    batches = Doubled(prepared_set.load(data), seed=0, device=CPU.kind, flip=True)
    for _ in loop.train(
        state,
        batches,
        recipe,
        seed=0,
        device=CPU,
        tick_due=lambda _: False,
        done=lambda n: n >= STEPS * BATCH if crew.leads else False,
        plan=100,
        crew=crew,
        thrift=MemoryPolicy(parts=2) if case == IN_PARTS else PLENTY,
    ):
        pass
    found: dict[str, torch.Tensor] = {}
    for name, network in {"G": state.G, "D": state.D, "ema": state.ema.module}.items():
        found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        found |= {f"{name}.{key}'": p.grad for key, p in network.named_parameters() if p.grad is not None}
    return found


def work(rank: int, way: str, port: int, data: Path, out: Path) -> None:
    """One process of a crew: all cases, one after the other.

    Args:
        rank: of this process.
        way: "sockets", as on a CPU, or "process group": torch's, as between GPUs.
        port: where a store waits that both know.
        data: the set.
        out: where to leave what was found.
    """
    crew = meet(rank, PROCESSES, port) if way == "sockets" else meet_in_a_group(rank, PROCESSES, port)
    torch.save({case: trained(case, data, crew) for case in CASES}, out / f"{rank}.pt")
    distributed.leave()


def meet(rank: int, size: int, port: int) -> distributed.Distributed:
    """Joins a crew as a process does that torchrun has started."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    return distributed.join()


def meet_in_a_group(rank: int, size: int, port: int) -> distributed.Distributed:
    """Joins torch's own process group."""
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=False)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    return distributed.Distributed(rank, size)
