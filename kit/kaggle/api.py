"""The `kaggle` package, loaded without its surprises.

Importing it signs in, without a timeout; prints help and warnings where results belong; makes a settings folder; and
reads the environment once for all. What comes out of here has done none of that but the folder.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from kit.core.errors import KitError
from kit.kaggle.credentials import config_file
from kit.kaggle.patience import RetryPolicy


class _TimeoutAdapter(HTTPAdapter):
    """Gives every request a timeout; the kaggle client sends its calls without one."""

    def __init__(self, patience: RetryPolicy) -> None:
        self._timeout = (patience.connect, patience.read)
        super().__init__()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        return super().send(request, stream, timeout or self._timeout, verify, cert, proxies)


def kaggle_api(patience: RetryPolicy) -> Any:
    """A `KaggleApi` that has not signed in yet, follows today's environment, and whose sessions have timeouts."""
    api = _api_class()()
    # The class read these from the environment when it was imported, perhaps long ago. `--verbose` is left out on
    # purpose: it prints the Authorization header.
    api.args = ["--local"] if os.environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST" else []
    api.config = str(config_file())

    build = api.build_kaggle_client

    def build_with_timeouts() -> Any:
        kaggle = build()
        http = kaggle.http_client()
        http._init_session()
        _mount(http._session, patience)
        return kaggle

    api.build_kaggle_client = build_with_timeouts
    return api


def plain_session(patience: RetryPolicy) -> requests.Session:
    """A session with timeouts and without credentials, for signed addresses: storage refuses who brings both."""
    session = requests.Session()
    _mount(session, patience)
    # Sizes and offsets count bytes of the file, not of a compressed transfer.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _mount(session: requests.Session, patience: RetryPolicy) -> None:
    for scheme in ("https://", "http://"):
        session.mount(scheme, _TimeoutAdapter(patience))


def _api_class() -> Any:
    """Imports the client. That signs in at once, without a timeout, and prints: here it may do neither."""
    try:
        from kagglesdk.kaggle_http_client import KaggleHttpClient

        with (
            _attribute(KaggleHttpClient, "call", _refuse),
            _without_variables("VERBOSE", "VERBOSE_OUTPUT"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise KitError(f"the kaggle client cannot be loaded ({error})", "run `pip install kaggle six`") from error
    except OSError as error:  # it makes its settings folder
        raise KitError(
            f"the kaggle client cannot make its settings folder ({error.strerror})",
            "set KAGGLE_CONFIG_DIR to a folder that can be written",
        ) from error
    return KaggleApi


def _refuse(*arguments: object) -> None:
    raise ConnectionError("not while it is being imported")  # the client takes any exception for "not signed in"


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def _without_variables(*names: str) -> Iterator[None]:
    """Hides variables that make the client log every request, addresses with signatures included."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
