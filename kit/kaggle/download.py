"""What to fetch from Kaggle for a competition or a dataset, and how to know that it is here already.

`.fetched.json` beside the files records what they are: source, bytes, SHA-256. As long as they are as recorded,
nothing is asked of Kaggle, not even a sign-in.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import disk_error, read_json, require_space, sha256, write_json
from kit.kaggle.client import Client, RemoteFile, connect, quiet
from kit.kaggle.patience import PATIENCE, RetryPolicy
from kit.kaggle.stream import Stream
from kit.kaggle.transfer import Partial, check_zip, download

RECORD = ".fetched.json"

# A listing whose first pages show neither the zips nor their contents will not do so later: take the bundle.
_PAGES = 5


def _no_progress(done: int, total: int) -> None:
    pass


def fetch(
    source: str,
    competition: Competition,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = _no_progress,
    say: Callable[[str], None] = quiet,
    patience: RetryPolicy = PATIENCE,
) -> list[Path]:
    """Brings a competition's or a dataset's zips into a folder; does nothing where they are there and whole.

    Args:
        source: `kaggle` for the competition's own data, `kaggle:OWNER/DATASET` for a dataset.
        competition: whose data is meant.
        folder: where the zips go, one folder for each source; see `folder_name`.
        progress: bytes here, bytes in all (0 where Kaggle does not say).
        say: is told, in a line, what happens.
        patience: timeouts and retries.

    Returns:
        the zips.

    Raises:
        KitError: no credentials, a refusal, no network, too small a disk, or another source than these two.
    """
    dataset = _dataset(source)
    if here := Record(folder, dataset or competition.slug).whole():
        return here
    client = connect(patience=patience, say=say)
    if dataset:
        return fetch_dataset(client, dataset, folder, progress=progress)
    return fetch_competition(client, competition, folder, progress=progress)


def folder_name(source: str, competition: Competition) -> str:
    """A name for a source's folder: the competition's slug, or `owner-dataset`.

    Raises:
        KitError: the source is neither `kaggle` nor `kaggle:OWNER/DATASET`.
    """
    return _dataset(source).replace("/", "-") or competition.slug


def fetch_competition(
    client: Client,
    competition: Competition,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = _no_progress,
) -> list[Path]:
    """Fetches a competition's zips where the listing shows them, else the one bundle; never a file per picture.

    Raises:
        KitError: see `fetch`.
    """
    zips = _zips(client, competition)
    if not zips:
        bundle = Wanted(f"{competition.slug}.zip", 0, partial(client.competition_bundle, competition))
        return _fetch(client, [bundle], folder, competition.slug, progress)
    wanted = [
        Wanted(PurePosixPath(file.name).name, file.bytes, partial(client.competition_file, competition, file.name))
        for file in zips
    ]
    return _fetch(client, wanted, folder, competition.slug, progress)


def fetch_dataset(
    client: Client,
    dataset: str,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = _no_progress,
) -> list[Path]:
    """Fetches a dataset, `owner/name`, as the one zip that Kaggle makes of it.

    Raises:
        KitError: see `fetch`.
    """
    owner, name = dataset.split("/")
    bundle = Wanted(f"{name}.zip", 0, partial(client.dataset_bundle, owner, name))
    return _fetch(client, [bundle], folder, dataset, progress)


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: its name here, its bytes (0 where not known yet), and how to ask for it."""

    name: str
    bytes: int
    open_stream: Callable[[], Stream]


