"""A model from outside the package: one Python file with a row of the zoo, and networks of its own where it has any.

The file's text becomes part of the recipe, and so of every run, checkpoint, kernel and submission made with it. It is
code: what was saved with it is only opened for someone who says that he trusts it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kit.core.errors import KitError
from kit.models.recipe import Recipe

if TYPE_CHECKING:
    from kit.models.registry import Architecture, ModelEntry


def read(path: Path) -> ModelEntry:
    """The row of a model file.

    Args:
        path: a Python file that sets `ENTRY` (a `kit.models.registry.ModelEntry`) and, where its recipe names networks
            that the zoo does not have, `ARCHITECTURES` (a `kit.models.registry.Architecture`). It is run.

    Returns:
        Its row; the file's text is in the recipe's `source`.

    Raises:
        KitError: no such file, one that fails, one without a row, or a name that the zoo has already.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KitError(f"{path}: no such model file", "name a row of `kit models`, or a Python file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: cannot be read ({error})") from error
    return parse(text, name=str(path))


def parse(text: str, *, name: str) -> ModelEntry:
    """The row in the text of a model file, which is run.

    Args:
        text: of the file.
        name: what messages call it.

    Raises:
        KitError: as `read`.
    """
    from kit.models.registry import ARCHITECTURES, MODELS, ModelEntry

    row = getattr(_run(text, name), "ENTRY", None)
    if not isinstance(row, ModelEntry):
        raise KitError(f"{name}: sets no ENTRY", "see “A model of your own” in docs/models.md")
    if row.name in MODELS:
        raise KitError(f"{name}: the zoo has a model {row.name} already", "give the recipe another name")
    recipe = dataclasses.replace(row.recipe, source=text)
    if networks(recipe) is None and recipe.networks not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise KitError(
            f"{name}: sets no ARCHITECTURES, and the zoo has none named {recipe.networks!r}", f"it has {known}"
        )
    return dataclasses.replace(row, recipe=recipe)


def networks(recipe: Recipe) -> Architecture | None:
    """The networks that a recipe brings along; None for a recipe that brings none. Runs its file."""
    return getattr(_run(recipe.source, recipe.model), "ARCHITECTURES", None) if recipe.source else None


def trusted(record: dict[str, Any], *, trust: bool, where: Path) -> Recipe:
    """The recipe in a record that was read from a disk.

    Args:
        record: a `Recipe` as a dictionary.
        trust: whether code in it may be run.
        where: the file it comes from, for the message.

    Raises:
        KitError: it brings code, and is not trusted.
        TypeError: no recipe.
    """
    recipe = Recipe(**record)
    require_trust(recipe.model, recipe.source, trust=trust, where=where)
    return recipe


def require_trust(model: str, source: str, *, trust: bool, where: Path) -> None:
    """Makes sure that a model file which was read from a disk is only run for someone who trusts it.

    Args:
        model: what the file's row is called.
        source: text of the file; empty for a model of the zoo.
        trust: whether code may be run.
        where: the file that it comes from, for the message.

    Raises:
        KitError: there is code, and it is not trusted.
    """
    if source and not trust:
        raise KitError(
            f"{where}: {model} was made by a model file of its own ({digest(source)[:12]}), which is code",
            "add --trust to run it, if you know where it comes from",
        )


def digest(source: str) -> str:
    """SHA-256 of a model file's text; empty without one."""
    return hashlib.sha256(source.encode()).hexdigest() if source else ""


def shown(value: object) -> str:
    """A setting's value as a line can show it: a model file's text is given by its digest."""
    text = str(value)
    return text if "\n" not in text else f"a file with digest {digest(text)[:12]}"


@functools.cache
def _run(text: str, name: str) -> ModuleType:
    module = ModuleType("kit_model_file")
    try:
        exec(compile(text, name, "exec"), module.__dict__)
    except KitError:
        raise
    except Exception as error:
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        line = last[-1].lineno if last else getattr(error, "lineno", None)
        raise KitError(f"{name}, line {line}: {type(error).__name__}: {error}", "mend the model file") from error
    return module
