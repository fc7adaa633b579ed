"""Which class each picture is counts from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.generation.classes import class_labels, find_class, interleave
from kit.models.registry import MODELS
from kit.training.checkpoint import Shape

WEIGHTS = st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any)
DOGS = Shape(size=64, channels=3, classes=("Maltese_dog", "pug", "Norwegian_elkhound"), counts=(3, 1, 0))
CDCGAN, DCGAN = MODELS["cdcgan"].recipe, MODELS["dcgan"].recipe


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


def test_a_zip_of_the_dogs_has_the_sets_proportions():
    """120 classes of 148 to 252 pictures: the counts in 10,000 are within one of the proportions."""
    weights = [148 + (7 * k) % 105 for k in range(120)]
    counts = np.bincount(interleave(weights, 10_000), minlength=120)
    assert np.abs(counts - 10_000 * np.array(weights) / sum(weights)).max() < 1


def test_the_recipe_decides_and_can_be_overruled():
    assert class_labels(CDCGAN, DOGS, 4) == [0, 0, 1, 0]
    assert class_labels(CDCGAN, DOGS, 4, how="balanced") == [0, 1, 2, 0]
    assert class_labels(CDCGAN.override(["sample_classes=balanced"]), DOGS, 4) == [0, 1, 2, 0]
    assert class_labels(DCGAN, DOGS, 4) is None


def test_a_checkpoint_without_counts_is_sampled_balanced_as_it_was():
    assert class_labels(CDCGAN, Shape(64, 3, DOGS.classes), 4) == [0, 1, 2, 0]


@pytest.mark.parametrize("name", ["Maltese_dog", "maltese_dog", "Maltese dog", " MALTESE DOG "])
def test_a_class_is_found_however_it_is_written(name):
    assert find_class(name, CDCGAN, DOGS) == 0


def test_a_mistyped_class_gets_its_match():
    with pytest.raises(KitError, match="unknown class 'Maltes_dog'; did you mean 'Maltese_dog'"):
        find_class("Maltes_dog", CDCGAN, DOGS)


def test_an_unconditional_model_has_no_classes():
    with pytest.raises(KitError, match="dcgan is an unconditional model"):
        find_class("pug", DCGAN, DOGS)
