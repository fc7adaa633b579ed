"""Which device and precision are taken, and that fp16 learns with its scaler."""

from __future__ import annotations

import copy

import pytest
import torch
from training_tools import BATCH, CPU, run, start

from kit.core.errors import KitError
from kit.training import checkpoint, device
from kit.training.device import Device

HALF = Device(CPU.kind, "CPU", torch.float16)


@pytest.mark.parametrize(
    ("gpu", "capability", "precision"),
    [
        ("P100", (6, 0), torch.float32),
        ("V100", (7, 0), torch.float16),
        ("T4", (7, 5), torch.float16),
        ("A100", (8, 0), torch.bfloat16),
        ("H100", (9, 0), torch.bfloat16),
    ],
)
def test_each_gpu_gets_the_precision_it_has_units_for(gpu, capability, precision):
    assert device.gpu_precision(capability) == precision


TODAY = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "built_for"),
    [
        ((7, 5), TODAY),
        ((8, 9), TODAY),  # runs the code for 8.6
        ((9, 0), ["sm_90a"]),
        ((12, 1), TODAY),
        ((10, 0), ["sm_80", "compute_80"]),  # translated when it is loaded
    ],
)
def test_a_gpu_with_code_is_taken(capability, built_for):
    device.require_kernels("GPU", capability, built_for)


@pytest.mark.parametrize(
    ("capability", "built_for"),
    [((6, 0), TODAY), ((8, 0), ["sm_86"]), ((7, 0), ["sm_75", "compute_90"]), ((7, 5), [])],
)
def test_a_gpu_without_code_is_refused_at_once(capability, built_for):
    with pytest.raises(KitError, match=r"Tesla P100 \(compute capability .*no code for it.*CUDA_VISIBLE_DEVICES"):
        device.require_kernels("Tesla P100", capability, built_for)


def trained(prepared, where, *, until, state=None, settings=()):
    recipe, new, batches = start("dcgan", prepared, *settings, device=where)
    state = state or new
    return recipe, state, run(recipe, state, batches, until=until, device=where)


@pytest.mark.parametrize("settings", [[], ["penalty=r1", "max_grad_norm=0.5"]])
def test_fp16_stays_close_to_fp32(prepared, settings):
    *_, (half,) = trained(prepared, HALF, until=5 * BATCH, settings=settings)
    *_, (full,) = trained(prepared, CPU, until=5 * BATCH, settings=settings)
    assert half.loss_d == pytest.approx(full.loss_d, rel=0.02)
    assert half.loss_g == pytest.approx(full.loss_g, rel=0.02)


def test_a_step_too_large_for_fp16_is_left_out_and_the_scale_halved(prepared):
    _, state, _ = trained(prepared, HALF, until=0)
    before = copy.deepcopy(state.G.state_dict())
    scale = 2.0**120
    state.scalers["G"].load_state_dict({**state.scalers["G"].state_dict(), "scale": scale})
    trained(prepared, HALF, until=BATCH, state=state)
    assert state.scalers["G"].get_scale() == scale / 2
    assert all(torch.equal(weight, before[name]) for name, weight in state.G.named_parameters())


def test_a_resumed_run_in_fp16_goes_on_with_the_same_scale(prepared, tmp_path):
    _, once, _ = trained(prepared, HALF, until=4 * BATCH)
    recipe, first, _ = trained(prepared, HALF, until=2 * BATCH)
    first.scalers["D"].update(2.0**10)
    shape = checkpoint.Shape(16, 3, ("a", "b"))
    checkpoint.save(tmp_path / "checkpoint.pt", first, recipe, shape)
    _, second, _ = start("dcgan", prepared, seed=1, device=HALF)
    checkpoint.load(tmp_path / "checkpoint.pt", second, recipe, shape)
    assert (second.scalers["D"].get_scale(), second.scalers["G"].get_scale()) == (
        2.0**10,
        once.scalers["G"].get_scale(),
    )


def test_other_precisions_take_no_scaler():
    for precision in (torch.float32, torch.bfloat16):
        assert not Device(CPU.kind, "CPU", precision).scaler().is_enabled()


def test_deterministic_algorithms_last_as_long_as_the_run():
    with Device(CPU.kind, "CPU", torch.float32, deterministic=True).algorithms():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
