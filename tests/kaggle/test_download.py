"""What is fetched: the zips or the one bundle, once, and whole or not at all, wherever it is cut or interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_server import Answer, Cut, Endless, Hang, Helping, KaggleServer, Slow, make_zip, noise

from kit.competition import COMPETITIONS, DEFAULT, Competition, get
from kit.core.errors import KitError
from kit.kaggle.client import RetryPolicy
from kit.kaggle.download import RECORD, fetch, folder_name

DOGS = get(DEFAULT)
EVERY_COMPETITION = pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=lambda record: record.slug)


def contents(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def as_zips(competition: Competition) -> dict[str, bytes]:
    names = (*competition.pictures, *competition.annotations)
    return {f"{name}.zip": make_zip({f"{name}/{number}": noise(number, 900)}) for number, name in enumerate(names)}


def extracted(competition: Competition) -> dict[str, bytes]:
    names = (*competition.annotations, *competition.pictures)
    return {f"{name}/{name}/{number}": noise(number, 90) for name in names for number in range(30)}


@EVERY_COMPETITION
def test_zips_that_are_listed_are_fetched_one_by_one(
    competition: Competition, server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    server.files = as_zips(competition) | {"sample_submission.csv": b"id"}
    paths = fetch("kaggle", competition, tmp_path / "out", policy=policy)
    assert contents(paths) == as_zips(competition)
    assert [path.stem for path in paths] == [*competition.pictures, *competition.annotations]
    assert server.calls == ["ListDataFiles", *["DownloadDataFile", "storage"] * len(paths)]
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == set(as_zips(competition))


def test_extracted_files_come_as_the_one_bundle(server: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    server.files = extracted(DOGS)
    paths = fetch("kaggle", DOGS, tmp_path, policy=policy)
    assert contents(paths) == {f"{DEFAULT}.zip": server.bundle()}
    assert server.calls == ["ListDataFiles", "DownloadDataFiles", "storage"]


PADDING = {f"notes-{number}.txt": b"" for number in range(50)}
ZIPS = as_zips(DOGS)


@pytest.mark.parametrize(
    ("files", "names", "listings"),
    [
        ({"data/ALL-DOGS.ZIP": ZIPS["all-dogs.zip"], "data/annotation.zip": ZIPS["Annotation.zip"]}, None, 1),
        (PADDING | ZIPS, ["all-dogs.zip", "Annotation.zip"], 3),
        (ZIPS | PADDING, ["all-dogs.zip", "Annotation.zip"], 1),
        ({"all-dogs.zip": ZIPS["all-dogs.zip"], "Annotation/n02/1": b"<"}, [f"{DEFAULT}.zip"], 1),
        ({"all-dogs.zip": ZIPS["all-dogs.zip"]}, [f"{DEFAULT}.zip"], 1),
        ({f"n02085620_{number}.jpg": b"" for number in range(4_100)}, [f"{DEFAULT}.zip"], 5),
    ],
    ids=["in a folder, other case", "third page", "first page", "half extracted", "one missing", "loose"],
)
def test_the_listing_is_read_as_far_as_needed(
    files: dict[str, bytes],
    names: list[str] | None,
    listings: int,
    server: KaggleServer,
    policy: RetryPolicy,
    tmp_path: Path,
) -> None:
    server.files = files
    paths = fetch("kaggle", DOGS, tmp_path, policy=policy)
    assert [path.name for path in paths] == (names or ["ALL-DOGS.ZIP", "annotation.zip"])
    assert server.calls.count("ListDataFiles") == listings
    assert len(server.calls) == listings + 2 * len(paths)


def test_a_dataset(server: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    paths = fetch("kaggle:someone/anime-faces", DOGS, tmp_path, policy=policy)
    assert contents(paths) == {"anime-faces.zip": server.datasets["someone/anime-faces"]}
    assert server.calls == ["DownloadDataset", "storage"]
    with pytest.raises(KitError, match="does not find someone/else") as caught:
        fetch("kaggle:someone/else", DOGS, tmp_path, policy=policy)
    assert "https://www.kaggle.com/datasets/someone/else" in caught.value.remedy


@pytest.mark.parametrize("source", ["kaggle:", "kaggle:name", "kaggle:a/../b", "Kaggle"])
def test_what_is_no_dataset(source: str, server: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="OWNER/DATASET"):
        folder_name(source, DOGS)
    with pytest.raises(KitError, match="OWNER/DATASET"):
        fetch(source, DOGS, tmp_path, policy=policy)
    assert server.calls == []


def test_a_second_call_changes_nothing_asks_nothing_and_reads_nothing(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch("kaggle", DOGS, tmp_path, policy=policy)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir() if path.is_file()}
    server.seen.clear()
    monkeypatch.delenv("KAGGLE_KEY")  # not even credentials
    monkeypatch.setattr("kit.kaggle.download.sha256", lambda path: pytest.fail(f"read {path}"))
    assert fetch("kaggle", DOGS, tmp_path, policy=policy) == first
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir() if path.is_file()}
    assert (server.calls, after) == ([], before)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "again"),
    [
        (lambda path: path.unlink(), True),
        (_flip, True),
        (lambda path: path.write_bytes(path.read_bytes()), False),  # copied back: another time, the same digest
    ],
    ids=["gone", "one bit", "same bytes"],
)
def test_only_what_is_damaged_is_fetched_again(
    harm: Callable[[Path], object], again: bool, server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    fetch("kaggle", DOGS, tmp_path, policy=policy)
    server.seen.clear()
    harm(tmp_path / "all-dogs.zip")
    assert contents(fetch("kaggle", DOGS, tmp_path, policy=policy)) == server.files
    assert server.calls == (["ListDataFiles", "DownloadDataFile", "storage"] if again else [])


@pytest.mark.parametrize("record", ["", "[]", '{"source": "generative-dog-images", "files": [], "complete": true}'])
def test_a_damaged_record_counts_as_none(
    record: str, server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    (tmp_path / RECORD).write_text(record)
    assert contents(fetch("kaggle", DOGS, tmp_path, policy=policy)) == server.files


@pytest.mark.abuse("B8")
def test_two_commands_do_not_fetch_into_one_folder(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(KitError, match=r"in use by .*another command is fetching") as caught:
                fetch("kaggle", DOGS, tmp_path, policy=policy)
            refused.append(str(caught.value))

    assert contents(fetch("kaggle", DOGS, tmp_path, policy=policy, progress=meanwhile)) == server.files
    assert len(refused) == 1
    assert server.calls.count("storage") == 2


def test_progress_counts_the_bytes_of_all_files(
    server: KaggleServer, policy: RetryPolicy, said: list[str], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    fetch("kaggle", DOGS, tmp_path, policy=policy, progress=lambda *at: seen.append(at))
    total = sum(map(len, server.files.values()))
    assert {at[1] for at in seen} == {total}
    assert [at[0] for at in seen] == sorted(at[0] for at in seen)
    assert seen[-1] == (total, total)
    assert said == ["fetching all-dogs.zip (0.3 MB) from Kaggle", "fetching Annotation.zip (0.0 MB) from Kaggle"]


def _disk_with(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=free, used=0, free=free))


@pytest.mark.parametrize("bundle", [False, True])
def test_a_disk_too_small_is_seen_before_a_byte_is_written(
    bundle: bool, server: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bundle:
        server.files = extracted(DOGS)
    size = len(server.bundle()) if bundle else sum(map(len, server.files.values()))
    _disk_with(size - 1, monkeypatch)
    with pytest.raises(KitError, match="MB free"):
        fetch("kaggle", DOGS, tmp_path / "out", policy=policy)
    assert list((tmp_path / "out").glob("[!.]*")) == []
    assert server.calls.count("storage") == bundle  # the size of a bundle is known only from its answer
    _disk_with(size, monkeypatch)
    assert fetch("kaggle", DOGS, tmp_path / "out", policy=policy)


def test_a_disk_that_fills_up_leaves_what_came_and_no_more_is_needed(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    """The system refuses to let a file grow past a limit, as it does on a full disk."""
    code = f"""
