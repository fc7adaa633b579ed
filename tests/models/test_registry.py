"""Every row of the registry, at every size: shapes, parameter counts, names."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from kit.commands.report import model_settings
from kit.core.errors import KitError
from kit.models import registry
from kit.models.layers import SelfAttention, split_size

ROWS = list(registry.of_task("generation"))
FAMILIES = [*{registry.MODELS[name].recipe.architecture: name for name in reversed(ROWS)}.values()]
"""A row for each architecture."""


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [*((name, 16, 1) for name in ROWS), *((name, size, 3) for name in FAMILIES for size in (20, 28, 96))],
)
def test_networks_take_and_give_pictures_of_every_size(name, size, channels):
    recipe = registry.get(name).recipe.override(["width=2", "latent=8"])
    G, D = registry.build(recipe, size=size, channels=channels, classes=2)
    y = torch.tensor([0, 1])
    pictures = G(torch.randn(2, recipe.latent), y)
    assert pictures.shape == (2, channels, size, size)
    assert pictures.abs().max() <= 1 or recipe.architecture == "r3gan"  # whose authors leave the output open
    assert D(pictures, y).shape == (2,)
    assert (G.latent, G.classes) == (8, 2 if recipe.conditional else 0)


def test_dense_networks_take_any_size():
    G, D = registry.build(registry.get("gan").recipe.override(["width=2"]), size=17, channels=3, classes=0)
    y = torch.tensor([0, 1])
    assert D(G(torch.randn(2, 100), y), y).shape == (2,)


@pytest.mark.parametrize("name", ROWS)
def test_labels_matter_to_both_networks_of_a_conditional_row_alone(name):
    recipe = registry.get(name).recipe.override(["width=4"])
    G, D = (network.eval() for network in registry.build(recipe, size=16, channels=1, classes=3))
    with torch.no_grad():
        for parameter in (*G.parameters(), *D.parameters()):
            parameter += 0.1 * torch.randn_like(parameter)  # some are 0 at first
    z, x = torch.randn(1, recipe.latent), torch.randn(1, 1, 16, 16)
    zero, two = torch.tensor([0]), torch.tensor([2])
    assert torch.equal(G(z, zero), G(z, two)) != recipe.conditional
    assert torch.equal(D(x, zero), D(x, two)) != recipe.conditional


@pytest.mark.parametrize("name", [name for name, row in registry.MODELS.items() if row.recipe.conditional])
def test_a_set_without_classes_gets_the_row_to_take(name):
    row = registry.get(name)
    with pytest.raises(KitError, match=f"{name} .*--model {row.unconditional}$"):
        registry.build(row.recipe, size=16, channels=3, classes=0)
    assert not registry.get(row.unconditional).recipe.conditional
    G, _ = registry.build(row.recipe.override(["conditional=no", "width=4"]), size=16, channels=3, classes=0)
    assert G.classes == 0


def test_dcgan_has_the_parameters_of_pytorchs_tutorial():
    # The tutorial's networks (nz=100, ngf=ndf=64, nc=3) print 3,576,704 and 2,765,568.
    G, D = registry.build(registry.get("dcgan").recipe.override(["modulate=no"]), size=64, channels=3, classes=0)
    assert parameters(G) == 3_576_704
    assert parameters(D) == 2_765_568


@pytest.mark.parametrize("modulate", [True, False])
def test_modulation_brings_z_to_every_batch_norm(modulate):
    recipe = registry.get("dcgan").recipe.override(["width=4", f"modulate={modulate}"])
    G, _ = registry.build(recipe, size=16, channels=3, classes=0)
    with torch.no_grad():
        for parameter in G.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # gains and biases begin at 0
        next(G.layers.children()).weight.zero_()  # z can come in elsewhere only
    pictures = G.eval()(torch.randn(2, recipe.latent), torch.zeros(2, dtype=torch.int64))
    assert torch.equal(pictures[0], pictures[1]) != modulate


def test_dcgan_of_width_128_has_the_papers_channels():
    # Radford et al. 2016, figure 1: 1024, 512, 256, 128 channels from 4×4 to 32×32.
    G, _ = registry.build(registry.get("dcgan").recipe.override(["width=128"]), size=64, channels=3, classes=0)
    shapes = [layer.out_channels for layer in G.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert shapes == [1024, 512, 256, 128, 3]


def test_sn_dcgan_has_the_layers_of_the_papers_table_3():
    # Miyato et al. 2018, table 3, for 32×32: kernel side, channels in, channels out.
    convolutions = [(3, 3, 64), (4, 64, 64), (3, 64, 128), (4, 128, 128), (3, 128, 256), (4, 256, 256), (3, 256, 512)]
    G, D = registry.build(registry.get("sn-dcgan").recipe, size=32, channels=3, classes=0)
    assert parameters(D) == sum(side**2 * i * o + o for side, i, o in convolutions) + 4 * 4 * 512 + 1
    deconvolutions = sum(4**2 * i * o + 2 * o for i, o in [(512, 256), (256, 128), (128, 64)])  # with batch norm
    # Batch norm and ReLU also after the dense layer, as in the authors' code.
    assert parameters(G) == (128 + 1) * 4 * 4 * 512 + 2 * 512 + deconvolutions + 3**2 * 64 * 3 + 3


def test_gan_has_the_parameters_of_its_stated_layers():
    # Three hidden layers of 256, 512, 1024 units, batch norm in G; this variant is the kit's own.
    G, D = registry.build(registry.get("gan").recipe, size=28, channels=1, classes=0)
    units = [100, 256, 512, 1024]
    hidden = sum((i + 1) * o + 2 * o for i, o in pairwise(units))
    assert parameters(G) == hidden + (1024 + 1) * 784
    assert parameters(D) == (784 + 1) * 1024 + (1024 + 1) * 512 + (512 + 1) * 256 + 256


@pytest.mark.parametrize(
    ("name", "width", "latent", "millions"),
    [
        ("sagan", 64, 128, "81.5"),
        ("sagan", 96, 128, "173.5"),
        ("biggan", 64, 120, "71.3"),
        ("biggan", 96, 120, "158.3"),
    ],
)
def test_residual_networks_have_the_parameters_of_biggans_table_1(name, width, latent, millions):
    # Brock et al. 2019, table 1: both networks for ImageNet at 128×128, attention at 64; the shared vectors left out.
    recipe = registry.get(name).recipe.override([f"width={width}", f"latent={latent}", "attention=64"])
    with torch.device("meta"):
        G, D = registry.build(recipe, size=128, channels=3, classes=1000)
    shared = 1000 * 128 if name == "biggan" else 0
    assert f"{(parameters(G) + parameters(D) - shared) / 1e6:.1f}" == millions


def test_r3gan_of_width_96_has_the_parameters_of_its_authors_networks():
    # Counted in the authors' code with the settings they publish for FFHQ at 256×256.
    with torch.device("meta"):
        G, D = registry.build(registry.get("r3gan").recipe.override(["width=96"]), size=256, channels=3, classes=0)
    assert (parameters(G), parameters(D)) == (23_057_952, 23_009_568)


@pytest.mark.parametrize("name", ["sagan", "biggan"])
@pytest.mark.parametrize(
    ("size", "limit", "side"), [(64, 32, 32), (64, 16, 16), (128, 64, 64), (16, 32, 8), (96, 32, 24), (64, 0, 0)]
)
def test_attention_stands_where_it_is_asked_for(name, size, limit, side):
    recipe = registry.get(name).recipe.override(["width=2", "latent=8", f"attention={limit}"])
    G, D = registry.build(recipe, size=size, channels=3, classes=2)
    seen = []
    for network in (G, D):
        for module in network.modules():
            if isinstance(module, SelfAttention):
                module.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    y = torch.tensor([0, 1])
    D(G(torch.randn(2, 8), y), y)
    assert seen == ([side, side] if side else [])


def test_a_latent_too_short_to_be_shared_is_named():
    with pytest.raises(KitError, match="latent=4 is too short for 5 layers"):
        registry.build(registry.get("biggan").recipe.override(["latent=4"]), size=64, channels=3, classes=2)


def test_sizes_are_a_base_doubled():
    sizes = [16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]
    for size in sizes:
        base, doublings = split_size(size)
        assert 4 <= base <= 7
        assert base * 2**doublings == size


@pytest.mark.parametrize("size", [0, 8, 30, 65, 512])
def test_other_sizes_are_refused_with_the_ones_there_are(size):
    with pytest.raises(KitError, match=f"{size} px.*28.*64.*256"):
        split_size(size)


def test_a_mistyped_model_gets_its_match():
    with pytest.raises(KitError, match=r"'dcgn'.*'dcgan'"):
        registry.get("dcgn")


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_described_with_all_its_settings(name):
    facts, settings = model_settings(name)
    assert facts["paper"]
    recipe = registry.get(name).recipe
    assert facts["conditional"] == recipe.conditional
    assert {row["setting"] for row in settings} == set(registry.get(name).settings())
    assert all(row["range"] for row in settings)
    assert {row["setting"]: row["default"] for row in settings}.items() <= vars(recipe).items()


@pytest.mark.parametrize("name", ROWS)
def test_d_can_tell_a_dim_picture_from_a_bright_one(name):
    # Without any bias and normalization D(x / 2) would be D(x) / 2, and its sign the same.
    recipe = registry.get(name).recipe.override(["width=4"])
    _, D = registry.build(recipe, size=16, channels=1, classes=2)
    D.eval()
    with torch.no_grad():
        for parameter in D.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x, y = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    assert not torch.allclose(D(x / 2, y), D(x, y) / 2, rtol=1e-3)
