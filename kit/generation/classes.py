"""Which class each picture is drawn from: as often as in the set, each alike, or one that was named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.core.errors import KitError, unknown
from kit.models.recipe import Recipe, SampleClasses
from kit.training.checkpoint import Shape


def labels(recipe: Recipe, shape: Shape, count: int, *, classes: SampleClasses | None = None) -> list[int] | None:
    """The class of each of `count` pictures, as the recipe wants them drawn.

    Args:
        recipe: its `sample_classes`.
        shape: the classes, and how many pictures of each the generator was trained on.
        count: pictures.
        classes: in place of the recipe's; None leaves that.

    Returns:
        Indices into `shape.classes`; None for an unconditional model.
    """
    if not recipe.conditional:
        return None
    # A checkpoint from before counts were kept knows no proportions.
    proportional = (classes or recipe.sample_classes) == "proportional" and any(shape.counts)
    return in_proportion(shape.counts if proportional else [1] * len(shape.classes), count)


def in_proportion(shares: Sequence[int], count: int) -> list[int]:
    """Classes in an order whose every beginning is as close to their shares as whole numbers allow.

    The j-th picture of a class with share p comes at the moment (j − ½)/p: the divisor method of Webster and
    Sainte-Laguë. So the class of picture i does not depend on how many follow, and equal shares give the classes in
    turn.

    Args:
        shares: of each class, at least one above 0; only their proportions matter.
        count: pictures.
    """
    total = sum(shares)
    # After t pictures' time a class has had round(t·p), so that so much time brings at least `count` in all.
    longest = count + len(shares)
    owners = [np.full(int(longest * share / total + 0.5), k) for k, share in enumerate(shares)]
    # One division of whole numbers: moments that are equal are equal floats, and the lower class goes first.
    moments = [(2 * np.arange(len(own)) + 1) / (2 * share) for own, share in zip(owners, shares, strict=True) if share]
    order = np.argsort(np.concatenate(moments), kind="stable")[:count]
    return [int(k) for k in np.concatenate(owners)[order]]


def find(name: str, recipe: Recipe, shape: Shape) -> int:
    """The index of a class by its name; capital letters do not matter, and a space stands for an underscore.

    Raises:
        KitError: a model that is not told classes, or no such class, with the closest one.
    """
    if not recipe.conditional:
        raise KitError(
            f"{recipe.model} was not told the classes, so no breed can be asked of it",
            "train a conditional model: `kit models` lists them",
        )
    plain = name.strip().replace(" ", "_").lower()
    for index, known in enumerate(shape.classes):
        if plain == known.lower():
            return index
    raise unknown("breed", name, shape.classes)
