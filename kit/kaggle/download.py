"""A competition's or a dataset's zips from Kaggle, and any one file of its storage: whole or not at all, and once.

The resume of the client (2.2.4) and that of kagglehub (1.0.3) failed 23 and 31 of 55 tests of this module: both write
an unfinished file under its final name, look at no disk, and count bytes for a terminal alone; the client stays with an
address that has expired, and kagglehub gives up at the first cut and joins bytes of two versions.

While a file comes, its bytes are in `NAME.part`, and `NAME.part.json` says of which version of the file they are. Both
stay when the command is interrupted, and the next one goes on from there if Kaggle still has that version.
`.fetched.json` records the files of a folder: as long as they are as recorded, nothing is asked of Kaggle.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

import requests

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import BAD_ENTRY, disk_error, require_space, sha256
from kit.core.lock import folder_lock
from kit.core.progress import Progress, no_progress
from kit.core.records import Record
from kit.kaggle.client import Client, RetryPolicy, connect, of_competition
from kit.kaggle.failures import Subject, brief

log = logging.getLogger(__name__)

RECORD = ".fetched.json"

_CHUNK = 1 << 16  # bytes; what a cut connection can lose
_PAGE = 200  # files of a listing; Kaggle sends fewer where it wants to
_PAGES = 5  # of the 41,000 files that an extracted competition lists; the first ones tell what there is


def fetch(
    source: str,
    competition: Competition,
    folder: Path,
    *,
    progress: Progress = no_progress,
    policy: RetryPolicy | None = None,
) -> list[Path]:
    """Brings a competition's or a dataset's zips into a folder; does nothing where they are there and whole.

    Args:
        source: `kaggle` for the competition's own data, `kaggle:OWNER/DATASET` for a dataset.
        folder: one for each source; see `folder_name`.
        progress: bytes here, bytes in all (0 where Kaggle does not say).
        policy: timeouts and retries; None: `RETRY_POLICY`.

    Raises:
        KitError: no credentials, a refusal, no network, too small a disk, or another source than these two.
    """
    dataset = _dataset(source)
    name = dataset or competition.slug
    fetched = _Fetched.read(folder, name)
    if fetched.complete and fetched.files and not fetched.missing(folder):
        return [folder / file for file in fetched.files]
    client = connect(policy=policy)
    wanted = [_dataset_bundle(client, dataset)] if dataset else _competition_files(client, competition)
    with folder_lock(folder, remedy="another command is fetching into it: wait until that one is done"):
        fetched = _Fetched.read(folder, name)
        kept = fetched.files.keys() - fetched.missing(folder)
        fetched.complete, fetched.files = False, {file: fetched.files[file] for file in kept}
        missing = [file for file in wanted if file.name not in kept]
        arrived = sum(_Part(folder / file.name).bytes for file in missing)
        require_space(folder, sum(file.bytes for file in missing) - arrived)
        here, total = 0, sum(file.bytes for file in missing)
        for file in missing:
            log.info("fetching %s%s from Kaggle", file.name, f" ({file.bytes / 1e6:.1f} MB)" if file.bytes else "")

            def count(done: int, size: int, here: int = here) -> None:
                progress(here + done, total or size)

            path = folder / file.name
            download(file.open, path, policy=client.policy, progress=count, verify=check_zip)
            fetched.files[file.name] = _File.of(path)
            fetched.save(folder / RECORD)
            here += path.stat().st_size
        fetched.complete, fetched.files = True, {file.name: fetched.files[file.name] for file in wanted}
        fetched.save(folder / RECORD)
    return [folder / file.name for file in wanted]


def folder_name(source: str, competition: Competition) -> str:
    """A name for a source's folder: the competition's slug, or `owner-dataset`; raises where `fetch` does."""
    return _dataset(source).replace("/", "-") or competition.slug


@dataclass(frozen=True)
class _Wanted:
    """A file to fetch: a method of the client's SDK leads to it."""

    client: Client
    about: Subject
    name: str  # here
    method: str
    request: object
    bytes: int = 0  # 0 where not known yet

    def open(self) -> Stream:
        return self.client.call(self.about, self._open)

    def _open(self) -> Stream:
        sdk = self.client.api.build_kaggle_client()
        return Stream(sdk.http_client()._session, lambda: attrgetter(self.method)(sdk)(self.request))


