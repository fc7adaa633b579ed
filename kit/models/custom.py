"""A model from outside the package: one Python file with a row of the registry, and networks where it has its own.

The file's text becomes part of the recipe, and so of every run, checkpoint, kernel and submission made with it. It is
code: it runs only where the user named the file, or trusts what was saved with it (see `kit.core.trust`).
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kit.core import provenance
from kit.core import trust as trusting
from kit.core.errors import KitError
from kit.models.recipe import Recipe


def read(path: Path) -> str:
    """The text of a model file that the user names, which may run from then on.

    Raises:
        KitError: no such file, or one that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise KitError(f"{path}: no such model file", "name a row of `kit models`, or a Python file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: cannot be read ({error})") from error
    trusting.allow(digest(text))
    return text


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


def require_trust(model: str, source: str, *, trust: bool, where: Path | str) -> None:
    """Makes sure that a model file which was read from a disk is only run for a user who trusts it, then lets it run.

    Args:
        model: what the file's row is called.
        source: text of the file; empty for a model of the registry.
        trust: whether code may be run.
        where: the file that it comes from, for the message.

    Raises:
        KitError: there is code, and it is not trusted.
    """
    check_trust(model, source, trust=trust, where=where)
    if source:
        trusting.admit(digest(source))


def check_trust(model: str, source: str, *, trust: bool, where: Path | str) -> None:
    """The same for a model file that another process is to run: this one keeps its credentials, and cannot run it.

    Raises:
        KitError: as `require_trust`.
    """
    if source:
        trusting.require_trust(f"the model file of {model}", digest(source), trust=trust, where=where)


def is_allowed(source: str) -> bool:
    """Whether the text of a model file may run in this process."""
    return trusting.is_allowed(digest(source))


def check(model: str, source: str, settings: Sequence[str], *, trust: bool, where: Path | str) -> None:
    """Runs a model file that the user did not name in a process of its own, to see that it has its row and settings.

    Args:
        model: what the file's row is called.
        source: text of the file.
        settings: "KEY=VALUE", as after `--set`.
        trust: whether it may be run.
        where: the file that it comes from, for the message.

    Raises:
        KitError: it is not trusted, or does not work; what is wrong was written to stderr.
    """
    check_trust(model, source, trust=trust, where=where)
    with tempfile.TemporaryDirectory(prefix="kit-model-") as folder:
        file = Path(folder) / f"{model}.py"
        file.write_text(source, encoding="utf-8")
        arguments = ["check-model", str(file), *(word for setting in settings for word in ("--set", setting))]
        done = trusting.run_kit(provenance.package_files(), arguments, where=provenance.PACKAGE)
    if done.returncode:
        raise KitError(f"{where}: the model file of {model} cannot be used", "mend it, or take another model")


def digest(source: str) -> str:
    """SHA-256 of a model file's text; empty without one."""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest() if source else ""


def shown(value: object) -> str:
    """A setting's value as a line can show it: a model file's text is given by its digest."""
    text = str(value)
    return text if "\n" not in text else f"a file with digest {digest(text)[:12]}"


@functools.cache
def run(text: str, name: str) -> ModuleType:
    """Runs the text of a model file.

    Args:
        text: of the file.
        name: what messages call it.

    Returns:
        The module, with its `ENTRY` and `ARCHITECTURE`.

    Raises:
        KitError: it was not allowed to run in this process, or it fails.
    """
    trusting.require_trust("the model file", digest(text), trust=False, where=name)
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
