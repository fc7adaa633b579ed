"""Interpolation between latents and between classes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kit.generation import interpolate
from kit.generation.generate import latents, render
from kit.models.registry import MODELS, build

CONDITIONAL = [name for name, row in MODELS.items() if row.recipe.conditional]


def test_slerp_keeps_to_the_circle_at_an_even_pace():
    a, b = torch.tensor([[3.0, 0, 0]]), torch.tensor([[0, 3.0, 0]])
    way = interpolate.slerp(a, b, torch.linspace(0, 1, 10))[:, 0]
    angles = torch.arange(10) * torch.pi / 18
    expected = 3 * torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=1)
    torch.testing.assert_close(way, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("b", [[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
def test_slerp_without_an_arc_is_a_straight_line(b):
    way = interpolate.slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([b]), torch.tensor([0.0, 0.25, 1.0]))[:, 0]
    torch.testing.assert_close(way[:, 0], torch.tensor([1.0, 0.75 + 0.25 * b[0], b[0]]))


def test_a_loop_has_no_seam_and_begins_where_samples_do():
    z = interpolate.loop_latents(100, count=6, frames=50, seed=3)
    assert z.shape == (50, 6, 100)
    assert torch.equal(z[0], next(latents(100, count=6, seed=3))[:6])
    steps = (z.roll(-1, 0) - z).norm(dim=2)  # the last of them leads from the end to the beginning
    assert float(steps[-1].max()) <= float(steps[:-1].max())
    assert float(steps.max() / steps.min()) < 2.5
    lengths = z.norm(dim=2)
    assert float(lengths.min()) > 7  # a straight line would come by 100 ** 0.5 / 2 ** 0.5


@pytest.mark.parametrize("frames", [7, 50, 201])
def test_an_interpolation_does_not_depend_on_its_neighbours(frames):
    many, few = (interpolate.loop_latents(8, count=count, frames=frames, seed=0) for count in (70, 3))
    assert len(many) == frames
    assert torch.equal(many[:, :3], few)


def test_there_and_back_is_a_loop():
    shares = interpolate.forth_and_back(20)
    assert (shares[0], shares[10]) == (0, 1)
    torch.testing.assert_close(shares[1:], shares[1:].flip(0))


@pytest.mark.parametrize("model", CONDITIONAL)
def test_between_two_classes_the_ends_are_those_classes_and_the_way_is_not_cut(model):
    recipe = MODELS[model].recipe.override(["width=8", "latent=32"])
    torch.manual_seed(0)
    generator, _ = build(recipe, size=32, channels=3, classes=3)
    for module in generator.modules():  # SAGAN's gains begin at 0, alike for all classes
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
    z = interpolate.first_latents(generator.latent, count=4, seed=1).repeat(5, 1)
    y = torch.arange(5).repeat_interleave(4)

    def pictures(network, latent, label):
        batches = render(network, latent, label, size=32, device=torch.device("cpu"))
        return np.concatenate(list(batches)).astype(float)

    way = pictures(interpolate.interpolate_classes(generator, 2, 0, torch.linspace(0, 1, 5)), z, y).reshape(5, 4, -1)
    for end, label in ((0, 2), (4, 0)):
        plain = pictures(generator, z[:4], torch.full((4,), label)).reshape(4, -1)
        assert np.abs(way[end] - plain).max() <= 1
    whole = np.abs(way[4] - way[0]).mean()
    assert whole > 0.1
    assert max(np.abs(a - b).mean() for a, b in itertools.pairwise(way)) < whole
    assert generator.classes == 3
