"""Files from Kaggle to the disk: resumed after a cut, under their own names only when they are whole.

The client's own downloads are not used: they write an unfinished file under its final name, save an error page as if it
were the file when a resume is refused, and report progress only to a terminal.

While a file comes, the bytes are in `NAME.part`, and `NAME.part.json` says of which version of the file they are. Both
stay when the command is interrupted, and the next one goes on from there if Kaggle still has that version.
`.fetched.json` beside the files records what they are. As long as they are as recorded, nothing is asked of Kaggle, not
even a sign-in.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

import requests

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import disk_error, require_space, sha256
from kit.core.lock import folder_lock
from kit.core.progress import Progress, no_progress
from kit.core.records import Record
from kit.kaggle.client import Client, RetryPolicy, connect, of_competition
from kit.kaggle.failures import Subject, brief

log = logging.getLogger(__name__)

RECORD = ".fetched.json"

_CHUNK = 1 << 16  # bytes; what a cut connection can lose
_PAGE = 200  # files of a listing; Kaggle sends fewer where it wants to

# A listing whose first pages show neither the zips nor their contents will not do so later: take the bundle.
_PAGES = 5


# ---- what is fetched


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
        competition: whose data is meant.
        folder: where the zips go, one folder for each source; see `folder_name`.
        progress: is called with bytes here, bytes in all (0 where Kaggle does not say).
        policy: timeouts and retries.

    Raises:
        KitError: no credentials, a refusal, no network, too small a disk, or another source than these two.
    """
    dataset = _dataset(source)
    name = dataset or competition.slug
    if here := _Fetched.read(folder, name).whole(folder):
        return here
    client = connect(policy=policy)
    wanted = [_dataset_bundle(client, dataset)] if dataset else _competition_files(client, competition)
    with folder_lock(folder, remedy="another command is fetching into it: wait until that one is done"):
        fetched = _Fetched.read(folder, name)
        missing = [file for file in wanted if not fetched.has(folder, file.name)]
        arrived = sum(_Partial(folder / file.name).bytes for file in missing)
        require_space(folder, sum(file.bytes for file in missing) - arrived)
        before = 0
        for place, file in enumerate(missing):
            after = sum(later.bytes for later in missing[place + 1 :])
            size = f" ({file.bytes / 1e6:.1f} MB)" if file.bytes else ""
            log.info("fetching %s%s from Kaggle", file.name, size)

            def count(done: int, total: int, before: int = before, after: int = after) -> None:
                progress(before + done, before + total + after if total else 0)

            path = folder / file.name
            download(file.open, path, policy=client.policy, progress=count, verify=check_zip)
            fetched.add(folder, file.name)
            before += path.stat().st_size
        fetched.close(folder, [file.name for file in wanted])
    return [folder / file.name for file in wanted]


def folder_name(source: str, competition: Competition) -> str:
    """A name for a source's folder: the competition's slug, or `owner-dataset`.

    Raises:
        KitError: the source is neither `kaggle` nor `kaggle:OWNER/DATASET`.
    """
    return _dataset(source).replace("/", "-") or competition.slug


@dataclass(frozen=True)
class _Wanted:
    """A file to fetch."""

    name: str  # here
    bytes: int  # 0 where not known yet
    open: Callable[[], Stream]


def _competition_files(client: Client, competition: Competition) -> list[_Wanted]:
    """A competition's zips where the listing shows them, else the one bundle; never a file per picture."""
    from kagglesdk.competitions.types.competition_api_service import (
        ApiDownloadDataFileRequest,
        ApiDownloadDataFilesRequest,
    )

    about = of_competition(competition)

    def file(name: str) -> Stream:
        request = ApiDownloadDataFileRequest()
        request.competition_name, request.file_name = competition.slug, name
        return _open(client, about, lambda sdk: sdk.competitions.competition_api_client.download_data_file(request))

    def bundle() -> Stream:
        request = ApiDownloadDataFilesRequest()
        request.competition_name = competition.slug
        return _open(client, about, lambda sdk: sdk.competitions.competition_api_client.download_data_files(request))

    zips = _zips(client, competition)
    if not zips:
        return [_Wanted(f"{competition.slug}.zip", 0, bundle)]
    return [_Wanted(PurePosixPath(name).name, size, partial(file, name)) for name, size in zips]


