"""DCGAN's convolutions with faster gradients give what torch's own give."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from kit.models import dcgan, registry
from kit.training import train_state
from kit.training.device import Device
from kit.training.halving import SMALL, DoublingConv2d, HalvingConv2d, down, quick, quicken, slope, up

LAYERS = {"halving": (nn.Conv2d, HalvingConv2d), "doubling": (nn.ConvTranspose2d, DoublingConv2d)}
LARGE = 2 * SMALL + 4


def both(name: str, inputs: int, outputs: int, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """torch's layer, and a quick one with the same weights."""
    torch.manual_seed(0)
    plain = LAYERS[name][0](inputs, outputs, 4, stride=2, padding=1, bias=False, dtype=dtype)
    faster = quick(copy.deepcopy(plain))
    assert type(faster) is LAYERS[name][1]
    return plain, faster


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("side", [2, 6, SMALL, LARGE])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3), (6, 6)])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_values_and_two_derivatives_are_torchs(name, inputs, outputs, side, layout, dtype, tolerance):
    layers = both(name, inputs, outputs, dtype)
    whole = torch.randn(5, inputs, side, side, dtype=dtype).contiguous(memory_format=layout)
    found = []
    for layer in layers:
        x = whole[1:].detach().requires_grad_()  # not at the beginning of its memory
        y = layer(x)
        objective = (y.tanh() * torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape)).sum()
        once = torch.autograd.grad(objective, (x, layer.weight), create_graph=True)
        steepness = sum(gradient.square().sum() for gradient in once)
        twice = torch.autograd.grad(steepness, (x, layer.weight))
        found.append([y, *once, *twice])
    for plain, ours in zip(*found, strict=True):
        scale = float(plain.detach().abs().max())
        torch.testing.assert_close(ours, plain, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels", [(64, 128), (128, 3), (3, 64)], ids=str)
@pytest.mark.parametrize("side", [8, 16, 32])
def test_in_bfloat16_gradients_move_no_further_than_torchs(name, channels, side):
    plain, faster = both(name, *channels, torch.float32)
    ways = ((plain, False), (plain, True), (faster, True))
    x = torch.randn(16, channels[0], side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    slopes = torch.randn_like(plain(x))

    def gradients(layer: nn.Module, half: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = layer(x)
        assert y.dtype == (torch.bfloat16 if half else torch.float32)
        return list(torch.autograd.grad(y, (x, layer.weight), slopes.to(y.dtype)))

    for exact, usual, ours in zip(*(gradients(*way) for way in ways), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() < 1.2 * (usual - exact).norm() + 1e-7 * exact.norm()
        assert (ours - exact).norm() < 0.01 * exact.norm()


def test_the_three_are_one_form():
    x, y, w = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 8, 8), (2, 4, 4, 4), (4, 3, 4, 4)))
    form = (down(x, w) * y).sum()
    torch.testing.assert_close((x * up(y, w)).sum(), form)
    torch.testing.assert_close((w * slope(x, y, w)).sum(), form)


def test_only_what_is_exactly_such_a_layer_is_replaced():
    class Own(nn.Conv2d):
        """A user's."""

    def conv(kind=nn.Conv2d, side=4, **changed):
        return kind(4, 4, side, **({"stride": 2, "padding": 1, "bias": False} | changed))

    others = [
        conv(bias=True),
        conv(padding=0),
        conv(stride=1),
        conv(side=3),
        conv(groups=2),
        conv(dilation=2),
        conv(padding_mode="reflect"),
        conv(nn.ConvTranspose2d, output_padding=1),
        conv(Own),
        spectral_norm(conv()),
    ]
    assert [quick(layer) for layer in others] == others
    for layer in (conv(), conv(nn.ConvTranspose2d)):
        faster = quick(layer)
        assert type(faster) in (HalvingConv2d, DoublingConv2d)
        assert faster.weight is layer.weight


def test_networks_of_a_users_own_stay_as_they_are():
    class Own(dcgan.Discriminator):
        """It may look at its layers."""

    for kind, changed in ((dcgan.Discriminator, True), (Own, False)):
        network = kind(size=16, channels=3, width=4)
        before = list(network.modules()), dict(network.named_parameters())
        assert quicken(network) is network
        assert (list(network.modules()) != before[0]) is changed
        assert all(before[1][name] is weight for name, weight in network.named_parameters())


@pytest.mark.parametrize(
    ("model", "kind", "precision", "faster"),
    [
        ("dcgan", "cpu", torch.bfloat16, True),
        ("dcgan", "cpu", torch.float32, False),
        ("dcgan", "meta", torch.bfloat16, False),
        ("wgan-gp", "cpu", torch.bfloat16, False),
    ],
)
def test_players_have_them_where_they_are_faster(model, kind, precision, faster):
    recipe = registry.get(model).override(["width=4"])
    state = train_state.build(
        recipe, size=16, channels=3, classes=0, seed=0, device=Device(torch.device(kind), kind, precision)
    )
    for network in (state.G, state.D):
        assert any(isinstance(module, HalvingConv2d | DoublingConv2d) for module in network.modules()) is faster
    assert not any(isinstance(module, HalvingConv2d | DoublingConv2d) for module in state.ema.modules())
