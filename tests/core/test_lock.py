"""Two processes never work in one folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.core.lock import claim_folder, folder_lock

HOLD = """
import sys, time
from pathlib import Path
from kit.core.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.abuse("B8")
def test_a_folder_is_given_to_one_claimant_only(tmp_path: Path) -> None:
    def claim(_: int) -> Path:
        return claim_folder(tmp_path / "runs" / f"run-{number}" for number in range(1, 100))

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim, range(20)))
    assert sorted(path.name for path in claimed) == sorted(f"run-{number}" for number in range(1, 21))
    with pytest.raises(KitError, match="run-1 exists already"):
        claim_folder([tmp_path / "runs" / "run-1"])


@pytest.mark.abuse("B8")
def test_a_held_folder_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    process = hold(tmp_path / "run")
    try:
        with (
            pytest.raises(KitError, match=rf"run: in use by process {process.pid}; stop it"),
            folder_lock(tmp_path / "run", remedy="stop it"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with folder_lock(tmp_path / "run"):  # a killed process holds nothing
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_replaced_while_it_is_held(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with folder_lock(tmp_path / "set"):
        (tmp_path / "new").rename(tmp_path / "set")
        with pytest.raises(KitError, match="in use"), folder_lock(tmp_path / "set"):
            pass
