"""Which class each picture is drawn from: as frequent as in the data, equally frequent, or one by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.core.errors import KitError, unknown
from kit.data.prepared_set import class_key
from kit.models.recipe import Recipe, SampleClasses
from kit.training.checkpoint import Shape


def class_labels(recipe: Recipe, shape: Shape, count: int, *, how: SampleClasses | None = None) -> list[int] | None:
    """The class of each of `count` pictures.

    Args:
        recipe: its `sample_classes` is used.
        shape: the classes, and how many pictures of each the generator was trained on.
        count: number of pictures.
        how: in place of the recipe's `sample_classes`.

    Returns:
        Indices into `shape.classes`; None for an unconditional model.
    """
    if not recipe.conditional:
        return None
    proportional = (how or recipe.sample_classes) == "proportional" and any(shape.counts)
    return interleave(shape.counts if proportional else [1] * len(shape.classes), count)


def interleave(weights: Sequence[int], count: int) -> list[int]:
    """Classes in an order whose every beginning is as close to their proportions as whole numbers allow.

    The j-th picture of a class with proportion p comes at time (j − ½)/p: the divisor method of Webster and
    Sainte-Laguë. So the class of picture i does not depend on how many follow, and equal weights give the classes in
    turn.

    Args:
        weights: of each class, at least one above 0.
        count: number of pictures.
    """
    total = sum(weights)
    # By time t a class has had round(t·p) pictures, so by this time there are at least `count` in all.
    end = count + len(weights)
    classes = [np.full(int(end * weight / total + 0.5), k) for k, weight in enumerate(weights)]
    # One division of whole numbers: equal times are equal floats, and the lower class goes first.
    times = [(2 * np.arange(len(own)) + 1) / (2 * w) for own, w in zip(classes, weights, strict=True) if w]
    order = np.argsort(np.concatenate(times), kind="stable")[:count]
    return [int(k) for k in np.concatenate(classes)[order]]


def find_class(name: str, recipe: Recipe, shape: Shape) -> int:
    """The index of a class by its name; case and what stands between its words do not matter.

    Raises:
        KitError: an unconditional model, or no such class, with the closest one.
    """
    if not recipe.conditional:
        raise KitError(
            f"{recipe.model} is an unconditional model: it cannot draw a single class",
            "train a conditional one: `kit models` lists them",
        )
    for index, known in enumerate(shape.classes):
        if class_key(known) == class_key(name):
            return index
    raise unknown("class", name, shape.classes)
