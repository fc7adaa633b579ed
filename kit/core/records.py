"""Records: a JSON file as one dataclass, with a reader that names the field that is wrong.

The dataclass is the format: its fields' types say what a file may hold. A class that is a file of its own derives from
`Record` and names its format and version, which stand at the head of the file. A file of another format or version is
refused, so nothing that the kit did not write is taken for its own.
"""

from __future__ import annotations

import dataclasses
import math
import types
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from kit.core.errors import KitError
from kit.core.files import read_json, write_json

T = TypeVar("T")


class Record:
    """A dataclass that is a JSON file."""

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]

    @classmethod
    def load(cls, path: Path, *, remedy: str = "") -> Self:
        """Reads the file.

        Args:
            path: the file.
            remedy: what to do where it is missing, damaged, or not of this format and version.

        Raises:
            KitError: it cannot be read as this record; the message names the file, the field and the value.
        """
        content = read_json(path, remedy=remedy)
        head = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
        if head[0] != cls.FORMAT:
            raise KitError(f"{path}: not a {cls.FORMAT} file of this kit's", remedy)
        if head[1] != cls.VERSION:
            raise KitError(f"{path}: written by another version of the kit (format {_show(head[1])})",
                           remedy or f"this kit reads format {cls.VERSION}")  # fmt: skip
        body = {key: value for key, value in content.items() if key not in ("format", "version")}
        return from_json(cls, body, source=str(path), remedy=remedy)

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            KitError: the disk is full, or the folder cannot be written.
        """
        write_json(path, {"format": self.FORMAT, "version": self.VERSION, **to_json(self)})


def is_record(path: Path, kind: type[Record]) -> bool:
    """Whether a file says of itself that it is of this format, whatever its version; false where it cannot be read."""
    try:
        content = read_json(path)
    except KitError:
        return False
    return isinstance(content, dict) and content.get("format") == kind.FORMAT


def to_json(record: Any) -> dict[str, Any]:
    """A dataclass as plain values for `json`.

    A field's metadata may hold `json`: the key in the file where it is no Python name, or False for a field that is
    left out.
    """
    return {key: _plain(getattr(record, field.name)) for key, field in _fields(type(record)).items()}


def from_json(kind: type[T], value: Any, *, source: str, remedy: str = "") -> T:
    """The dataclass that `to_json` wrote.

    Args:
        kind: the dataclass.
        value: what `json` read.
        source: the file, for messages.
        remedy: the way out, for messages.

    Raises:
        KitError: a field is missing, unknown, or of another type; the message names it.
    """
    try:
        made: T = _read(value, kind, "")
    except _FieldError as error:
        raise KitError(f"{source}: {error}", remedy) from None
    return made


class _FieldError(Exception):
    """What is wrong with a field."""


def _read(value: Any, kind: Any, at: str) -> Any:
    """A value as the type asks for it; `at` is the field's path, as "plans[2].seconds"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(value, arguments, at)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _wrong(at, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(value, kind, at)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _wrong(at, "a list", value)
        if origin is tuple and arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                raise _wrong(at, f"{len(arguments)} values", value)
            return tuple(
                _read(item, of, f"{at}[{i}]") for i, (item, of) in enumerate(zip(value, arguments, strict=True))
            )
        return origin(_read(item, arguments[0], f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(at, "an object", value)
        return {key: _read(item, arguments[1], f"{at}.{key}" if at else key) for key, item in value.items()}
    return _read_scalar(value, kind, at)


def _read_scalar(value: Any, kind: Any, at: str) -> Any:
    if kind is type(None):
        if value is not None:
            raise _wrong(at, "null", value)
        return None
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise _wrong(at, "a finite number", value)
        return float(value)
    if kind is Path:
        return Path(_read_scalar(value, str, at))
    if type(value) is not kind:
        raise _wrong(at, {int: "a whole number", str: "text", bool: "true or false"}.get(kind, kind.__name__), value)
    return value


def _read_union(value: Any, kinds: tuple[Any, ...], at: str) -> Any:
    """The first type that fits; what is wrong with the last one is what is said."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds[:-1]:
        try:
            return _read(value, kind, at)
        except _FieldError:
            continue
    return _read(value, kinds[-1], at)


def _read_dataclass(value: Any, kind: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(at, "an object", value)
    hints = get_type_hints(kind)
    fields = _fields(kind)
    prefix = f"{at}." if at else ""
    for key in value:
        if key not in fields:
            raise _FieldError(f"unknown field {prefix}{_show(key).strip(chr(39))}")
    for key, field in fields.items():
        missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if key not in value and missing:
            raise _FieldError(f"no field {prefix}{key}")
    try:
        read = {fields[key].name: _read(item, hints[fields[key].name], prefix + key) for key, item in value.items()}
        return kind(**read)
    except KitError as error:
        raise _FieldError(f"{at}: {error}" if at else str(error)) from error


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields that a file holds, by their keys in it."""
    fields = {field.metadata.get("json", field.name): field for field in dataclasses.fields(kind)}
    return {key: field for key, field in fields.items() if key is not False}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond a float's range
        return False


def _wrong(at: str, wanted: str, value: Any) -> _FieldError:
    return _FieldError(f"{at or 'content'} is {_show(value)}, not {wanted}")


def _show(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value) if not isinstance(value, dict | list) else {dict: "an object", list: "a list"}[type(value)]
    return text if len(text) <= 40 else f"{text[:37]}…"
