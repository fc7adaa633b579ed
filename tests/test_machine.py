"""What the machine lends."""

from __future__ import annotations

import os
import sys

import pytest

from kit.machine import cores


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can take cores away from a process")
def test_only_the_cores_that_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