import resource, signal
from pathlib import Path
from kit.competition import get
from kit.core.errors import KitError
from kit.kaggle.download import fetch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    fetch("kaggle", get({DEFAULT!r}), Path({str(tmp_path)!r}))
except KitError as error:
    print(error)
"""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "all-dogs.zip.part: File too large" in done.stdout
    assert not (tmp_path / "all-dogs.zip").exists()
    came = (tmp_path / "all-dogs.zip.part").stat().st_size
    assert contents(fetch("kaggle", DOGS, tmp_path, policy=policy)) == server.files
    assert f"bytes={came}-" in server.ranges_asked()


# ---- one file

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


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_what_came_of_another_version_is_dropped(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail_always("storage", Cut(300_000))
    with pytest.raises(KitError):
        fetch_faces(tmp_path, replace(policy, tries=1))
    newer = make_zip({"1.jpg": noise(2, 500_000)})
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


def test_sizes_count_the_file_and_not_a_compressed_transfer(
    faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.compresses = True
    faces.datasets[DATASET] = make_zip({"1.jpg": b"dog" * 200_000})
    faces.fail("storage", Cut(200_000))
    assert fetch_faces(tmp_path, policy) == faces.datasets[DATASET]


@pytest.mark.parametrize("fault", [Answer(403, "Expired"), Answer(500, "Oops"), Hang(), Cut(0), Helping(100_000)])
def test_a_rest_that_is_refused_is_asked_for_again(
    fault, faces: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    faces.fail("storage", Cut(200_000), None, fault, None, fault)
    assert fetch_faces(tmp_path, replace(policy, read=0.4)) == CONTENT
    assert faces.calls.count("DownloadDataset") == 4  # each time at a fresh address


def test_a_refusal_of_storage_is_told(faces: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    faces.fail_always("storage", Answer(403, "Expired", shape="html"))
    with pytest.raises(KitError, match=r"storage answers 403 for someone/faces \(Expired\)"):
        fetch_faces(tmp_path, policy)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("content", "fault", "problem"),
    [
        (CONTENT, Endless(after=300_000), "no whole zip"),
        (b"<html>log in</html>", None, "no whole zip"),
        (CONTENT[:-30], None, "no whole zip"),
        (CONTENT[100_000:], None, "no whole zip"),
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
    faces.fail("storage", Slow(piece=80_000, pause=0.1))
    start = time.monotonic()
    assert fetch_faces(tmp_path, replace(policy, read=0.5)) == CONTENT
    assert time.monotonic() - start > 0.5  # longer than the timeout, which counts from piece to piece
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
    code = (  # a shell ignores SIGINT for what it runs in the background, and children inherit that
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
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
