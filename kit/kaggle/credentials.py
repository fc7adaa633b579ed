"""Which credentials the Kaggle client will use, found out without importing it.

The client signs in while it is being imported, prints a page of help where it finds nothing, and ends the process.
So the kit looks first, in the client's own order, and can say where it looked. Secrets are read only to see whether
they are there: nothing here holds one.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kit.core.errors import KitError

TOKEN_PAGE = "https://www.kaggle.com/settings/api"


@dataclass(frozen=True)
class Way:
    """One way to give credentials.

    Attributes:
        name: the variable or the file, as a user would write it.
        kind: what it gives; a token beats a key, a key beats a sign-in.
        problem: why it gives nothing ("not set", "no such file"); empty where it does.
    """

    name: str
    kind: Literal["token", "key", "sign-in"]
    problem: str = ""

    @property
    def found(self) -> bool:
        """Whether this way gives credentials."""
        return not self.problem


@dataclass(frozen=True)
class Credentials:
    """The ways to give credentials, in the order in which the client tries them."""

    ways: tuple[Way, ...]

    @property
    def used(self) -> Way:
        """The way that the client takes: the first that gives anything.

        Raises:
            KitError: none does; names every way and what is wrong with it.
        """
        for way in self.ways:
            if way.found:
                return way
        looked = ", ".join(f"{way.name} ({way.problem})" for way in self.ways)
        raise KitError(
            f"no Kaggle credentials; looked at {looked}",
            f"make a token at {TOKEN_PAGE} and save it as ~/.kaggle/access_token, or set KAGGLE_API_TOKEN to it",
        )

    @property
    def hidden_key(self) -> Way | None:
        """A key that is there but never tried, because a token comes first."""
        if self.used.kind != "token":
            return None
        return next((way for way in self.ways if way.kind == "key" and way.found), None)


def config_file() -> Path:
    """Where the client reads `kaggle.json`; token files do not follow KAGGLE_CONFIG_DIR."""
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(folder) / "kaggle.json"
    folder_of_old = Path.home() / ".kaggle"
    if sys.platform.startswith("linux") and not folder_of_old.exists():
        base = os.environ.get("XDG_CONFIG_HOME")
        return (Path(base) if base else Path.home() / ".config") / "kaggle" / "kaggle.json"
    return folder_of_old / "kaggle.json"


def look() -> Credentials:
    """Looks for credentials in every place where the client would."""
    return Credentials((*_token_ways(), *_key_ways(), _sign_in_way()))


def _token_ways() -> list[Way]:
    ways = []
    # Inside a Kaggle notebook the platform leaves a token in a file.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ and "KAGGLE_DATA_PROXY_URL" in os.environ:
        path = os.environ.get("KAGGLE_API_V1_TOKEN")
        ways.append(Way("KAGGLE_API_V1_TOKEN", "token", _text_problem(Path(path)) if path else "not set"))

    value = os.environ.get("KAGGLE_API_TOKEN")
    names_file = bool(value) and _exists(Path(value or ""))
    problem = "not set" if not value else _text_problem(Path(value)) if names_file else ""
    ways.append(Way("KAGGLE_API_TOKEN", "token", problem))

    for name in ("access_token", "access_token.txt"):
        path_of_token = Path.home() / ".kaggle" / name
        # Once the variable names a file, the client looks at no other token, even where that file is empty.
        problem = "passed over for KAGGLE_API_TOKEN" if names_file else _text_problem(path_of_token)
        ways.append(Way(_shown(path_of_token), "token", problem))
    return ways


def _key_ways() -> list[Way]:
    names = {"username": "KAGGLE_USERNAME", "key": "KAGGLE_KEY"}
    missing = [name for name in names.values() if not os.environ.get(name)]
    problem = "" if not missing else "not set" if len(missing) == len(names) else f"{missing[0]} not set"
    variables = Way(" and ".join(names.values()), "key", problem)

    path = config_file()
    values, problem = _json(path)
    if not problem:
        # The variables are laid over the file one by one, also where they are empty.
        empty = [name for name in names.values() if os.environ.get(name) == ""]
        absent = [field for field, name in names.items() if not (os.environ.get(name) or values.get(field))]
        if empty:
            problem = f"overridden by an empty {' and '.join(empty)}"
        elif absent:
            problem = f"has no {' and no '.join(absent)}"
    return [variables, Way(_shown(path), "key", problem)]


def _sign_in_way() -> Way:
    path = Path.home() / ".kaggle" / "credentials.json"  # what `kaggle auth login` leaves
    values, problem = _json(path)
    if not problem and not values.get("refresh_token"):
        problem = "has no refresh_token"
    return Way(_shown(path), "sign-in", problem)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a long token makes no valid file name
        return False


def _text_problem(path: Path) -> str:
    try:
        return "" if path.read_text().strip() else "empty"
    except FileNotFoundError:
        return "no such file"
    except (OSError, UnicodeDecodeError):
        return "cannot be read"


def _json(path: Path) -> tuple[dict[str, Any], str]:
    if problem := _text_problem(path):
        return {}, problem
    try:
        values = json.loads(path.read_text())
    except ValueError:
        return {}, "is no JSON"
    return (values, "") if isinstance(values, dict) else ({}, "is no JSON object")


def _shown(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return str(path)
