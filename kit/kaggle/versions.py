"""Kernel versions on Kaggle: pushed, asked how they are, read back, and their output listed.

A push that Kaggle answers is not yet one that it took: errors and inputs that it does not know come in the answer's
body, under a 200. Everything here is one call, and raises `KaggleError` where it is refused or not answered; what to do
about its answer is decided in `pushes` and `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from kit.core.errors import KitError
from kit.kaggle.client import Client
from kit.kaggle.download import Stream
from kit.kaggle.failures import KaggleError, Subject, words

_PAGE = 100  # files of a listing

ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")
"""States after which nothing more happens to a version."""


@dataclass(frozen=True)
class Version:
    """A kernel's version: what Kaggle runs, and what is submitted where only kernels are taken."""

    owner: str
    slug: str
    number: int

    @property
    def kernel(self) -> str:
        """`owner/slug`, as Kaggle's calls name it."""
        return f"{self.owner}/{self.slug}"

    @property
    def page(self) -> str:
        """Where it can be looked at."""
        return f"https://www.kaggle.com/code/{self.kernel}"

    def __str__(self) -> str:
        return f"{self.kernel}/{self.number}"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What Kaggle answered to a push, all of it."""

    version: int | None  # None where it does not say
    error: str  # in Kaggle's words; then there is no version
    unknown: tuple[str, ...]  # inputs that it does not know, and left out


@dataclass(frozen=True)
class Status:
    """How a version is: QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED or NEW_SCRIPT."""

    name: str
    failure: str  # in Kaggle's words

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.name in ENDED


@dataclass(frozen=True)
class OutputFile:
    """A file of a version's output. Its address holds a signature: never shown, and good for some minutes only."""

    name: str
    url: str


@dataclass(frozen=True)
class Newest:
    """The newest version of a kernel, as Kaggle has it."""

    number: int
    source: str


def about(owner: str, slug: str) -> Subject:
    """What a call about a kernel is about."""
    return Subject(f"{owner}/{slug}", f"https://www.kaggle.com/code/{owner}/{slug}")


def push(client: Client, folder: Path, *, owner: str, slug: str) -> Pushed:
    """Sends a folder's code and metadata, which makes a version and queues it."""
    answer = client.call(about(owner, slug), lambda: client.api.kernels_push(str(folder)), once=True)
    kinds = ("competition", "dataset", "kernel", "model")
    unknown = tuple(name for kind in kinds for name in getattr(answer, f"invalid_{kind}_sources") or ())
    return Pushed(version=answer.version_number or None, error=words(answer.error), unknown=unknown)


def newest(client: Client, owner: str, slug: str) -> Newest | None:
    """The newest version's number and source; None where Kaggle shows no such kernel."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

    request = ApiGetKernelRequest()
    request.user_name, request.kernel_slug = owner, slug
    try:
        found = client.rpc(about(owner, slug), lambda kaggle: kaggle.kernels.kernels_api_client.get_kernel(request))
    except KaggleError as error:
        if error.status in (403, 404):  # of a private kernel that is not there, Kaggle says that one may not see it
            return None
        raise
    return Newest(number=found.metadata.current_version_number or 0, source=found.blob.source or "")


def status(client: Client, version: Version) -> Status:
    """How a version is; for a moment after a push it is not found."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

    answer = _of_version(client, version, ApiGetKernelSessionStatusRequest, "get_kernel_session_status")
    return Status(name=answer.status.name, failure=words(answer.failure_message))


def output(client: Client, version: Version) -> Iterator[OutputFile]:
    """The files that a version left, page after page, each page asked for when it is wanted."""
    token = ""
    while True:
        page = _output_page(client, version, token)
        for file in page.files or ():
            yield OutputFile(name=file.file_name, url=file.url)
        token = page.next_page_token or ""
        if not token:
            return


def log(client: Client, version: Version) -> str:
    """What a version wrote to its log, as Kaggle keeps it: JSON, or plain text."""
    return _output_page(client, version, "").log or ""


def _output_page(client: Client, version: Version, token: str) -> Any:
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    def page() -> Any:
        request = ApiListKernelSessionOutputRequest()
        request.page_size, request.page_token = _PAGE, token
        return request

    return _of_version(client, version, page, "list_kernel_session_output")


def _of_version(client: Client, version: Version, make: Callable[[], Any], method: str) -> Any:
    """Asks about this very version; of the kernel, where Kaggle does not take the number and this is its newest."""

    def ask(label: str | None) -> Any:
        request = make()
        request.user_name, request.kernel_slug = version.owner, version.slug
        if label is not None:
            request.version_label = label
        subject = about(version.owner, version.slug)
        return client.rpc(subject, lambda kaggle: getattr(kaggle.kernels.kernels_api_client, method)(request))

    try:
        return ask(str(version.number))
    except KaggleError as refused:
        if refused.status not in (400, 404):
            raise
        latest = newest(client, version.owner, version.slug)
        if latest is None or latest.number < version.number:
            raise  # not there yet
        if latest.number > version.number:
            raise KitError(
                f"Kaggle says nothing of version {version.number} of {version.kernel}, and its newest is "
                f"{latest.number} ({refused.problem})",
                f"look at {version.page}",
            ) from None
        return ask(None)


def open_output(client: Client, version: Version, name: str) -> Stream:
    """A file of the output, from a fresh address; raises where the version left none of that name."""
    file = next((file for file in output(client, version) if file.name == name), None)
    if file is None:
        raise KitError(f"{version}: no {name} among what it left", f"look at {version.page}")
    url = file.url

    def attempt() -> Stream:
        session = client.storage()

        def ask() -> requests.Response:
            response = session.get(url, stream=True)
            response.raise_for_status()
            return response

        return Stream(session, ask)

    return client.call(about(version.owner, version.slug), attempt)
