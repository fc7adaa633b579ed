"""The body of a download: bytes as they come, and the way to ask for the rest after a cut."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import requests

from kit.kaggle.failures import brief

_CHUNK = 1 << 16  # bytes; what a cut connection can lose


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
        self.size = int(length) if length.isdecimal() else None
        self.validator: str | None = response.headers.get("ETag") or response.headers.get("Last-Modified")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._session.close()

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
