"""A download that is cut, delayed or interrupted ends whole or not at all, and goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_server import Answer, Cut, Endless, Hang, Helping, KaggleServer, Slow, make_zip, noise

from kit.competition import DEFAULT, get
from kit.core.errors import KitError
from kit.kaggle.client import RetryPolicy
from kit.kaggle.download import fetch

DATASET = "someone/faces"
CHUNK = 65_536
CONTENT = make_zip({"1.jpg": noise(1, 500_000)})


@pytest.fixture
def faces(server: KaggleServer) -> KaggleServer:
    server.datasets[DATASET] = CONTENT
    return server


def fetch_faces(folder: Path, policy: RetryPolicy, **options) -> bytes:
    (path,) = fetch(f"kaggle:{DATASET}", get(DEFAULT), folder, policy=policy, **options)
    return path.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("[!.]*") if path.is_file()}


WHOLE = {"faces.zip"}
UNFINISHED = {"faces.zip.part", "faces.zip.part.json"}


def test_a_cut_is_resumed_in_the_same_call(
    faces: KaggleServer, policy: RetryPolicy, said: list[str], waits: list[float], tmp_path: Path
) -> None:
    faces.fail(
        "storage", Cut(200_000), None, Cut(100_000)
    )  # the first of a pair asks for the file, the next for the rest
    assert fetch_faces(tmp_path, policy) == CONTENT
    came = 200_000 // CHUNK * CHUNK
    more = came + 100_000 // CHUNK * CHUNK
    assert faces.ranges_asked() == [None, None, f"bytes={came}-", None, f"bytes={more}-"]
    assert said[1] == "faces.zip: the connection was cut after 0.2 MB of 0.5 MB; going on in 1 s"
    assert waits == [1.0, 1.0]  # each got further than the one before
    assert names(tmp_path) == WHOLE


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=6), ranges=st.booleans(), validators=st.booleans())
def test_wherever_it_is_cut_what_arrives_is_the_file(
    cuts: list[int], ranges: bool, validators: bool, faces: KaggleServer, policy: RetryPolicy, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    faces.ranges, faces.validators = ranges, validators
    faces.fail("storage", *map(Cut, cuts))
    assert fetch_faces(folder, replace(policy, tries=20)) == CONTENT
    assert names(folder) == WHOLE


def test_a_body_shorter_than_announced_is_noticed_and_kept_for_a_later_call(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.ranges = False
    faces.fail_always("storage", Cut(300_000))
    with pytest.raises(KitError) as caught:
        fetch_faces(tmp_path, policy)
    assert "faces.zip: the connection was cut after 0.3 MB of 0.5 MB, 4 times in a row" in caught.value.problem
    assert "run the command again" in caught.value.remedy
    assert faces.calls.count("DownloadDataset") == policy.tries
    assert names(tmp_path) == UNFINISHED

    came = (tmp_path / "faces.zip.part").stat().st_size
    faces.ranges = True
    faces.fail("storage")
    faces.seen.clear()
    assert fetch_faces(tmp_path, policy) == CONTENT
    assert faces.ranges_asked() == [None, f"bytes={came}-"]
    assert names(tmp_path) == WHOLE


@pytest.mark.parametrize("change", ["content", "length"])
def test_what_came_of_another_version_is_dropped(
    change: str, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.fail_always("storage", Cut(300_000))
    with pytest.raises(KitError):
        fetch_faces(tmp_path, replace(policy, tries=1))
    newer = make_zip({"1.jpg": noise(2, 500_000 if change == "content" else 400_000)})
    faces.datasets[DATASET] = newer
    faces.fail("storage")
    faces.seen.clear()
    assert fetch_faces(tmp_path, policy) == newer
    assert faces.ranges_asked() == [None]


def test_a_version_that_changes_between_the_question_and_the_rest(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces.fail("storage", Cut(300_000))
    newer = make_zip({"1.jpg": noise(2, 500_000)})
    stored = faces.stored

    def stored_then(path: str) -> bytes | None:
        if faces.calls.count("storage") == 3:  # the file, the file again, its rest
            faces.datasets[DATASET] = newer
        return stored(path)

    monkeypatch.setattr(faces, "stored", stored_then)
    assert fetch_faces(tmp_path, policy) == newer
    assert [asked is None for asked in faces.ranges_asked()] == [True, True, False]


def test_a_part_whose_label_is_lost_is_not_trusted(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    (tmp_path / "faces.zip.part").write_bytes(b"something else")
    assert fetch_faces(tmp_path, policy) == CONTENT
    assert faces.ranges_asked() == [None]
    assert names(tmp_path) == WHOLE


def test_a_part_that_is_longer_than_the_file_is_not_trusted(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.fail_always("storage", Cut(300_000))
    with pytest.raises(KitError):
        fetch_faces(tmp_path, replace(policy, tries=1))
    with (tmp_path / "faces.zip.part").open("ab") as part:
        part.write(CONTENT)
    faces.fail("storage")
    assert fetch_faces(tmp_path, policy) == CONTENT


def test_a_rest_that_comes_in_helpings(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail("storage", Cut(200_000), *[None, Helping(150_000)] * 5)
    assert fetch_faces(tmp_path, policy) == CONTENT
    assert faces.calls.count("DownloadDataset") == 4


def test_sizes_count_the_file_and_not_a_compressed_transfer(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.compresses = True
    faces.datasets[DATASET] = make_zip({"1.jpg": b"dog" * 200_000})
    faces.fail("storage", Cut(200_000))
    assert fetch_faces(tmp_path, policy) == faces.datasets[DATASET]


def test_a_part_that_is_complete_only_takes_its_name(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut between the last byte and the rename."""
    with monkeypatch.context() as power:
        power.setattr("kit.kaggle.download.check_zip", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fetch_faces(tmp_path, policy)
    assert names(tmp_path) == UNFINISHED
    counts: list[int] = []
    assert fetch_faces(tmp_path, policy, progress=lambda done, total: counts.append(done)) == CONTENT
    assert faces.ranges_asked() == [None, None]
    assert counts == []


@pytest.mark.parametrize(
    "fault", [Answer(416, "Range"), Answer(403, "Expired"), Answer(500, "Oops"), Answer(429, "Slow"), Hang(), Cut(0)]
)
def test_a_rest_that_is_refused_is_asked_for_again(
    fault, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.fail("storage", Cut(200_000), None, fault, None, fault)
    assert fetch_faces(tmp_path, replace(policy, read=0.8)) == CONTENT
    assert faces.calls.count("DownloadDataset") == 4  # each time at a fresh address


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_of_storage_is_told(status: int, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail_always("storage", Answer(status, "Expired", shape="html"))
    with pytest.raises(KitError, match=rf"storage answers {status} for someone/faces \(Expired\)"):
        fetch_faces(tmp_path, policy)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("content", "fault", "problem"),
    [
        (CONTENT, Endless(after=300_000), "no whole zip"),
        (b"<html>log in</html>", None, "no whole zip"),
        (CONTENT[:-30], None, "no whole zip"),
        (CONTENT[100_000:], None, "no entry 1.jpg"),
        (make_zip({}), None, "empty"),
        (b"", None, "no whole zip"),
    ],
    ids=["no length, cut", "a page", "cut before it was stored", "its head is missing", "no entries", "nothing"],
)
def test_what_is_no_whole_zip_is_refused_and_removed(
    content: bytes, fault, problem: str, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.datasets[DATASET] = content
    if fault:
        faces.fail("storage", fault)
    with pytest.raises(KitError, match=problem):
        fetch_faces(tmp_path, policy)
    assert names(tmp_path) == set()


def test_a_body_without_a_length(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail("storage", Endless())
    seen: list[tuple[int, int]] = []
    assert fetch_faces(tmp_path, policy, progress=lambda *at: seen.append(at)) == CONTENT
    assert seen[-1] == (len(CONTENT), 0)


def test_a_slow_server_is_no_hanging_one(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail("storage", Slow(piece=80_000, pause=0.2))
    start = time.monotonic()
    assert fetch_faces(tmp_path, replace(policy, read=1.0)) == CONTENT
    assert time.monotonic() - start > 1.0  # longer than the timeout, which counts from piece to piece
    assert faces.ranges_asked() == [None]


def test_a_server_that_stops_in_the_middle(
    faces: KaggleServer, policy: RetryPolicy, said: list[str], tmp_path: Path
) -> None:
    faces.fail("storage", Slow(piece=200_000, pause=2.0))
    assert fetch_faces(tmp_path, replace(policy, read=0.5)) == CONTENT
    assert "faces.zip: nothing came for a while after 0.2 MB of 0.5 MB" in said[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("stop", ["SIGINT", "SIGKILL"])
def test_an_interrupted_command_leaves_what_the_next_one_goes_on_with(
    stop: str, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.fail("storage", Slow(piece=20_000, pause=0.2))
    code = (
        "from pathlib import Path; from kit.competition import get; from kit.kaggle.download import fetch\n"
        f"fetch('kaggle:{DATASET}', get({DEFAULT!r}), Path({str(tmp_path)!r}))"
    )
    part = tmp_path / "faces.zip.part"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        while not (part.exists() and part.stat().st_size > CHUNK):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, getattr(signal, stop))
    assert names(tmp_path) == UNFINISHED
    came = part.stat().st_size
    assert CHUNK <= came < len(CONTENT)
    assert fetch_faces(tmp_path, policy) == CONTENT
    assert faces.ranges_asked() == [None, None, f"bytes={came}-"]
