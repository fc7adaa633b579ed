"""Steps that save memory: the same gradients where nothing joins the pictures of a batch, and the way down to them."""

from __future__ import annotations

import pytest
import torch
from training_tools import CPU, run, same, start, weights

from kit.core.errors import KitError
from kit.training import memory
from kit.training.memory import DEFAULT, MemoryPolicy

GPU = torch.device("cuda")

APART: dict[str, tuple[str, list[str]]] = {
    "r3gan": ("r3gan", []),
    "spectral norm": ("sn-dcgan", ["norm_g=layer", "d_steps=2"]),
    "spectral norm in both": ("dcgan", ["modulate=no", "norm_g=spectral", "norm_d=spectral"]),
    "a gradient penalty": ("wgan-gp", ["norm_g=layer", "d_steps=2", "max_grad_norm=0.5"]),
    "everything random": (
        "dcgan",
        ["modulate=no", "norm_g=layer", "norm_d=layer", "augment=color,cutout", "instance_noise=0.1"],
    ),
}
"""Rows in which nothing joins the pictures of a batch."""


def trained(prepared, model, settings, policy):
    recipe, state, batches = start(model, prepared, "schedule=constant", *settings)
    until = 2 * recipe.pictures_per_iteration
    (tick,) = run(recipe, state, batches, until=until, total_images=100, memory=policy)
    return tick, {name: p.grad for net in (state.G, state.D) for name, p in net.named_parameters()}, state


@pytest.mark.parametrize("case", APART)
def test_accumulated_gradients_are_those_of_the_whole_batch(case, prepared):
    whole_tick, whole, _ = trained(prepared, *APART[case], DEFAULT)
    tick, found, _ = trained(prepared, *APART[case], MemoryPolicy(accumulation_steps=3))
    for name, gradient in whole.items():
        if gradient is not None:
            assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name
    for value in ("loss_d", "loss_g", "d_real", "d_fake"):
        assert getattr(tick, value) == pytest.approx(getattr(whole_tick, value), rel=1e-5, abs=1e-6)


def test_accumulation_changes_what_batch_norm_sees(prepared):
    _, whole, _ = trained(prepared, "dcgan", [], DEFAULT)
    _, found, _ = trained(prepared, "dcgan", [], MemoryPolicy(accumulation_steps=2))
    assert any((found[name] - whole[name]).norm() > 1e-3 * whole[name].norm() for name in whole)


@pytest.mark.parametrize("case", [("dcgan", []), ("wgan-gp", ["d_steps=2"])])
def test_offloaded_activations_change_no_bit_on_a_cpu(case, prepared):
    model, settings = case
    *_, whole = trained(prepared, model, settings, DEFAULT)
    *_, found = trained(prepared, model, settings, MemoryPolicy(offload_activations=True))
    for network in ("G", "D"):
        assert same(weights(getattr(whole, network)), weights(getattr(found, network)))


def test_the_way_down_on_a_gpu_and_on_a_cpu():
    def ladder(device, processes):
        rungs, policy = [], DEFAULT
        while policy := policy.reduce_memory(batch=16, processes=processes, device=device):
            rungs.append(policy)
        return rungs

    assert ladder(GPU, 1) == [MemoryPolicy(steps, True) for steps in (1, 2, 4, 8)]
    assert ladder(GPU, 2) == [MemoryPolicy(steps, True) for steps in (1, 2, 4)]
    assert ladder(CPU.kind, 1) == [MemoryPolicy(2), MemoryPolicy(4), MemoryPolicy(8)]


@pytest.mark.parametrize(
    ("text", "size"),
    [("14GB", 14 * 10**9), ("800 mb", 8 * 10**8), ("1.5GiB", 3 * 2**29), ("2048", 2048), ("1kb", 1000)],
)
def test_amounts_of_memory(text, size):
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "14TB", "-1GB", "0GB", "GB", "1iB"])
def test_what_is_not_amount_of_memory_is_named(text):
    with pytest.raises(KitError, match="not an amount of memory"):
        memory.parse_size(text)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_what_says_that_memory_ran_out(error):
    assert memory.ran_out(error)
    assert not memory.ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_cpu_that_cannot_allocate_ran_out():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.ran_out(raised.value)


def test_a_cpus_memory_is_not_limited_in_silence():
    with pytest.raises(KitError, match="--memory limits a GPU's memory"):
        memory.limit(10**9, CPU.kind)
