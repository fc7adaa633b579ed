"""A kernel's recipe: `kernels/SLUG/kernel.toml`, kept in git, from which everything else beside it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kit import competition
from kit.competition import Competition
from kit.core.clock import parse_duration, show_duration
from kit.core.errors import KitError, unknown
from kit.core.files import atomic
from kit.core.records import from_json

KERNELS = Path("kernels")
RECIPE = "kernel.toml"

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SLUG_LEAST, SLUG_MOST = 5, 50  # Kaggle takes no shorter or longer title, and the slug is the title

WORD = re.compile(r"[\w.+-]{1,60}")
SETTING = re.compile(r"[A-Za-z_]\w{0,60}=.{0,500}", re.ASCII)
LARGEST = 2**63

MARGIN_S = 1800.0
"""A budget that is so much less than a session has is safe: Kaggle counts from before the kernel's start."""


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
    budget: str = ""  # from the kernel's start to its end; empty: half an hour less than it may last
    competition: str = competition.DEFAULT
    gpus: str = "t4x2"  # a row of GPUS
    notebook: bool = False  # a notebook in place of a script
    seed: int = 0  # decides everything random
    count: int | None = None  # pictures in images.zip; None: as the competition asks
    crop: str | None = None  # crop policy; None: the competition's
    size: int | None = None  # side of the pictures trained on, pixels; None: the competition's
    source: str = ""  # text of a model file (see kit.models.custom), for a model that the registry does not have
    settings: tuple[str, ...] = ()  # of the model, as KEY=VALUE

    def __post_init__(self) -> None:
        if not SLUG_LEAST <= len(self.slug) <= SLUG_MOST or not SLUG.fullmatch(self.slug):
            raise KitError(
                f"{self.slug!r} is no slug for a kernel",
                f"take {SLUG_LEAST} to {SLUG_MOST} lower-case letters and digits, with single dashes between words",
            )
        for name in ("model", "budget", "crop"):
            value = getattr(self, name)
            if value is not None and not (WORD.fullmatch(value) or (name == "budget" and not value)):
                raise KitError(f"{name} = {_brief(value)}", "write a name of letters, digits, dots, dashes")
        for setting in self.settings:
            if not SETTING.fullmatch(setting) or not setting.isprintable():
                raise KitError(f"the setting {_brief(setting)}", "write KEY=VALUE, in one short line")
        if self.gpus not in GPUS:
            raise unknown("accelerator", self.gpus, GPUS)
        longest_s = 3600 * self.hours
        safe = show_duration(longest_s - MARGIN_S)
        if not self.budget:
            object.__setattr__(self, "budget", safe)
        if self.budget_s > longest_s:
            raise KitError(
                f"a budget of {self.budget}, and a kernel of {self.rules.slug} has {show_duration(longest_s)}",
                f"give less; {safe} is safe",
            )
        for name, least in (("seed", 0), ("count", 1), ("size", 1)):
            number = getattr(self, name)
            if number is not None and not least <= number < LARGEST:
                raise KitError(f"a {name} of {_brief(number)}", f"give {least} or more, and less than {LARGEST}")

    @property
    def budget_s(self) -> float:
        """Seconds from the kernel's start to its end."""
        return parse_duration(self.budget)

    @property
    def hours(self) -> float:
        """The longest that the competition lets it run on its accelerator."""
        return self.rules.hours["gpu" if GPUS[self.gpus].machine_shape else "cpu"]

    @property
    def rules(self) -> Competition:
        """What the competition asks."""
        return competition.get(self.competition)


KEYS = tuple(field.name for field in dataclasses.fields(KernelSpec) if field.name not in ("slug", "settings"))
"""The keys of `kernel.toml`; beside them it may have a table `[set]`."""


