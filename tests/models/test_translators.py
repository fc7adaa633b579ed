"""Networks from pictures to pictures: shapes, the authors' parameter counts, filters, what CUT compares."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import conv2d

from kit.core.errors import KitError
from kit.models import registry, translators
from kit.models.registry import of_task

TRANSLATION_MODELS = of_task("translation")


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", TRANSLATION_MODELS)
@pytest.mark.parametrize("generator", ["resnet", "unet"])
@pytest.mark.parametrize(("filters", "size", "channels"), [("yes", 48, 1), ("no", 96, 3)])
def test_pictures_keep_their_shape_and_range(name, generator, filters, size, channels):
    settings = ["width=2", "blocks=2", f"generator={generator}", f"antialias={filters}", f"antialias_d={filters}"]
    settings.append(f"residual={filters}")
    recipe = TRANSLATION_MODELS[name].override(settings)
    G, D = registry.build(recipe, size=size, channels=channels, classes=0)
    out = G(torch.rand(2, channels, size, size) * 2 - 1)
    assert out.shape == (2, channels, size, size)
    assert out.abs().max() <= 1
    logits = D(out)
    assert logits.shape[:2] == (2, 1)
    (logits.mean() + out.mean()).backward()
    used = [G.to_target, D.target] if name == "cyclegan" else [G.generator, D]
    assert all(p.grad is not None for network in used for p in network.parameters())


@pytest.mark.parametrize("antialias", [True, False])
def test_networks_have_the_parameters_of_the_authors(antialias):
    # What junyanz/pytorch-CycleGAN-and-pix2pix prints at width 64: 11.378 M, 7.838 M and 2.765 M.
    with torch.device("meta"):
        nine, six = (
            translators.ResnetGenerator(channels=3, width=64, blocks=blocks, antialias=antialias, residual=True)
            for blocks in (9, 6)
        )
        D = translators.PatchDiscriminator(channels=3, width=64, antialias=antialias)
    assert (parameters(nine), parameters(six), parameters(D)) == (11_378_179, 7_837_699, 2_764_737)


def test_unet_has_the_convolutions_of_pix2pix():
    with torch.device("meta"):
        G = translators.UnetGenerator(size=256, channels=3, width=64, antialias=False, residual=False)
    # 4×4 convolutions: channels in and out of each level down; up the same, from twice the channels but innermost.
    widths = [64, 128, 256, 512, 512, 512, 512, 512]
    down = sum(16 * i * o + o for i, o in zip([3, *widths], widths, strict=False))
    up = sum(16 * i * o + o for i, o in zip([512, *(2 * w for w in widths[-2::-1])], [*widths[-2::-1], 3], strict=True))
    assert parameters(G) == down + up


def test_a_patch_is_70_pixels_wide():
    D = translators.PatchDiscriminator(channels=3, width=2, antialias=False)
    for layer in D.layers:
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = lambda x: x  # it would mix all positions
    x = torch.randn(1, 3, 128, 128, requires_grad=True)
    logits = D(x)
    (gradient,) = torch.autograd.grad(logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2], x)
    rows = gradient[0].abs().sum(dim=(0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize("side", [8, 10])
def test_downsampling_is_the_binomial_filter(side):
    x = torch.randn(2, 3, side, side)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    expected = conv2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=3)
    torch.testing.assert_close(translators.Downsample()(x), expected)


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_antialiased_upsampling_makes_no_checkerboard_of_a_flat_map(generator):
    spread = {}
    for antialias in (True, False):
        G = translators.translator(
            generator, size=64, channels=3, width=8, blocks=2, antialias=antialias, residual=False
        )
        up = G.out if generator == "resnet" else torch.nn.Sequential(*G.up[-1], *G.out)
        inputs = 32 if generator == "resnet" else 2 * G.widths[1]
        for layer in up:
            if isinstance(layer, torch.nn.InstanceNorm2d):
                layer.forward = lambda x: x if generator == "resnet" else torch.cat([x, x], 1)
        out = up(torch.ones(1, inputs, 16, 16))[..., 16:-16, 16:-16]
        spread[antialias] = (out.amax((2, 3)) - out.amin((2, 3))).max().item()
    assert spread[True] < 1e-5 < spread[False]


@pytest.mark.parametrize(("init", "name"), [("normal", "cyclegan"), ("xavier", "cut")])
def test_initial_weights_are_the_authors(init, name):
    recipe = TRANSLATION_MODELS[name].override(["width=32", "blocks=2"])
    assert recipe.init == init
    for network in registry.build(recipe, size=64, channels=3, classes=0):
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.weight.numel() > 10_000:
                inputs, outputs = (n * math.prod(layer.kernel_size) for n in (layer.in_channels, layer.out_channels))
                std = 0.02 if init == "normal" else 0.02 * math.sqrt(2 / (inputs + outputs))
                assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
                assert not layer.bias.any()


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_cut_compares_patches_of_five_maps(generator):
    recipe = TRANSLATION_MODELS["cut"].override(["width=4", f"generator={generator}"])
    G, _ = registry.build(recipe, size=64, channels=3, classes=0)
    x = torch.rand(2, 3, 64, 64)
    maps = G.generator.features(x)
    assert [map.shape[1] for map in maps] == list(G.generator.feature_channels)
    if generator == "resnet":  # layers 0, 4, 8, 12 and 16 of the authors' code
        assert [tuple(map.shape[1:]) for map in maps] == [
            (3, 70, 70), (8, 64, 64), (16, 32, 32), (16, 16, 16), (16, 16, 16)
        ]  # fmt: skip
    positions = [torch.randperm(map.shape[2] * map.shape[3])[:7] for map in maps]
    features = G.patch_features(maps, positions)
    for feature, map, places, mlp in zip(features, maps, positions, G.patch_features.mlps, strict=True):
        assert feature.shape == (2, 7, translators.MLP_UNITS)
        expected = mlp(map[1, :, places[3] // map.shape[3], places[3] % map.shape[3]])
        torch.testing.assert_close(feature[1, 3], expected / expected.norm())


@pytest.mark.parametrize(("generator", "size"), [("resnet", 66), ("unet", 40), ("resnet", 16), ("unet", 2048)])
def test_other_sizes_are_refused(generator, size):
    recipe = TRANSLATION_MODELS["cyclegan"].override([f"generator={generator}"])
    with pytest.raises(KitError, match=f"no {generator} for pictures of {size} px; choose a multiple"):
        registry.build(recipe, size=size, channels=3, classes=0)


@pytest.mark.parametrize("name", TRANSLATION_MODELS)
@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_an_untrained_generator_keeps_its_input(name, generator):
    settings = ["width=4", "blocks=2", f"generator={generator}"]
    x = torch.rand(2, 3, 64, 64) * 1.8 - 0.9
    far = {}
    for residual in ("yes", "no"):
        recipe = TRANSLATION_MODELS[name].override([*settings, f"residual={residual}"])
        G, _ = registry.build(recipe, size=64, channels=3, classes=0)
        far[residual] = (G(x) - x).abs().mean().item()
    assert far["yes"] < 1e-6 < 0.3 < far["no"]


def test_a_translation_has_no_settings_of_noise():
    for entry in TRANSLATION_MODELS.values():
        with pytest.raises(KitError, match="unknown setting 'latent'"):
            entry.override(["latent=5"])
        assert entry.override([f"{key}={getattr(entry.recipe, key)}" for key in entry.settings()]) == entry.recipe


RESNET = partial(translators.ResnetGenerator, channels=3, width=8, blocks=6, residual=False)
UNET = partial(translators.UnetGenerator, size=64, channels=3, width=8, antialias=False, residual=False)
PATCH = partial(translators.PatchDiscriminator, channels=3, width=8)


# Standard deviation, checksum and first value that the authors' code (CUT's repository, which has CycleGAN's networks,
# too) gives for the same weights and the same picture, in float64; all outputs were equal to 1e-12.
@pytest.mark.parametrize(
    ("network", "size", "recorded"),
    [
        (partial(RESNET, antialias=True), 32, (0.556909, 0.00078138, -0.490556)),
        (partial(RESNET, antialias=False), 32, (0.286731, 0.00017244, -0.020473)),
        (UNET, 64, (0.567513, -0.00006792, -0.038417)),
        (partial(PATCH, antialias=True), 64, (0.647168, 0.06636526, -0.032187)),
        (partial(PATCH, antialias=False), 64, (0.703580, 0.07128494, 0.167569)),
    ],
    ids=["resnet", "resnet-strided", "unet", "patch", "patch-strided"],
)
def test_outputs_are_those_of_the_authors_code(network, size, recorded):
    made = network().double()
    with torch.no_grad():
        for k, parameter in enumerate(made.parameters()):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * (0.37 + 0.01 * k) + k)
            parameter.copy_(wave.view(parameter.shape) * (0.2 if parameter.ndim > 1 else 0.05))
        x = torch.cos(torch.arange(3 * size * size, dtype=torch.float64) * 0.11).view(1, 3, size, size)
        out = made(x).flatten()
    checksum = (out * torch.cos(torch.arange(len(out), dtype=torch.float64))).mean()
    assert (out.std().item(), checksum.item(), out[0].item()) == pytest.approx(recorded, abs=1e-5)
