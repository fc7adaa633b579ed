"""What is fetched: the zips or the one bundle, once, whole, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from kaggle_server import KaggleServer, make_zip, noise

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


@EVERY_COMPETITION
def test_extracted_files_come_as_the_one_bundle(
    competition: Competition, server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    server.files = extracted(competition)
    paths = fetch("kaggle", competition, tmp_path, policy=policy)
    assert contents(paths) == {f"{competition.slug}.zip": server.bundle()}
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
        ({f"n02085620_{number}.jpg": b"" for number in range(41_000)}, [f"{DEFAULT}.zip"], 5),
    ],
    ids=["in a folder, other case", "third page", "first page", "half extracted", "one missing", "41,000 loose"],
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


@pytest.mark.parametrize(
    "source", ["kaggle:", "kaggle:name", "kaggle:a/b/c", "kaggle:a/../b", "kaggle:a/b c", "Kaggle"]
)
def test_what_is_no_dataset(source: str, server: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="OWNER/DATASET"):
        folder_name(source, DOGS)
    with pytest.raises(KitError, match="OWNER/DATASET"):
        fetch(source, DOGS, tmp_path, policy=policy)
    assert server.calls == []


def test_each_source_has_a_folder_of_its_own() -> None:
    sources = ["kaggle", "kaggle:a/b", "kaggle:a/c"]
    names = {folder_name(source, competition) for source in sources for competition in COMPETITIONS.values()}
    assert names == {*COMPETITIONS, "a-b", "a-c"}


def test_the_record_states_bytes_and_sha256(server: KaggleServer, policy: RetryPolicy, tmp_path: Path) -> None:
    fetch("kaggle", DOGS, tmp_path, policy=policy)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["source"] == DEFAULT
    for name, content in server.files.items():
        known = record["files"][name]
        assert (known["bytes"], known["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_second_call_changes_nothing_and_asks_nothing(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch("kaggle", DOGS, tmp_path, policy=policy)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir() if path.is_file()}
    server.seen.clear()
    monkeypatch.delenv("KAGGLE_KEY")  # not even credentials
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
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), True),
        (_flip, True),
        (lambda path: path.write_bytes(path.read_bytes()), False),  # copied back: another time, the same digest
    ],
    ids=["gone", "shorter", "one bit", "same bytes"],
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
    fetch("kaggle", DOGS, tmp_path, policy=policy)
    (tmp_path / RECORD).write_text(record)
    assert contents(fetch("kaggle", DOGS, tmp_path, policy=policy)) == server.files
    assert server.calls.count("storage") == 4


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


def test_another_source_in_the_same_folder_is_not_taken_for_this_one(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path
) -> None:
    fetch("kaggle", DOGS, tmp_path, policy=policy)
    paths = fetch("kaggle:someone/anime-faces", DOGS, tmp_path, policy=policy)
    assert [path.name for path in paths] == ["anime-faces.zip"]


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


def test_a_second_call_does_not_read_the_files_to_know_them(
    server: KaggleServer, policy: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch("kaggle", DOGS, tmp_path, policy=policy)
    monkeypatch.setattr("kit.kaggle.download.sha256", lambda path: pytest.fail(f"read {path}"))
    assert fetch("kaggle", DOGS, tmp_path, policy=policy) == first
