"""What a generator draws from: latents, interpolations, classes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.generation.generate import render
from kit.generation.latents import (
    class_labels,
    find_class,
    first_latents,
    forth_and_back,
    interleave,
    interpolate_classes,
    latents,
    loop_latents,
    slerp,
)
from kit.models.registry import MODELS, build
from kit.training.checkpoint import Shape

WEIGHTS = st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any)
DOGS = Shape(size=64, channels=3, classes=("Maltese_dog", "pug", "Norwegian_elkhound"), counts=(3, 1, 0))
CDCGAN, DCGAN = MODELS["cdcgan"].recipe, MODELS["dcgan"].recipe


@given(
    count=st.integers(1, 200), batch=st.integers(1, 150), latent=st.integers(1, 40), seed=st.integers(0, 2**63 - 1),
    truncation=st.none() | st.floats(0.1, 3),
)  # fmt: skip
def test_a_latent_depends_on_seed_and_place_only(count, batch, latent, seed, truncation):
    batches = list(latents(latent, count=count, seed=seed, truncation=truncation, batch=batch))
    assert all(z.shape == (batch, latent) and z.dtype == torch.float32 for z in batches)
    one_by_one = torch.cat(list(latents(latent, count=count + 7, seed=seed, truncation=truncation, batch=1)))
    assert torch.equal(torch.cat(batches)[:count], one_by_one[:count])


def test_latents_of_a_seed_stay_the_same_from_version_to_version():
    z = next(latents(3, count=1, seed=0))
    assert z[0].tolist() == pytest.approx([-2.31041169, -0.37325087, -1.06081665], abs=1e-7)


def test_latents_are_normal():
    z = torch.cat(list(latents(20, count=1000, seed=3))).numpy()
    assert scipy.stats.kstest(z[:1000].flatten(), "norm").pvalue > 0.01


@pytest.mark.parametrize("truncation", [0.3, 1.0, 2.0])
def test_truncated_latents_are_a_resampled_normal_not_a_clamped_one(truncation):
    z = torch.cat(list(latents(20, count=960, seed=3, truncation=truncation))).numpy().flatten()
    assert np.abs(z).max() <= truncation
    assert scipy.stats.kstest(z, scipy.stats.truncnorm(-truncation, truncation).cdf).pvalue > 0.01


def test_slerp_keeps_to_the_circle_at_an_even_pace():
    a, b = torch.tensor([[3.0, 0, 0]]), torch.tensor([[0, 3.0, 0]])
    way = slerp(a, b, torch.linspace(0, 1, 10))[:, 0]
    angles = torch.arange(10) * torch.pi / 18
    expected = 3 * torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=1)
    torch.testing.assert_close(way, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("b", [[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
def test_slerp_without_an_arc_is_a_straight_line(b):
    way = slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([b]), torch.tensor([0.0, 0.25, 1.0]))[:, 0]
    torch.testing.assert_close(way[:, 0], torch.tensor([1.0, 0.75 + 0.25 * b[0], b[0]]))


def test_a_loop_has_no_seam_and_begins_where_samples_do():
    z = loop_latents(100, count=6, frames=50, seed=3)
    assert z.shape == (50, 6, 100)
    assert torch.equal(z[0], next(latents(100, count=6, seed=3))[:6])
    steps = (z.roll(-1, 0) - z).norm(dim=2)  # the last of them leads from the end to the beginning
    assert float(steps[-1].max()) <= float(steps[:-1].max())
    assert float(steps.max() / steps.min()) < 2.5
    lengths = z.norm(dim=2)
    assert float(lengths.min()) > 7  # a straight line would come by 100 ** 0.5 / 2 ** 0.5


@pytest.mark.parametrize("frames", [7, 201])
def test_an_interpolation_does_not_depend_on_its_neighbours(frames):
    many, few = (loop_latents(8, count=count, frames=frames, seed=0) for count in (70, 3))
    assert len(many) == frames
    assert torch.equal(many[:, :3], few)


def test_there_and_back_is_a_loop():
    shares = forth_and_back(20)
    assert (shares[0], shares[10]) == (0, 1)
    torch.testing.assert_close(shares[1:], shares[1:].flip(0))


@pytest.mark.parametrize("model", ["cgan", "cdcgan", "biggan"])
def test_between_two_classes_the_ends_are_those_classes_and_the_way_is_not_cut(model):
    recipe = MODELS[model].recipe.override(["width=8", "latent=32"])
    torch.manual_seed(0)
    generator, _ = build(recipe, size=32, channels=3, classes=3)
    for module in generator.modules():  # SAGAN's gains begin at 0, alike for all classes
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
    z = first_latents(generator.latent, count=4, seed=1).repeat(5, 1)
    y = torch.arange(5).repeat_interleave(4)

    def pictures(network, latent, label):
        batches = render(network, latent, label, size=32, device=torch.device("cpu"))
        return np.concatenate(list(batches)).astype(float)

    way = pictures(interpolate_classes(generator, 2, 0, torch.linspace(0, 1, 5)), z, y).reshape(5, 4, -1)
    for end, label in ((0, 2), (4, 0)):
        plain = pictures(generator, z[:4], torch.full((4,), label)).reshape(4, -1)
        assert np.abs(way[end] - plain).max() <= 1
    whole = np.abs(way[4] - way[0]).mean()
    assert whole > 0.1
    assert max(np.abs(a - b).mean() for a, b in itertools.pairwise(way)) < whole
    assert generator.classes == 3


@given(weights=WEIGHTS, count=st.integers(1, 400), more=st.integers(0, 200))
def test_the_class_of_a_picture_does_not_depend_on_how_many_follow(weights, count, more):
    assert interleave(weights, count + more)[:count] == interleave(weights, count)


@given(weights=WEIGHTS, rounds=st.integers(1, 3))
def test_whole_rounds_have_the_very_counts_of_the_set(weights, rounds):
    counts = np.bincount(interleave(weights, rounds * sum(weights)), minlength=len(weights))
    assert counts.tolist() == [rounds * weight for weight in weights]


@given(weights=WEIGHTS, count=st.integers(1, 400))
def test_no_class_could_give_a_picture_to_another_and_come_closer(weights, count):
    """Webster's rule: the next picture goes where (count + ½) / weight is the least."""
    counts = [0] * len(weights)
    for label in interleave(weights, count):
        assert all(
            (2 * counts[label] + 1) * other <= (2 * own + 1) * weights[label]
            for own, other in zip(counts, weights, strict=True)
        )
        counts[label] += 1


def test_equal_weights_come_in_turn():
    assert interleave([5, 5, 5], 8) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_the_recipe_decides_and_can_be_overruled():
    assert class_labels(CDCGAN, DOGS, 4) == [0, 0, 1, 0]
    assert class_labels(CDCGAN, DOGS, 4, how="balanced") == [0, 1, 2, 0]
    assert class_labels(CDCGAN.override(["sample_classes=balanced"]), DOGS, 4) == [0, 1, 2, 0]
    assert class_labels(CDCGAN, Shape(64, 3, DOGS.classes), 4) == [0, 1, 2, 0]  # a checkpoint without counts
    assert class_labels(DCGAN, DOGS, 4) is None


@pytest.mark.parametrize("name", ["Maltese_dog", " MALTESE DOG "])
def test_a_class_is_found_however_it_is_written(name):
    assert find_class(name, CDCGAN, DOGS) == 0


def test_a_mistyped_class_gets_its_match():
    with pytest.raises(KitError, match="unknown class 'Maltes_dog'; did you mean 'Maltese_dog'"):
        find_class("Maltes_dog", CDCGAN, DOGS)
