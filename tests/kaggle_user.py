"""A Kaggle of the tests' own, and a user who can reach nothing else."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kaggle_server import KaggleServer, kaggle_server, make_zip, noise

from kit.competition import DEFAULT, get
from kit.kaggle.client import RetryPolicy, connect, of_competition

NOON = 1_800_000_000.0
"""A moment, in seconds since 1970."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    """The dog competition as two zips, and a dataset; this process is a user with a key."""
    files = {
        "all-dogs.zip": make_zip({f"all-dogs/{number}.jpg": noise(number, 30_000) for number in range(10)}),
        "Annotation.zip": make_zip({"Annotation/n02085620-Chihuahua/n02085620_7": noise(99, 5_000)}),
    }
    with kaggle_server(files=files, datasets={"someone/anime-faces": make_zip({"1.jpg": noise(7, 9_000)})}) as server:
        environment = server.environment(home)
        for name in set(os.environ) - set(environment):
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server


class Waits(list[float]):
    """Takes the place of `time.sleep`: remembers, and does not wait. `now` is a clock that goes on by the waits."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)

    def now(self) -> float:
        return NOON + sum(self)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the library tells the user."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("kit")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def policy(waits: Waits) -> RetryPolicy:
    """Timeouts for a server next door."""
    return RetryPolicy(connect=2.0, read=2.0, sleep=waits)


@pytest.fixture
def clock(policy: RetryPolicy, waits: Waits) -> RetryPolicy:
    """The same with a time that passes only while somebody waits."""
    return dataclasses.replace(policy, now=waits.now)


def listed(policy: RetryPolicy) -> list[str]:
    """The names on the first page of the dog competition's files: the simplest call there is."""
    client = connect(policy=policy)
    page = client.call(of_competition(get(DEFAULT)), lambda: client.api.competition_list_files(DEFAULT))
    return [file.name for file in page.files]