class Record:
    """What `.fetched.json` knows of a folder's files: their bytes and SHA-256, and whether these are all."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self._source = source
        self._files: dict[str, dict[str, Any]] = {}
        self._complete = False
        try:
            known = read_json(folder / RECORD)
        except KitError:
            return  # none, or a damaged one: as good as nothing fetched
        if isinstance(known, dict) and known.get("source") == source and isinstance(known.get("files"), dict):
            self._files, self._complete = known["files"], known.get("complete") is True

    def whole(self) -> list[Path]:
        """The files, if all that belong to the source are here and as recorded; else none."""
        if self._complete and all(self.has(name) for name in self._files):
            return [self.folder / name for name in self._files]
        return []

    def has(self, name: str) -> bool:
        """Whether a file is here with the recorded size and digest.

        The digest is not computed again for a file whose time of change is the recorded one: a gigabyte takes
        longer to read than a user wants to wait for "nothing to do".
        """
        path, known = self.folder / name, self._files.get(name)
        if known is None or not path.is_file():
            return False
        stat = path.stat()
        if stat.st_size != known.get("bytes"):
            return False
        return stat.st_mtime_ns == known.get("mtime_ns") or sha256(path) == known.get("sha256")

    def add(self, name: str) -> None:
        """Records a file that has just become whole."""
        path = self.folder / name
        stat = path.stat()
        self._files[name] = {"bytes": stat.st_size, "sha256": sha256(path), "mtime_ns": stat.st_mtime_ns}
        self._write(complete=False)

    def close(self, names: list[str]) -> None:
        """Records that these are all."""
        self._files = {name: self._files[name] for name in names}
        self._write(complete=True)

    def _write(self, *, complete: bool) -> None:
        self._complete = complete
        write_json(self.folder / RECORD, {"source": self._source, "complete": complete, "files": self._files})


def _fetch(
    client: Client, wanted: list[Wanted], folder: Path, source: str, progress: Callable[[int, int], None]
) -> list[Path]:
    """Fetches what is not here yet, one file after the other, with one progress over all of them."""
    with _alone_in(folder):
        record = Record(folder, source)
        missing = [file for file in wanted if not record.has(file.name)]
        arrived = sum(Partial(folder / file.name).bytes for file in missing)
        require_space(folder, sum(file.bytes for file in missing) - arrived)
        before = 0
        for place, file in enumerate(missing):
            after = sum(later.bytes for later in missing[place + 1 :])
            size = f" ({file.bytes / 1e6:.1f} MB)" if file.bytes else ""
            client.say(f"fetching {file.name}{size} from Kaggle")

            def count(done: int, total: int, before: int = before, after: int = after) -> None:
                progress(before + done, before + total + after if total else 0)

            path = folder / file.name
            download(file.open_stream, path, patience=client.patience, say=client.say, progress=count, verify=check_zip)
            record.add(file.name)
            before += path.stat().st_size
        record.close([file.name for file in wanted])
    return [folder / file.name for file in wanted]


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps two commands from writing the same part of a file; the system ends it with the process, however that ends.

    Raises:
        KitError: another command is at it, or the folder cannot be made.
    """
    lock = FileLock(folder / ".fetched.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise KitError(f"{folder}: another command is fetching into it", "wait until that one is done") from None
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def _zips(client: Client, competition: Competition) -> list[RemoteFile]:
    """The competition's zips, in its record's order; none where the listing shows other things.

    Reads only as many pages as it takes: an extracted competition lists 41,000 files.
    """
    names = [name.casefold() for name in (*competition.pictures, *competition.annotations)]
    found: dict[str, RemoteFile] = {}
    for page, files in enumerate(client.competition_files(competition), start=1):
        for file in files:
            path = PurePosixPath(file.name)
            folders = {folder.casefold() for folder in path.parent.parts}
            if path.name.casefold() in {f"{name}.zip" for name in names}:
                found[path.stem.casefold()] = file
            elif folders.intersection(names):
                return []
        if len(found) == len(names):
            return [found[name] for name in names]
        if page == _PAGES:
            break
    return []


def _dataset(source: str) -> str:
    """`owner/name` of a dataset; empty for the competition's own data."""
    if source == "kaggle":
        return ""
    if match := re.fullmatch(r"kaggle:([\w-]+/[\w-]+)", source, re.ASCII):
        return match[1]
    raise KitError(f"{source!r} names no Kaggle dataset", "write it as kaggle:OWNER/DATASET, as in its page's address")