def _zips(client: Client, competition: Competition) -> list[tuple[str, int]]:
    """Names and bytes of the competition's zips, in its record's order; none where the listing shows other things.

    Reads only as many pages as it takes: an extracted competition lists 41,000 files.
    """
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
            folders = {folder.casefold() for folder in path.parent.parts}
            if path.name.casefold() in {f"{name}.zip" for name in names}:
                found[path.stem.casefold()] = (file.name, file.total_bytes)
            elif folders.intersection(names):
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
    about = Subject("dataset", dataset, f"https://www.kaggle.com/datasets/{dataset}")
    return _Wanted(
        f"{request.dataset_slug}.zip",
        0,
        lambda: _open(client, about, lambda sdk: sdk.datasets.dataset_api_client.download_dataset(request)),
    )


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

    def whole(self, folder: Path) -> list[Path]:
        """The files, if all that belong to the source are here and as recorded; else none."""
        if self.complete and all(self.has(folder, name) for name in self.files):
            return [folder / name for name in self.files]
        return []

    def has(self, folder: Path, name: str) -> bool:
        """Whether a file is here with the recorded size and digest.

        The digest is not computed again for a file whose time of change is the recorded one: a gigabyte takes
        longer to read than a user wants to wait for "nothing to do".
        """
        path, known = folder / name, self.files.get(name)
        if known is None or not path.is_file() or path.parent != folder:
            return False
        stat = path.stat()
        return stat.st_size == known.bytes and (stat.st_mtime_ns == known.mtime_ns or sha256(path) == known.sha256)

    def add(self, folder: Path, name: str) -> None:
        """Records a file that has just become whole."""
        stat = (folder / name).stat()
        self.files[name] = _File(stat.st_size, sha256(folder / name), stat.st_mtime_ns)
        self.complete = False
        self.save(folder / RECORD)

    def close(self, folder: Path, names: list[str]) -> None:
        """Records that these are all."""
        self.files = {name: self.files[name] for name in names}
        self.complete = True
        self.save(folder / RECORD)


# ---- one file


class CutError(Exception):
    """A body that ended early. What came is good; the rest can be asked for."""


class Stream:
    """A file on its way here.

    Attributes:
        size: bytes of the whole file; None where the server does not say.
        validator: what tells this version of the file from any other; None where the server gives nothing.
    """

    def __init__(self, session: requests.Session, response: requests.Response) -> None:
        self._session = session
        self._response = response
        length = response.headers.get("Content-Length", "")
        self.size = int(length) if length.isdecimal() and len(length) < 20 else None
        self.validator: str | None = response.headers.get("ETag") or response.headers.get("Last-Modified")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._session.close()

    @property
    def label(self) -> _Label:
        """What tells parts of this version of the file from others."""
        return _Label(self.validator, self.size)

    def seek(self, offset: int) -> int:
        """Asks to go on from a byte of this very version (Range and If-Range).

        Returns:
            where the stream goes on: `offset`, or 0 where the server sends the whole file.

        Raises:
            CutError: the server gives neither.
        """
        request = self._response.request.copy()
        request.headers["Range"] = f"bytes={offset}-"
        request.headers["If-Range"] = self.validator or ""
        self._response.close()
        try:
            settings = self._session.merge_environment_settings(request.url or "", {}, True, None, None)
            self._response = self._session.send(request, **settings)
        except requests.RequestException as error:
            raise CutError(brief(error)) from None
        if self._response.status_code == 200:
            return 0
        said = self._response.headers.get("Content-Range", "")
        if self._response.status_code != 206 or not said.startswith(f"bytes {offset}-"):
            raise CutError(f"Kaggle's storage answers {self._response.status_code} to a request for the rest")
        return offset

    def chunks(self) -> Iterator[bytes]:
        """The bytes, as they come.

        Raises:
            CutError: the connection ended, or nothing came for too long.
        """
        try:
            yield from self._response.iter_content(_CHUNK)
        except requests.RequestException as error:
            # The read timeout of a body comes as a ConnectionError.
            slow = "timed out" in str(error)
            raise CutError("nothing came for a while" if slow else "the connection was cut") from None


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
        path: where it goes.
        policy: how often it is tried without a new byte, and the waits between.
        progress: bytes here, bytes in all (0 where the server does not say).
        verify: is given what came, and its name, before it takes that name; raises where it is no such file.

    Raises:
        KitError: it keeps being cut, does not pass `verify`, or the disk is too small.
    """
    part = _Partial(path)
    failures, furthest = 0, part.bytes
    while True:
        try:
            with open_stream() as stream:
                _receive(stream, part, progress)
            break
        except CutError as cut:
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
    except KitError:
        part.discard()
        raise
    try:
        part.path.replace(path)
        part.discard()
    except OSError as error:
        raise disk_error(error, path) from error


def check_zip(path: Path, name: str) -> None:
    """Reads the directory at a zip's end, and sees that each entry it names begins and ends within the file."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = archive.infolist()
            for entry in entries:
                file.seek(max(0, entry.header_offset))  # negative where the file's beginning is missing
                begins = entry.header_offset >= 0 and file.read(4) == b"PK\3\4"
                if not begins or file.tell() + entry.compress_size > archive.start_dir:
                    raise zipfile.BadZipFile(f"no entry {entry.filename} where its directory says")
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise KitError(f"{name}: what Kaggle sent is no whole zip ({error})", "run the command again") from error
    if not entries:
        raise KitError(f"{name}: the zip that Kaggle sent is empty")


