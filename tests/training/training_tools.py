"""Rows of the registry, built small, and trained for some steps."""

from __future__ import annotations

import torch

from kit.data.batches import Batches
from kit.models.registry import MODELS, of_task
from kit.training import loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.device import Device

CPU = Device(torch.device("cpu"), "CPU", torch.float32)
BATCH = 8

ROWS = list(of_task("generation"))
FAMILIES = [*{MODELS[name].recipe.architecture: name for name in reversed(ROWS)}.values()]
"""A row for each architecture."""

ADDED = ["augment=color,translation,cutout", "instance_noise=0.1", "max_grad_norm=0.5", "schedule=linear"]
"""All that can be added to a step."""


def start(name, prepared, *settings, seed=0, device=CPU):
    """A recipe, its untrained networks, and batches."""
    recipe = MODELS[name].recipe.override(["width=4", "latent=8", f"batch={BATCH}", *settings])
    state = train_state.build(
        recipe, size=prepared.size, channels=prepared.channels, classes=2, seed=seed, device=device
    )
    return recipe, state, Batches(prepared, seed=seed, device=device.kind, flip=recipe.flip)


def run(recipe, state, batches, *, until, seed=0, every=10**9, device=CPU, **options):
    """Trains until so many pictures were seen; the ticks, one every so many pictures."""
    return list(
        loop.train(
            state,
            Adversarial(recipe, batches, seed, device),
            tick_due=lambda pictures: pictures % every == 0,
            done=lambda pictures: pictures >= until,
            **options,
        )
    )


def weights(network):
    """A copy of a network's weights and buffers."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a, b):
    """Whether all tensors of two networks are equal to the bit."""
    return all(torch.equal(a[name], b[name]) for name in a)
