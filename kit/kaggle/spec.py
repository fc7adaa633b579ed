"""A kernel's recipe: `kernels/SLUG/kernel.toml`, kept in git, from which everything else beside it is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from kit import competition
from kit.competition import Competition
from kit.core.clock import parse_duration, show_duration
from kit.core.errors import KitError, unknown
from kit.core.files import atomic

KERNELS = Path("kernels")
RECIPE = "kernel.toml"

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SLUG_LEAST = 5  # Kaggle takes no shorter title, and the slug is the title


class Gpus(NamedTuple):
    """What a session runs on."""

    machine_shape: str  # Kaggle's own name for it; empty: no accelerator
    processes: int  # that share the training
    about: str


GPUS: dict[str, Gpus] = {
    "t4x2": Gpus("NvidiaTeslaT4", 2, "two Tesla T4"),
    "p100": Gpus("NvidiaTeslaP100", 1, "one Tesla P100: retired, and Kaggle's torch has no kernels for it"),
    "none": Gpus("", 1, "two CPU cores, no GPU"),
}


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """All that decides what a kernel does; with the kit's own files it decides every byte of it.

    The names are the keys of `kernel.toml`, but that the slug is the name of its folder and the settings are its table
    `[set]`.

    Raises:
        KitError: a value that cannot be, with the way out. Model, settings, crop and size are looked at by `build`.
    """

    slug: str  # of the kernel: lower case, digits and single dashes, five characters at least
    model: str  # a row of `kit models`, or what the row in `source` is called
    budget: str = "8h30m"  # from the kernel's start to its end; half an hour less than a session has
    competition: str = competition.DEFAULT
    gpus: str = "t4x2"  # a row of GPUS
    notebook: bool = False  # a notebook in place of a script
    seed: int = 0  # decides everything random
    count: int | None = None  # pictures in images.zip; None: as the competition asks
    crop: str | None = None  # crop policy; None: the competition's
    size: int | None = None  # side of the pictures trained on, pixels; None: the competition's
    source: str = ""  # text of a model file (see kit.models.custom), for a model that the zoo does not have
    settings: tuple[str, ...] = ()  # of the model, as KEY=VALUE

    def __post_init__(self) -> None:
        if len(self.slug) < SLUG_LEAST or not SLUG.fullmatch(self.slug):
            raise KitError(
                f"{self.slug!r} is no slug for a kernel",
                f"take at least {SLUG_LEAST} lower-case letters and digits, with single dashes between words",
            )
        hours = self.rules.kernel_hours
        if self.budget_s > 3600 * hours:
            raise KitError(
                f"a budget of {self.budget}, and a kernel of {self.rules.slug} has {show_duration(3600 * hours)}",
                "give less; half an hour less is safe",
            )
        if self.gpus not in GPUS:
            raise unknown("accelerator", self.gpus, GPUS)
        if self.seed < 0:
            raise KitError(f"a seed of {self.seed}", "give 0 or more")
        if self.count is not None and self.count < 1:
            raise KitError(f"a count of {self.count}", "give 1 or more")

    @property
    def budget_s(self) -> float:
        """Seconds from the kernel's start to its end."""
        return parse_duration(self.budget)

    @property
    def rules(self) -> Competition:
        """What the competition asks."""
        return competition.get(self.competition)


_HINTS = get_type_hints(KernelSpec)
KEYS = tuple(field.name for field in dataclasses.fields(KernelSpec) if field.name not in ("slug", "settings"))
"""The keys of `kernel.toml`; beside them it may have a table `[set]`."""


