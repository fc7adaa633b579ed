"""Which class each picture is drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.generation.classes import class_labels, find_class, interleave
from kit.models.registry import MODELS
from kit.training.checkpoint import Shape

SHARES = st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any)
DOGS = Shape(size=64, channels=3, classes=("Maltese_dog", "pug", "Norwegian_elkhound"), counts=(3, 1, 0))
CDCGAN, DCGAN = MODELS["cdcgan"].recipe, MODELS["dcgan"].recipe


@given(shares=SHARES, count=st.integers(1, 400), more=st.integers(0, 200))
def test_the_class_of_a_picture_does_not_depend_on_how_many_follow(shares, count, more):
    assert interleave(shares, count + more)[:count] == interleave(shares, count)


@given(shares=SHARES, rounds=st.integers(1, 3))
def test_whole_rounds_have_the_very_counts_of_the_set(shares, rounds):
    drawn = np.bincount(interleave(shares, rounds * sum(shares)), minlength=len(shares))
    assert drawn.tolist() == [rounds * share for share in shares]


@given(shares=SHARES, count=st.integers(1, 400))
def test_no_class_could_give_a_picture_to_another_and_come_closer(shares, count):
    """Webster's rule: the next picture goes where (drawn + ½) pictures are the fewest a share."""
    drawn = [0] * len(shares)
    for label in interleave(shares, count):
        assert all(
            (2 * drawn[label] + 1) * other <= (2 * own + 1) * shares[label]
            for own, other in zip(drawn, shares, strict=True)
        )
        drawn[label] += 1


def test_equal_shares_come_in_turn():
    assert interleave([5, 5, 5], 8) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_zip_of_the_dogs_has_the_sets_proportions():
    """120 breeds of 148 to 252 pictures: each of 10,000 is within one of its share."""
    counts = [148 + (7 * k) % 105 for k in range(120)]
    drawn = np.bincount(interleave(counts, 10_000), minlength=120)
    assert np.abs(drawn - 10_000 * np.array(counts) / sum(counts)).max() < 1


def test_the_recipe_decides_and_can_be_overruled():
    assert class_labels(CDCGAN, DOGS, 4) == [0, 0, 1, 0]
    assert class_labels(CDCGAN, DOGS, 4, how="balanced") == [0, 1, 2, 0]
    assert class_labels(CDCGAN.override(["sample_classes=balanced"]), DOGS, 4) == [0, 1, 2, 0]
    assert class_labels(DCGAN, DOGS, 4) is None


def test_a_checkpoint_without_counts_is_sampled_balanced_as_it_was():
    assert class_labels(CDCGAN, Shape(64, 3, DOGS.classes), 4) == [0, 1, 2, 0]


@pytest.mark.parametrize("name", ["Maltese_dog", "maltese_dog", "Maltese dog", " MALTESE DOG "])
def test_a_breed_is_found_however_it_is_written(name):
    assert find_class(name, CDCGAN, DOGS) == 0


def test_a_wrong_breed_gets_its_close_match():
    with pytest.raises(KitError, match="unknown class 'Maltes_dog'; did you mean 'Maltese_dog'"):
        find_class("Maltes_dog", CDCGAN, DOGS)


def test_an_unconditional_model_has_no_breeds():
    with pytest.raises(KitError, match="dcgan is an unconditional model"):
        find_class("pug", DCGAN, DOGS)
