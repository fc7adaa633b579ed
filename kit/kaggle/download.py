"""A competition's or a dataset's zips from Kaggle, once.

`.fetched.json` beside the files records what they are. As long as they are as recorded, nothing is asked of Kaggle, not
even a sign-in.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

import requests

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import require_space, sha256
from kit.core.lock import folder_lock
from kit.core.progress import Progress, no_progress
from kit.core.records import Record
from kit.kaggle.client import Client, RetryPolicy, connect, of_competition
from kit.kaggle.failures import Subject
from kit.kaggle.transfer import Stream, check_zip, download, part_bytes

log = logging.getLogger(__name__)

RECORD = ".fetched.json"

_PAGE = 200  # files of a listing; Kaggle sends fewer where it wants to

# A listing whose first pages show neither the zips nor their contents will not do so later: take the bundle.
_PAGES = 5


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
        arrived = sum(part_bytes(folder / file.name) for file in missing)
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