def read_spec(path: Path) -> KernelSpec:
    """Reads a recipe.

    Args:
        path: a `kernel.toml`, or the folder that holds one; the folder's name is the slug.

    Raises:
        KitError: it is not there, is no TOML, has an unknown key (with the close match) or a value of another type.
    """
    file = path / RECIPE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KitError(
            f"{file}: no such file", "write one, or give `kit kernel build` a --model and a --slug"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{file}: cannot be read ({error})") from error
    return parse_spec(text, slug=file.absolute().parent.name, source=str(file))


def find_spec(words: str, root: Path = KERNELS) -> tuple[KernelSpec, Path]:
    """The recipe that a user means, and the folder of kernels that it lies in.

    Args:
        words: a kernel's slug below `root`, its folder, or its `kernel.toml`.
        root: the folder of kernels.

    Raises:
        KitError: there is none, with the close match; or it cannot be read.
    """
    path = Path(words)
    folder = path.parent if path.name == RECIPE else path
    if (folder / RECIPE).is_file():
        return read_spec(folder), folder.parent
    if (root / words / RECIPE).is_file():
        return read_spec(root / words), root
    if folder.is_dir():
        return read_spec(folder), folder.parent
    raise unknown("kernel", words, (file.parent.name for file in root.glob(f"*/{RECIPE}")))


def parse_spec(text: str, *, slug: str, source: str = RECIPE) -> KernelSpec:
    """The recipe in the text of a `kernel.toml`; `source` is what errors call it.

    Raises:
        KitError: as `read_spec`.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KitError(f"{source}: no TOML ({error})", "see docs/kernels.md for what it may say") from error
    try:
        return _spec(values, slug)
    except KitError as error:
        raise KitError(f"{source}: {error.problem}", error.remedy) from error


def spec_text(spec: KernelSpec) -> str:
    """The recipe as `kernel.toml`: what is not the default, in the order of the fields."""
    fields = {field.name: field.default for field in dataclasses.fields(KernelSpec)}
    lines = [
        f"{key} = {_toml(getattr(spec, key))}"
        for key in KEYS
        if key in ("model", "budget") or getattr(spec, key) != fields[key]
    ]
    if spec.settings:
        lines += ["", "[set]"]
        for setting in spec.settings:
            key, _, value = setting.partition("=")
            lines.append(f"{key} = {value if _is_toml(value) else json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def write_spec(spec: KernelSpec, root: Path = KERNELS) -> Path:
    """Writes a recipe into its folder; the same recipe that stands there already, in whatever words, is left alone.

    Raises:
        KitError: another recipe stands there, or the disk is full.
    """
    path = root / spec.slug / RECIPE
    if path.exists():
        standing = read_spec(path)
        different = [
            f"{field.name} {_brief(getattr(standing, field.name))} → {_brief(getattr(spec, field.name))}"
            for field in dataclasses.fields(KernelSpec)
            if getattr(standing, field.name) != getattr(spec, field.name)
        ]
        if different:
            raise KitError(
                f"{path} says otherwise ({', '.join(different)})", "edit it and build from it, or choose another --slug"
            )
        return path
    with atomic(path) as file:
        file.write(spec_text(spec).encode())
    return path


def _spec(values: dict[str, Any], slug: str) -> KernelSpec:
    table = values.pop("set", {})
    for key in values:
        if key not in KEYS:
            raise unknown("key", key, (*KEYS, "set"))
    if "model" not in values:
        raise KitError("no model in it", 'write for example model = "biggan"')
    for key, value in values.items():
        wanted = _HINTS[key]
        # A switch is a number to Python, and a seed of true is a mistake.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise KitError(f"{key} = {_shown(value)} is of another type", f"give {_NAMES[wanted]}")
    if not isinstance(table, dict) or not all(isinstance(v, str | int | float | bool) for v in table.values()):
        raise KitError("set is no table of settings", "write [set] on a line, and a KEY = VALUE on each line after it")
    return KernelSpec(slug=slug, settings=tuple(f"{key}={_shown(value)}" for key, value in table.items()), **values)


_NAMES = {str: 'a word in "quotes"', bool: "true or false", int: "a whole number"}
_NAMES |= {int | None: "a whole number", str | None: 'a word in "quotes"'}  # type: ignore[dict-item]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _brief(value: object) -> str:
    """A value as a message can show it: settings as they were typed, a model file by its digest."""
    if value is None:
        return "left out"
    text = " ".join(value) or "none" if isinstance(value, tuple) else _shown(value)
    return text if "\n" not in text else f"a file with digest {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _toml(value: object) -> str:
    """A value in TOML; several lines stay lines where they can."""
    text = str(value)
    if "\n" in text and "'''" not in text and not text.endswith("'") and (text + "a").replace("\n", "").isprintable():
        return f"'''\n{text}'''"
    return json.dumps(value, ensure_ascii=False)


def _is_toml(value: str) -> bool:
    """Whether a setting's value may stand without quotes: a number, true or false, that reads back as it is."""
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return False
    return not isinstance(read, str) and isinstance(read, int | float | bool) and _shown(read) == value
