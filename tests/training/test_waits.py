"""Between two ticks the host never asks the device for a number: on a GPU it would wait for everything before."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kit.data.batches import Batches
from kit.models.registry import MODELS, of_task
from kit.training import loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.device import Device

CPU = Device(torch.device("cpu"), "CPU", torch.float32)
STEPS = 3

OPERATIONS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")
"""Those whose results the host has to know before it can go on; `item` and `if` end in the first."""

METHODS = ("tolist", "cpu", "numpy", "__array__")
"""Those that copy to the host, which on a CPU end in no operation."""


class Waits(TorchDispatchMode):
    """Notes such operations."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name.startswith("index") and any(
            leaf.dtype == torch.bool for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)
        )  # how many are chosen is counted first
        if masked or name in OPERATIONS:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Notes such methods."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in METHODS:
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def waits_between_steps(name, prepared, settings):
    """What the steps after the first waited for: that one also draws the epoch's order."""
    recipe = MODELS[name].recipe.override(["width=4", "latent=8", "batch=8", *settings])
    state = train_state.build(recipe, size=16, channels=3, classes=2, seed=0, device=CPU)
    batches = Batches(prepared, seed=0, device=CPU.kind, flip=True)
    seen: list[str] = []
    after: list[int] = []

    def tick_due(pictures):
        after.append(len(seen))
        return False

    with Copies(seen), Waits(seen):
        until = STEPS * recipe.pictures_per_iteration
        for _ in loop.train(
            state,
            Adversarial(recipe, batches, 0, CPU),
            tick_due=tick_due,
            done=lambda n: n >= until,
            total_images=10**6,
        ):
            pass
    assert len(after) == STEPS
    assert seen[after[-1] :] == ["tolist"]  # the reading of the last tick is such a wait, the only one
    return seen[after[0] : after[-1]]


@pytest.mark.parametrize("name", of_task("generation"))
def test_no_step_waits_for_the_device(name, make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=256, size=16, classes=2)
    assert waits_between_steps(name, prepared, []) == []


def test_nor_with_all_that_can_be_added(make_set, tmp_path):
    prepared = make_set(tmp_path / "set", n=256, size=16, classes=2)
    added = ["augment=color,translation,cutout", "instance_noise=0.1", "max_grad_norm=0.5", "schedule=cosine"]
    assert waits_between_steps("dcgan", prepared, added) == []