@dataclass(frozen=True)
class _Label(Record):
    """`NAME.part.json`: of which version of a file the part is."""

    FORMAT: ClassVar[str] = "kit-part"
    VERSION: ClassVar[int] = 1

    validator: str | None
    bytes: int | None  # of the whole file


class _Partial:
    """The bytes of a file that have come so far, and what they are bytes of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.label = path.with_name(f"{path.name}.part.json")

    @property
    def bytes(self) -> int:
        """How many there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def belongs_to(self, stream: Stream) -> bool:
        """Whether they are the beginning of the very version that the stream sends."""
        try:
            label = _Label.load(self.label)
        except KitError:
            return False
        return stream.validator is not None and label == stream.label and self.bytes <= (stream.size or self.bytes)

    def open(self, offset: int) -> BinaryIO:
        """The file, to write from a byte on."""
        file = self.path.open("r+b" if offset else "wb")
        file.seek(offset)
        file.truncate()
        return file

    def discard(self) -> None:
        """Removes all of it."""
        self.path.unlink(missing_ok=True)
        self.label.unlink(missing_ok=True)


def _receive(stream: Stream, part: _Partial, progress: Progress) -> None:
    """Takes from the stream what is not here yet."""
    offset = part.bytes if part.belongs_to(stream) else 0
    if stream.size and offset == stream.size:  # all came, and then the command was interrupted
        return
    require_space(part.path, (stream.size or 0) - offset)
    if offset:
        offset = stream.seek(offset)
    if not offset:
        part.discard()
        stream.label.save(part.label)
    with part.open(offset) as file:
        here = offset
        progress(here, stream.size or 0)
        for chunk in stream.chunks():
            file.write(chunk)
            here += len(chunk)
            progress(here, stream.size or 0)
        file.flush()
        os.fsync(file.fileno())
    if stream.size is not None and here != stream.size:
        raise CutError("the body ended")


def _open(client: Client, about: Subject, call: Callable[[Any], requests.Response]) -> Stream:
    """A file that one of the client's calls leads to."""

    def attempt() -> Stream:
        sdk = client.api.build_kaggle_client()
        session = sdk.http_client()._session
        # Sizes and offsets count bytes of the file, not of a compressed transfer.
        session.headers["Accept-Encoding"] = "identity"
        try:
            return Stream(session, call(sdk))
        except BaseException:
            session.close()
            raise

    return client.call(about, attempt)
