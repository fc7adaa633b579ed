"""Every row of the zoo, at every size: shapes, parameter counts, names."""

from __future__ import annotations

import pytest
import torch

from kit.errors import KitError
from kit.models import describe, zoo
from kit.models.sizes import split_size

SIZES = [16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_networks_take_and_give_pictures_of_every_size(name, size, channels):
    recipe = zoo.get(name).recipe.override(["width=4"])
    G, D = zoo.build(recipe, size=size, channels=channels, classes=2)
    y = torch.tensor([0, 1])
    pictures = G(torch.randn(2, recipe.latent), y)
    assert pictures.shape == (2, channels, size, size)
    assert pictures.abs().max() <= 1
    assert D(pictures, y).shape == (2,)


def test_dcgan_has_the_parameters_of_pytorchs_tutorial():
    # The tutorial's networks (nz=100, ngf=ndf=64, nc=3) print 3,576,704 and 2,765,568.
    G, D = zoo.build(zoo.get("dcgan").recipe, size=64, channels=3, classes=0)
    assert sum(p.numel() for p in G.parameters()) == 3_576_704
    assert sum(p.numel() for p in D.parameters()) == 2_765_568


def test_dcgan_of_width_128_has_the_papers_channels():
    # Radford et al. 2016, figure 1: 1024, 512, 256, 128 channels from 4×4 to 32×32.
    G, _ = zoo.build(zoo.get("dcgan").recipe.override(["width=128"]), size=64, channels=3, classes=0)
    shapes = [layer.out_channels for layer in G.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert shapes == [1024, 512, 256, 128, 3]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_a_base_doubled(size):
    base, doublings = split_size(size)
    assert 4 <= base <= 7
    assert base * 2**doublings == size


@pytest.mark.parametrize("size", [0, 7, 8, 15, 17, 30, 36, 63, 65, 257, 512])
def test_other_sizes_are_refused_with_the_ones_there_are(size):
    with pytest.raises(KitError, match=f"{size} px.*28.*64.*256"):
        split_size(size)


def test_a_mistyped_model_gets_its_match():
    with pytest.raises(KitError, match="'dcgn'.*'dcgan'"):
        zoo.get("dcgn")


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_row_is_described_with_all_its_settings(name):
    facts, settings = describe.model(name)
    assert facts["paper"]
    recipe = zoo.get(name).recipe
    assert {row["setting"]: row["default"] for row in settings}.items() <= vars(recipe).items()
