"""docs/security.md names a test for each promise, and each of these tests is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/\S+?\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


@pytest.mark.abuse("G")
def test_every_test_that_the_page_names_is_there() -> None:
    assert len(NAMED) > 20
    missing = [f"{file}::{name}" for file, name in NAMED if f"def {name}(" not in _text(file)]
    assert missing == []


def _text(file: str) -> str:
    path = ROOT / file
    return path.read_text(encoding="utf-8") if path.is_file() else ""
