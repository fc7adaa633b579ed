"""Records: what a reader accepts, and what it says of what it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.core.errors import KitError
from kit.core.records import Record, from_json, is_record, to_json


@dataclass(frozen=True, kw_only=True)
class Part:
    start: int = field(metadata={"json": "from"})
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Note(Record):
    FORMAT: ClassVar[str] = "kit-note"
    VERSION: ClassVar[int] = 3

    name: str
    state: Literal["new", "done"]
    parts: list[Part]
    pair: tuple[int, float] = (0, 0.5)
    score: float | None = None
    tags: dict[str, int] = field(default_factory=dict)
    folder: Path = field(default=Path(), metadata={"json": False})


NOTE = Note(name="a", state="new", parts=[Part(start=1, seconds=2.5)], score=None, tags={"x": 1})


def changed(**values: Any) -> dict[str, Any]:
    return {"format": "kit-note", "version": 3, **to_json(NOTE), **values}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    NOTE.save(tmp_path / "note.json")
    assert Note.load(tmp_path / "note.json") == NOTE
    assert is_record(tmp_path / "note.json", Note)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(name=3), "name is 3, not text"),
        (changed(state="old"), "state is 'old', not one of new, done"),
        (
            changed(parts=[{"from": 1, "seconds": 1}, {"from": "2", "seconds": 1}]),
            r"parts\[1\].from is '2', not a w",
        ),
        (changed(parts=[{"from": 1}]), r"no field parts\[0\].seconds"),
        (changed(parts={}), r"parts is an object, not a list"),
        (changed(parts=[{"from": True, "seconds": 1}]), r"parts\[0\].from is True"),
        (changed(score=float("nan")), "score is nan, not a finite number"),
        (changed(score=10**400), "not a finite number"),
        (changed(pair=[1]), "pair is a list, not 2 values"),
        (changed(tags={"x": 1.5}), r"tags.x is 1.5"),
        (changed(more=1), "unknown field more"),
        (changed(version=2), "another version of the kit"),
        (changed(format="stylegan"), r"not a kit-note file"),
        ([], r"not a kit-note file"),
        ({}, r"not a kit-note file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(json.dumps(content))
    with pytest.raises(KitError, match=rf"note.json.*{says}"):
        Note.load(path)


@pytest.mark.abuse("D15")
@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, '{"a": ' + "9" * 5000 + "}", "\x00", '"\ud800"'])
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "note.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(KitError, match=r"note\.json"):
        Note.load(path)
    assert not is_record(path, Note)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.abuse("D15")
@given(name=st.sampled_from(["name", "state", "parts", "pair", "score", "tags"]), value=JSON)
def test_any_value_in_any_field_is_read_or_refused_in_one_line(name: str, value: Any) -> None:
    content = {**to_json(NOTE), name: value}
    said = ""
    try:
        assert to_json(from_json(Note, content, source="note.json"))[name] == value
    except KitError as error:
        said = str(error)
    assert not said or (name in said and "\n" not in said)