def read_spec(path: Path) -> KernelSpec:
    """Reads a `kernel.toml`, or the one in a folder; the folder's name is the slug.

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
    except (OSError, ValueError) as error:
        raise KitError(f"{file}: cannot be read ({error})", "it has to be a text file in UTF-8") from error
    return parse_spec(text, slug=file.absolute().parent.name, source=str(file))


def find_spec(words: str, root: Path = KERNELS) -> tuple[KernelSpec, Path]:
    """The recipe that a user means by a kernel's slug, its folder, or its `kernel.toml`; and the folder of kernels.

    Raises:
        KitError: there is none, with the close match; or it cannot be read.
    """
    path = Path(words)
    folder = path.parent if path.name == RECIPE else path
    for place in (folder, root / words):
        if (place / RECIPE).is_file():
            return read_spec(place), place.parent
    if folder.is_dir():
        return read_spec(folder), folder.parent
    raise unknown("kernel", words, (file.parent.name for file in root.glob(f"*/{RECIPE}")))


def parse_spec(text: str, *, slug: str, source: str = RECIPE) -> KernelSpec:
    """The recipe in the text of a `kernel.toml`; `source` is what errors call it. Raises where `read_spec` does."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, deep brackets
        raise KitError(f"{source}: no TOML ({error})", "see docs/kernels.md for what it may say") from error
    return _spec(values, slug=slug, source=source)


def spec_text(spec: KernelSpec) -> str:
    """The recipe as `kernel.toml`: what is not the default, in the order of the fields."""
    usual = {field.name: field.default for field in dataclasses.fields(KernelSpec)}
    lines = [f"{key} = {_toml(getattr(spec, key))}" for key in KEYS if getattr(spec, key) != usual[key]]
    if spec.settings:
        lines += ["", "[set]"]
        for setting in spec.settings:
            key, _, value = setting.partition("=")
            lines.append(f"{key} = {value if _is_toml(value) else json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def own_slug(spec: KernelSpec, root: Path = KERNELS) -> str:
    """A name for a recipe whose slug the user did not choose: of its model and budget.

    A kernel of the same recipe gives its name; where another recipe has it, a number follows.
    """
    base = re.sub(r"[^a-z0-9]+", "-", f"{spec.model}-{spec.budget}".lower()).strip("-")[: SLUG_MOST - 5]
    base = base if len(base) >= SLUG_LEAST else f"kernel-{base}"
    for number in itertools.count(1):
        slug = base if number == 1 else f"{base}-{number}"
        if not (root / slug).exists():
            return slug
        with contextlib.suppress(KitError):
            if dataclasses.replace(read_spec(root / slug), slug=slug) == dataclasses.replace(spec, slug=slug):
                return slug
    raise AssertionError


def write_spec(spec: KernelSpec, root: Path = KERNELS) -> Path:
    """Writes a recipe into its folder, and leaves it alone where it stands there already, in whatever words.

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


def _spec(values: dict[str, Any], *, slug: str, source: str) -> KernelSpec:
    table = values.pop("set", {})
    for key in values:
        if key not in KEYS:
            wrong = unknown("key", _brief(key), (*KEYS, "set"))
            raise KitError(f"{source}: {wrong.problem}", wrong.remedy)
    if "model" not in values:
        raise KitError(f"{source}: no model in it", 'write for example model = "biggan"')
    if not isinstance(table, dict) or not all(isinstance(v, str | int | float | bool) for v in table.values()):
        raise KitError(f"{source}: set is no table of settings", "write [set] on a line, then a KEY = VALUE a line")
    settings = [f"{key}={_shown(value)}" for key, value in table.items()]
    return from_json(KernelSpec, {**values, "slug": slug, "settings": settings}, source=source)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _brief(value: object) -> str:
    """A value as a message can show it: settings as they were typed, a model file by its digest."""
    if value is None:
        return "left out"
    text = " ".join(value) or "none" if isinstance(value, tuple) else _shown(value)
    if "\n" not in text and len(text) > 200:
        text = f"{text[:80]}…"
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
    except (ValueError, RecursionError):
        return False
    return not isinstance(read, str) and isinstance(read, int | float | bool) and _shown(read) == value
