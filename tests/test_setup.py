"""The set-up installs what the tests ran with, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.abuse("G")
def test_every_pinned_package_has_a_hash_and_make_venv_demands_them() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = [line for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(pins) > 20
    assert [pin[:60] for pin in pins if not re.search(r"==\S+.*--hash=sha256:[0-9a-f]{64}", pin)] == []
    assert "--require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text(encoding="utf-8")