def _competition_files(client: Client, competition: Competition) -> list[_Wanted]:
    """A competition's zips where the listing shows them, else the one bundle; never a file per picture."""
    from kagglesdk.competitions.types.competition_api_service import (
        ApiDownloadDataFileRequest,
        ApiDownloadDataFilesRequest,
    )

    about, service = of_competition(competition), "competitions.competition_api_client"
    wanted = []
    for name, size in _zips(client, competition):
        one = ApiDownloadDataFileRequest()
        one.competition_name, one.file_name = competition.slug, name
        wanted.append(_Wanted(client, about, PurePosixPath(name).name, f"{service}.download_data_file", one, size))
    bundle = ApiDownloadDataFilesRequest()
    bundle.competition_name = competition.slug
    return wanted or [_Wanted(client, about, f"{competition.slug}.zip", f"{service}.download_data_files", bundle)]


def _zips(client: Client, competition: Competition) -> list[tuple[str, int]]:
    """Names and bytes of the competition's zips, in its record's order; none where the listing shows other things."""
    names = [name.casefold() for name in (*competition.pictures, *competition.annotations)]
    found: dict[str, tuple[str, int]] = {}
    token = ""
    for _ in range(_PAGES):
        page = client.call(
            of_competition(competition),
            partial(client.api.competition_list_files, competition.slug, page_token=token, page_size=_PAGE),
        )
        for file in page.files:
            path = PurePosixPath(file.name)
            if path.name.casefold() in {f"{name}.zip" for name in names}:
                found[path.stem.casefold()] = (file.name, file.total_bytes)
            elif {folder.casefold() for folder in path.parent.parts}.intersection(names):
                return []
        if len(found) == len(names):
            return [found[name] for name in names]
        token = page.next_page_token
        if not token:
            break
    return []


def _dataset_bundle(client: Client, dataset: str) -> _Wanted:
    """A dataset, `owner/name`, as the one zip that Kaggle makes of it."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    about = Subject(dataset, f"https://www.kaggle.com/datasets/{dataset}")
    method = "datasets.dataset_api_client.download_dataset"
    return _Wanted(client, about, f"{request.dataset_slug}.zip", method, request)


def _dataset(source: str) -> str:
    """`owner/name` of a dataset; empty for the competition's own data."""
    if source == "kaggle":
        return ""
    if match := re.fullmatch(r"kaggle:([\w-]+/[\w-]+)", source, re.ASCII):
        return match[1]
    raise KitError(f"{source!r} names no Kaggle dataset", "write it as kaggle:OWNER/DATASET, as in its page's address")


@dataclass(frozen=True)
class _File:
    bytes: int
    sha256: str
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(path.stat().st_size, sha256(path), path.stat().st_mtime_ns)

    def is_at(self, path: Path) -> bool:
        """Whether a file has the recorded size and digest; with the recorded time of change it need not be read."""
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        return path.stat().st_mtime_ns == self.mtime_ns or sha256(path) == self.sha256


@dataclass
class _Fetched(Record):
    """`.fetched.json`: a folder's files, and whether these are all that belong to the source."""

    FORMAT: ClassVar[str] = "kit-download"
    VERSION: ClassVar[int] = 1

    source: str
    complete: bool = False
    files: dict[str, _File] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, source: str) -> Self:
        """What a folder has of a source; nothing where there is no record, a damaged one, or another source's."""
        try:
            known = cls.load(folder / RECORD)
        except KitError:
            return cls(source)
        return known if known.source == source else cls(source)

    def missing(self, folder: Path) -> list[str]:
        """Names of recorded files that are not there as they were; a name that leads elsewhere counts as one."""
        return [name for name, file in self.files.items() if Path(name).name != name or not file.is_at(folder / name)]


class _CutError(Exception):
    """A body ended early, or its rest is refused. What came is good, and the rest may be asked for."""


@dataclass(frozen=True)
class _Label(Record):
    """`NAME.part.json`: of which version of a file the part is."""

    FORMAT: ClassVar[str] = "kit-part"
    VERSION: ClassVar[int] = 1

    validator: str | None  # ETag, or time of change; None where the server gives nothing
    bytes: int | None  # of the whole file; None where the server does not say


