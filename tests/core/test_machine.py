"""What the machine lends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kit.core import machine
from kit.core.machine import cores


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can take cores away from a process")
def test_only_the_cores_that_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("limit", "counts"), [("1048576\n", True), ("max\n", False), (None, False)])
def test_a_containers_limit_counts_where_it_is_lower(limit, counts, tmp_path, monkeypatch):
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (file,))
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
        assert machine.memory() == (1048576 if counts else pytest.approx(total, rel=0.02))
