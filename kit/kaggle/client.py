"""The one seam around the `kaggle` client: every call has a timeout, bounded retries, and an error to act on.

`urllib3.Retry` on the session was tried in place of the loop in `Client.call`, and failed 11 tests of this module: it
waits without a word, and for an hour where `Retry-After` says so, ends with an error of its own on a `Retry-After` that
is neither number nor date, and calls a server that hangs one that cannot be reached. Nor does it see an answer that is
cut after its head, ask for the fresh address that an upload needs for each try, or keep apart what must not be done
twice.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from kit.competition import Competition
from kit.core.errors import KitError
from kit.kaggle import credentials
from kit.kaggle.credentials import Credentials
from kit.kaggle.failures import Subject, brief, explain, is_busy, is_transient, retry_after

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to wait for Kaggle. Times are in seconds, counted on a clock that nobody sets."""

    connect: float = 10.0  # until a server takes the connection
    read: float = 60.0  # between two pieces of an answer
    tries: int = 4  # of a call; of a download, without a new byte in between
    first_wait: float = 1.0  # after the first failure; it doubles with each
    longest_wait: float = 300.0  # when the server asks for more than this, the call is given up
    first_poll: float = 5.0  # between two looks at something that takes hours; each wait is half as long again
    longest_poll: float = 60.0
    arrival: float = 300.0  # how long what was sent is looked for where its answer was lost
    outage: float = 1800.0  # of the network, or of Kaggle, while something is watched
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    def wait(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))

    def polls(self) -> Iterator[float]:
        """The waits between looks, without end."""
        wait = self.first_poll
        while True:
            yield wait
            wait = min(self.longest_poll, 1.5 * wait)


RETRY_POLICY = RetryPolicy()


class Client:
    """An account's connection: makes calls through the `kaggle` client."""

    def __init__(self, api: Any, credentials: Credentials, *, policy: RetryPolicy) -> None:
        self.api = api
        self.policy = policy
        self._credentials = credentials

    def call(self, about: Subject, call: Callable[[], T], *, once: bool = False) -> T:
        """Makes a call: the one place where Kaggle's failures are waited out or told.

        Args:
            about: for messages.
            call: makes it.
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
                wait = self._wait(error, failures) if is_busy(error) or not once else None
                if wait is None:
                    # Without its cause: that one's text may hold a signed address.
                    raise explain(error, about, self._credentials) from None
                log.info("%s; trying again in %.0f s", brief(error, self._credentials), wait)
            self.policy.sleep(wait)

    def rpc(self, about: Subject, call: Callable[[Any], T], *, once: bool = False) -> T:
        """The same for a call of the client's SDK, which is given a `KaggleClient` of its own."""

        def attempt() -> T:
            with self.api.build_kaggle_client() as kaggle:
                return call(kaggle)

        return self.call(about, attempt, once=once)

    def storage(self) -> requests.Session:
        """A session without credentials, for signed addresses: storage refuses who brings both."""
        session = requests.Session()
        _set_timeouts(session, self.policy)
        return session

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
        if failures >= self.policy.tries or not is_transient(error):
            return None
        wait = self.policy.wait(failures)
        if isinstance(error, requests.HTTPError) and error.response is not None:
            wait = max(wait, retry_after(error.response) or 0.0)
        return wait if wait <= self.policy.longest_wait else None


def connect(*, policy: RetryPolicy | None = None) -> Client:
    """Signs in to Kaggle: loads the credentials into the client, and has Kaggle examine a token.

    Raises:
        KitError: no credentials, refused ones, or Kaggle cannot be reached.
    """
    policy = policy or RETRY_POLICY
    api = kaggle_api(policy)
    client = Client(api, credentials.find(api), policy=policy)
    client.call(Subject("this account", credentials.TOKEN_PAGE), api.authenticate)
    return client


def kaggle_api(policy: RetryPolicy = RETRY_POLICY) -> Any:
    """A `KaggleApi` that has not signed in yet, follows today's environment, and whose sessions have timeouts.

    Raises:
        KitError: the package is not installed, or cannot make its settings folder.
    """
    api = _api_class()()
    # The class read these from the environment when it was imported, perhaps long ago. `--verbose` is left out on
    # purpose: it prints the Authorization header.
    api.args = ["--local"] if os.environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST" else []
    api.config = str(_config_file())
    build = api.build_kaggle_client

    def build_with_timeouts() -> Any:
        kaggle = build()
        http = kaggle.http_client()
        http._init_session()
        _set_timeouts(http._session, policy)
        return kaggle

    api.build_kaggle_client = build_with_timeouts
    return api


def of_competition(competition: Competition) -> Subject:
    """What a call about a competition is about."""
    page = f"https://www.kaggle.com/competitions/{competition.slug}"
    return Subject(competition.slug, page, competition.rules_url)


class _TimeoutAdapter(HTTPAdapter):
    """Gives every request a timeout; the kaggle client sends its calls without one."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._timeout = (policy.connect, policy.read)
        super().__init__()

    def send(self, request: requests.PreparedRequest, *rest: Any, **options: Any) -> requests.Response:
        return super().send(request, *rest, **{**options, "timeout": options.get("timeout") or self._timeout})


def _set_timeouts(session: requests.Session, policy: RetryPolicy) -> None:
    for scheme in ("https://", "http://"):
        session.mount(scheme, _TimeoutAdapter(policy))


def _config_file() -> Path:
    """Where the client reads `kaggle.json`."""
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(folder) / "kaggle.json"
    old = Path.home() / ".kaggle"
    if sys.platform.startswith("linux") and not old.exists():
        base = os.environ.get("XDG_CONFIG_HOME")
        return (Path(base) if base else Path.home() / ".config") / "kaggle" / "kaggle.json"
    return old / "kaggle.json"


def _api_class() -> Any:
    """Imports the client. That signs in at once, without a timeout, and prints: here it may do neither."""
    # With these variables the client logs every request, addresses with signatures included.
    hidden = {name: os.environ.pop(name) for name in ("VERBOSE", "VERBOSE_OUTPUT") if name in os.environ}
    try:
        from kagglesdk.kaggle_http_client import KaggleHttpClient

        call = KaggleHttpClient.call
        KaggleHttpClient.call = _refuse
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                from kaggle.api.kaggle_api_extended import KaggleApi
        finally:
            KaggleHttpClient.call = call
    except ImportError as error:
        raise KitError(f"the kaggle client cannot be loaded ({error})", "run `pip install kaggle six`") from error
    except OSError as error:  # it makes its settings folder, and reads the token
        raise KitError(
            f"the kaggle client cannot make its settings folder ({error.strerror})",
            "set KAGGLE_CONFIG_DIR to a folder that can be written",
        ) from None
    finally:
        os.environ.update(hidden)
    return KaggleApi


def _refuse(*arguments: object) -> None:
    raise ConnectionError("not while it is being imported")  # the client takes any exception for "not signed in"