class Stream:
    """A file on its way here, and which version of it that is."""

    def __init__(self, session: requests.Session, ask: Callable[[], requests.Response]) -> None:
        session.headers["Accept-Encoding"] = "identity"  # sizes and offsets count bytes of the file itself
        self._session = session
        try:
            self._response = ask()
        except BaseException:
            session.close()
            raise
        said = self._response.headers
        length = said.get("Content-Length", "")
        self.size = int(length) if length.isdecimal() and len(length) < 20 else None
        self.label = _Label(said.get("ETag") or said.get("Last-Modified"), self.size)

    def close(self) -> None:
        self._response.close()
        self._session.close()

    def seek(self, offset: int) -> int:
        """Asks to go on from a byte of this very version; 0 where the server sends the whole file instead."""
        request = self._response.request.copy()
        request.headers["Range"] = f"bytes={offset}-"
        request.headers["If-Range"] = self.label.validator or ""
        self._response.close()
        try:
            settings = self._session.merge_environment_settings(request.url or "", {}, True, None, None)
            self._response = self._session.send(request, **settings)
        except requests.RequestException as error:
            raise _CutError(brief(error)) from None
        if self._response.status_code == 200:
            return 0
        said = self._response.headers.get("Content-Range", "")
        if self._response.status_code != 206 or not said.startswith(f"bytes {offset}-"):
            raise _CutError(f"Kaggle's storage answers {self._response.status_code} to a request for the rest")
        return offset

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come."""
        try:
            yield from self._response.iter_content(_CHUNK)
        except requests.RequestException as error:
            # The read timeout of a body comes as a ConnectionError.
            slow = "timed out" in str(error)
            raise _CutError("nothing came for a while" if slow else "the connection was cut") from None


def download(
    open_stream: Callable[[], Stream],
    path: Path,
    *,
    policy: RetryPolicy,
    progress: Progress = no_progress,
    verify: Callable[[Path, str], None],
) -> None:
    """Fetches a file, going on where an earlier try, or an earlier command, was cut off.

    Args:
        open_stream: asks for the file; called once a try, as its address expires.
        policy: how often it is tried without a new byte, and the waits between.
        progress: as in `fetch`.
        verify: is given what came and its name, before it takes that name; raises where it is no such file.

    Raises:
        KitError: it keeps being cut, does not pass `verify`, or the disk is too small.
    """
    part = _Part(path)
    failures, furthest = 0, part.bytes
    while True:
        try:
            with contextlib.closing(open_stream()) as stream:
                _receive(stream, part, progress)
            break
        except _CutError as cut:
            failures = 1 if part.bytes > furthest else failures + 1
            furthest = max(furthest, part.bytes)
            size = f" of {stream.size / 1e6:.1f} MB" if stream.size else ""
            problem = f"{path.name}: {cut} after {part.bytes / 1e6:.1f} MB{size}"
        except OSError as error:
            raise disk_error(error, part.path) from error
        if failures >= policy.tries:
            raise KitError(f"{problem}, {failures} times in a row", "run the command again: it goes on from there")
        wait = policy.wait(failures)
        log.info("%s; going on in %.0f s", problem, wait)
        policy.sleep(wait)
    try:
        verify(part.path, path.name)
        part.path.replace(path)
        part.discard()
    except KitError:
        part.discard()
        raise
    except OSError as error:
        raise disk_error(error, path) from error


def check_zip(path: Path, name: str) -> None:
    """Reads every entry of a zip and compares its checksum; raises where one is not whole, or there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()  # an offset is negative where the file's beginning is missing
            whole = all(entry.header_offset >= 0 for entry in entries) and archive.testzip() is None
        if not whole:
            raise zipfile.BadZipFile("an entry is damaged")
    except BAD_ENTRY as error:
        raise KitError(f"{name}: what Kaggle sent is no whole zip ({error})", "run the command again") from error
    if not entries:
        raise KitError(f"{name}: the zip that Kaggle sent is empty")


class _Part:
    """The bytes of a file that have come so far, and what they are bytes of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.label = path.with_name(f"{path.name}.part.json")

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def belongs_to(self, label: _Label) -> bool:
        """Whether they are the beginning of this very version."""
        try:
            same = _Label.load(self.label) == label
        except KitError:
            return False
        return same and label.validator is not None and self.bytes <= (label.bytes or self.bytes)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.label.unlink(missing_ok=True)


def _receive(stream: Stream, part: _Part, progress: Progress) -> None:
    """Takes from the stream what is not here yet."""
    size = stream.size or 0
    offset = part.bytes if part.belongs_to(stream.label) else 0
    if size and offset == size:  # all came, and then the command was interrupted
        return
    require_space(part.path, size - offset)
    if offset:
        offset = stream.seek(offset)
    if not offset:
        part.discard()
        stream.label.save(part.label)
    with part.path.open("r+b" if offset else "wb") as file:
        here = file.seek(offset)
        file.truncate()
        progress(here, size)
        for chunk in stream.chunks():
            file.write(chunk)
            here += len(chunk)
            progress(here, size)
        file.flush()
        os.fsync(file.fileno())
    if stream.size is not None and here != stream.size:
        raise _CutError("the body ended")
