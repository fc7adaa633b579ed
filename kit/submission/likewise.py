"""The kernel that trains what a local run trained: same model, settings, seed, crop and size."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.data.prepared_set import load
from kit.kaggle.kernel_spec import SLUG_LEAST, KernelSpec
from kit.models import registry
from kit.models.recipe import Recipe
from kit.submission.ledger import Submission
from kit.training.run_record import DataRecord


def likewise(submission: Submission) -> KernelSpec:
    """A kernel's recipe from a local submission's run.

    The budget is the run's own, where it had one; so is the crop policy, if its prepared set is
    still here, and else it is the competition's.

    Raises:
        KitError: the recipe or the budget is none that a kernel can have.
    """
    run = submission.run
    recipe = run.recipe
    if recipe.source:
        raise KitError(
            f"{submission.name}: {recipe.model} was made by a model file of its own, which is code",
            "build its kernel with `kit kernel build --model FILE.py --slug NAME`, then `kit kernel run NAME`",
        )
    spec = KernelSpec(
        slug=_slug(submission.name),
        model=recipe.model,
        budget=show_duration(run.budget_s) if run.budget_s else KernelSpec.budget,
        competition=submission.competition,
        seed=run.seed,
        crop=_crop(run.data),
        size=run.data.size,
        settings=_settings(recipe),
    )
    if registry.get(spec.model).override(list(spec.settings)) != recipe:
        raise KitError(
            f"{submission.name}: this kit's {recipe.model} cannot be set to what the run's was",
            "write a kernels/SLUG/kernel.toml by hand, then `kit kernel run SLUG`",
        )
    return spec


def _settings(recipe: Recipe) -> tuple[str, ...]:
    """What differs from the model's row, as KEY=VALUE."""
    usual = registry.get(recipe.model).recipe
    different = {
        field.name: getattr(recipe, field.name)
        for field in fields(Recipe)
        if getattr(recipe, field.name) != getattr(usual, field.name)
    }
    return tuple(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in different.items()
    )


def _crop(data: DataRecord) -> str | None:
    """The crop policy of a run's set; None where the set is gone or has been prepared anew."""
    try:
        prepared = load(Path(data.path))
    except KitError:
        return None
    return prepared.record.crop.policy if prepared.digest == data.digest else None


def _slug(name: str) -> str:
    """A name as Kaggle takes it: the same for the same submission, so that a second call finds the first one's push."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug if len(slug) >= SLUG_LEAST else f"kernel-{slug}"
