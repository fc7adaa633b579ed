"""Odd durations and moments are refused in a line."""

from __future__ import annotations

import pytest

from kit.core.clock import parse_duration, parse_moment
from kit.core.errors import KitError


@pytest.mark.parametrize("text", ["9" * 40, "9" * 400 + "h", "0", "0h", "-1", "nan", "1e9", "٣h", "367d", "8785h", ""])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(KitError, match="write it like 9h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["nan", "inf", "9" * 400, "0001-01-01T00:00:00", "9999-12-31", "yesterday", "-5"])
def test_a_moment_that_is_none_is_refused(text):
    with pytest.raises(KitError):
        parse_moment(text)
