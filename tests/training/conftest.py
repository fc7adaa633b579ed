"""What the tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def prepared(make_set, tmp_path_factory):
    """A set of 32 pictures of 16 px in two classes."""
    return make_set(tmp_path_factory.mktemp("training") / "set", n=32, size=16, classes=2)
