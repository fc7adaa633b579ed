"""Between two ticks the host never asks the device for a number: on a GPU it would wait for everything before."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_tools import ADDED, BATCH, CPU, FAMILIES, start

from kit.training import loop
from kit.training.adversarial import Adversarial

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


@pytest.mark.parametrize(("name", "settings"), [*((name, []) for name in FAMILIES), ("dcgan", ADDED)])
def test_no_step_waits_for_the_device(name, settings, prepared):
    recipe, state, batches = start(name, prepared, "d_steps=1", *settings)
    seen: list[str] = []
    after: list[int] = []

    def tick_due(pictures):
        after.append(len(seen))
        return False

    with Copies(seen), Waits(seen):
        for _ in loop.train(
            state,
            Adversarial(recipe, batches, 0, CPU),
            tick_due=tick_due,
            done=lambda pictures: pictures >= STEPS * BATCH,
            total_images=10**6,
        ):
            pass
    assert seen[after[0] : after[-1]] == []  # the first step also draws the epoch's order
    assert seen[after[-1] :] == ["tolist"]  # the reading of the last tick is such a wait, the only one
