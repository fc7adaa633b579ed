"""The one seam around the `kaggle` client: every call has a timeout, bounded retries, and an error to act on.

The client's own downloads are not used: they write an unfinished file under its final name, save an error page as if
it were the file when a resume is refused, and report progress only to a terminal. Its calls and its sign-in are.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import requests

from kit.competition import Competition
from kit.core.errors import KitError
from kit.kaggle import credentials as ways
from kit.kaggle.api import kaggle_api, plain_session
from kit.kaggle.credentials import Credentials
from kit.kaggle.failures import Subject, brief, busy, explain, may_pass, retry_after
from kit.kaggle.patience import PATIENCE, RetryPolicy
from kit.kaggle.stream import Stream

T = TypeVar("T")

_PAGE = 200  # files; Kaggle sends fewer where it wants to


def quiet(message: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in a listing: its name there, folders and all, and its bytes (0 where not said)."""

    name: str
    bytes: int


class Client:
    """Kaggle's calls, one method each."""

    def __init__(
        self, api: Any, credentials: Credentials, *, patience: RetryPolicy, say: Callable[[str], None]
    ) -> None:
        self.api = api
        self._credentials = credentials
        self.patience = patience
        self.say = say

    def sign_in(self) -> None:
        """Loads the credentials into the client, and has a token examined by Kaggle.

        Raises:
            KitError: Kaggle refuses them, or cannot be reached.
        """
        account = Subject("account", "this account", ways.TOKEN_PAGE)
        self.call(account, self.api.authenticate)

    def competition_files(self, competition: Competition) -> Iterator[list[RemoteFile]]:
        """The competition's files, a page at a time, each asked for when it is wanted.

        Raises:
            KitError: Kaggle refuses, keeps failing, or cannot be reached. So do the methods below.
        """
        about = of_competition(competition)
        token = ""
        while True:
            page = self.call(about, partial(self._list_files, competition.slug, token))
            yield [RemoteFile(file.name, file.total_bytes) for file in page.files]
            token = page.next_page_token
            if not token:
                return

    def _list_files(self, slug: str, token: str) -> Any:
        return self.api.competition_list_files(slug, page_token=token, page_size=_PAGE)

    def competition_file(self, competition: Competition, name: str) -> Stream:
        """One file of a competition, by its name in the listing."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFileRequest

        request = ApiDownloadDataFileRequest()
        request.competition_name = competition.slug
        request.file_name = name
        return self._open(
            of_competition(competition),
            lambda kaggle: kaggle.competitions.competition_api_client.download_data_file(request),
        )

    def competition_bundle(self, competition: Competition) -> Stream:
        """All files of a competition, in one zip."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

        request = ApiDownloadDataFilesRequest()
        request.competition_name = competition.slug
        return self._open(
            of_competition(competition),
            lambda kaggle: kaggle.competitions.competition_api_client.download_data_files(request),
        )

    def dataset_bundle(self, owner: str, name: str) -> Stream:
        """All files of a dataset, in one zip."""
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        request = ApiDownloadDatasetRequest()
        request.owner_slug = owner
        request.dataset_slug = name
        return self._open(
            Subject("dataset", f"{owner}/{name}", f"https://www.kaggle.com/datasets/{owner}/{name}"),
            lambda kaggle: kaggle.datasets.dataset_api_client.download_dataset(request),
        )

    def _open(self, about: Subject, call: Callable[[Any], requests.Response]) -> Stream:
        def attempt() -> Stream:
            kaggle = self.api.build_kaggle_client()
            session = kaggle.http_client()._session
            # Sizes and offsets count bytes of the file, not of a compressed transfer.
            session.headers["Accept-Encoding"] = "identity"
            try:
                return Stream(session, call(kaggle))
            except BaseException:
                session.close()
                raise

        return self.call(about, attempt)

    def call(self, about: Subject, call: Callable[[], T], *, once: bool = False) -> T:
        """Makes a call: the one place where Kaggle's failures are waited out or told.

        A call that fails in passing is tried again.

        Args:
            about: what the call is about.
            call: makes it through the kaggle client.
            once: it must not be done twice: it is tried again only where Kaggle says that it did nothing.

        Raises:
            KaggleError: Kaggle refuses, keeps failing, or cannot be reached.
        """
        failures = 0
        while True:
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # the client prints advice where results belong
                    return call()
            except (Exception, SystemExit) as error:  # the client raises anything, down to `exit(1)`
                failures += 1
                wait = self._wait(error, failures) if busy(error) or not once else None
                if wait is None:
                    # Without its cause: that one's text may hold a signed address.
                    raise explain(error, about, self._credentials) from None
                self.say(f"{brief(error)}; trying again in {wait:.0f} s")
            self.patience.sleep(wait)

    def rpc(self, about: Subject, call: Callable[[Any], T], *, once: bool = False) -> T:
        """Makes a call of the client's own SDK, on a connection of its own; see `call`.

        Args:
            about: what the call is about.
            call: is given a `KaggleClient`.
            once: see `call`.

        Raises:
            KaggleError: see `call`.
        """

        def attempt() -> T:
            with self.api.build_kaggle_client() as kaggle:
                return call(kaggle)

        return self.call(about, attempt, once=once)

    def storage(self) -> requests.Session:
        """A session for addresses that carry a signature of their own."""
        return plain_session(self.patience)

    @property
    def user(self) -> str:
        """The account's name, as it stands in the addresses of its kernels.

        Raises:
            KitError: the client did not learn it.
        """
        name = self.api.get_config_value(self.api.CONFIG_NAME_USER)
        if not name:
            raise KitError("the kaggle client does not know the name of this account", "run `kaggle auth login`")
        return str(name)

    def _wait(self, error: BaseException, failures: int) -> float | None:
        """Seconds until the next try; None to give up."""
        if failures >= self.patience.tries or not may_pass(error):
            return None
        wait = self.patience.wait(failures)
        if isinstance(error, requests.HTTPError) and error.response is not None:
            wait = max(wait, retry_after(error.response) or 0.0)
        return wait if wait <= self.patience.longest_wait else None


def connect(*, patience: RetryPolicy = PATIENCE, say: Callable[[str], None] = quiet) -> Client:
    """Signs in to Kaggle.

    Args:
        patience: timeouts and retries of every call.
        say: is told, in a line, of each wait.

    Raises:
        KitError: no credentials, refused ones, or Kaggle cannot be reached.
    """
    credentials = ways.look()
    _ = credentials.used  # raises where there is none, before the client is imported
    client = Client(kaggle_api(patience), credentials, patience=patience, say=say)
    client.sign_in()
    return client


def of_competition(competition: Competition) -> Subject:
    """What a call about a competition is about."""
    page = f"https://www.kaggle.com/competitions/{competition.slug}"
    return Subject("competition", competition.slug, page, competition.rules_url)
