"""DiffAugment: each change against plain loops, differentiable, and a function of its random stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit.training.augment import AUGMENTATIONS, augment
from kit.training.random import SlicedGenerator

CHANGES = [name for name in AUGMENTATIONS if name != "none"]


def random(seed=0):
    return SlicedGenerator(torch.Generator().manual_seed(seed))


def pictures(count=64, channels=3, size=16):
    return random(1).uniform(count, channels, size, size) * 2 - 1


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (17, 1)])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_draws_for_each_picture(name, size, channels):
    same = pictures(1, channels, size).expand(16, -1, -1, -1)
    changed = augment(same, [name], random())
    assert changed.shape == same.shape
    assert len({tuple(picture.flatten().tolist()) for picture in changed}) > 4


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_a_function_of_the_random_stream(name):
    x = pictures()
    assert torch.equal(augment(x, [name], random(3)), augment(x, [name], random(3)))
    assert not torch.equal(augment(x, [name], random(3)), augment(x, [name], random(4)))


@pytest.mark.parametrize("name", CHANGES)
def test_gradients_go_through_a_change(name):
    x = pictures(4).double().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: augment(x, [name], random())[:, :, 3:5, 3:5], x[:, :, :6, :6].detach().requires_grad_(True)
    )
    augment(x, [name], random()).sum().backward()
    assert (x.grad != 0).any()


def test_none_changes_nothing_and_draws_nothing():
    x, stream = pictures(), random()
    assert augment(x, ["none"], stream) is x
    assert torch.equal(stream.uniform(3), random().uniform(3))


def test_translation_moves_each_picture_by_at_most_an_eighth():
    x = pictures(200)
    moved = augment(x, ["translation"], random()).numpy()
    shifts = set()
    for before, after in zip(x.numpy(), moved, strict=True):
        framed = np.pad(before, ((0, 0), (2, 2), (2, 2)))
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if np.array_equal(framed[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx], after)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert shifts == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_cutout_blanks_a_square_of_half_the_side():
    x = pictures(200).abs() + 0.1  # no zero of its own
    cut = augment(x, ["cutout"], random())
    areas = set()
    for before, after in zip(x, cut, strict=True):
        gone = (after == 0).all(dim=0)
        assert torch.equal(after, torch.where(gone, torch.zeros(()), before))
        rows, columns = gone.any(dim=1), gone.any(dim=0)
        assert torch.equal(gone, rows[:, None] & columns[None, :])
        areas.add(int(gone.sum()))
    assert max(areas) == 8 * 8  # wholly inside
    assert min(areas) == 4 * 4  # a quarter of it, at a corner


def test_colors_change_together_and_by_no_more_than_stated():
    x = pictures(500)
    changed = augment(x, ["color"], random())
    # On all pictures alike: a line through the grey of each pixel, so that order among pixels' greys is kept.
    grey, changed_grey = x.mean(1).flatten(1), changed.mean(1).flatten(1)
    contrast = changed_grey.std(1) / grey.std(1)
    assert contrast.min() >= 0.5
    assert contrast.max() <= 1.5
    brightness = changed_grey.mean(1) - grey.mean(1)
    assert brightness.abs().max() <= 0.5
    saturation = (changed - changed.mean(1, keepdim=True)).std((1, 2, 3)) / (x - x.mean(1, keepdim=True)).std((1, 2, 3))
    assert saturation.max() <= 2 * 1.5
    for value, low, high in ((contrast, 0.55, 1.45), (brightness, -0.45, 0.45), (saturation / contrast, 0.1, 1.9)):
        assert value.min() < low
        assert value.max() > high
