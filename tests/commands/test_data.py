"""Where `kit data` takes pictures from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kit.commands.data import locate
from kit.competition import COMPETITIONS, DEFAULT
from kit.core.progress import no_progress
from kit.data import sources


@pytest.mark.abuse("G")
def test_it_says_that_it_takes_what_is_mounted_in_place_of_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "kaggle_mount", lambda competition: tmp_path)
    caplog.set_level(logging.INFO, logger="kit")
    origin = locate("kaggle", COMPETITIONS[DEFAULT], seed=0, progress=no_progress)
    assert origin.path == tmp_path
    assert f"mounted at {tmp_path} instead of Kaggle's download" in caplog.text
