"""Submissions on Kaggle: what a competition allows, sending a file or a kernel's version, and what became of it.

One call each, which raises `KaggleError` where it is refused or not answered. Whether something was sent before is
decided in `kit.submission.send`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from kit.competition import Competition
from kit.core.progress import Progress, no_progress
from kit.kaggle.client import Client, of_competition
from kit.kaggle.failures import KaggleError, words
from kit.kaggle.versions import Version

_PAGE = 100  # submissions of a listing


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What Kaggle says of a competition and this account."""

    entered: bool  # the account has accepted the rules
    kernels_only: bool
    closed: bool  # it takes no submissions at all
    deadline: datetime | None  # UTC


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many submissions this account has left."""

    today: int  # sent since midnight UTC
    total: int
    left: int  # that may be sent now
    for_good: bool  # the limit is one for the whole competition, not for a day

    @property
    def reached(self) -> bool:
        """Whether none may be sent now. All zeros mean that the account has no team yet, and say nothing."""
        return self.left == 0 and self.total > 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A submission as Kaggle lists it."""

    ref: int
    message: str
    status: str  # PENDING, COMPLETE or ERROR
    public: float | None
    private: float | None
    error: str  # in Kaggle's words


def terms(client: Client, competition: Competition) -> Terms:
    """What the competition asks of this account."""
    from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

    request = ApiGetCompetitionRequest()
    request.competition_name = competition.slug
    found = client.rpc(
        of_competition(competition), lambda kaggle: kaggle.competitions.competition_api_client.get_competition(request)
    )
    deadline = found.deadline
    if deadline is not None and deadline.tzinfo is None:
        deadline = deadline.replace(tzinfo=UTC)
    return Terms(
        entered=bool(found.user_has_entered),
        kernels_only=bool(found.is_kernels_submissions_only),
        closed=bool(found.submissions_disabled),
        deadline=deadline,
    )


def limits(client: Client, competition: Competition) -> Limits:
    """How many submissions this account has left."""
    ask = partial(client.api.competition_get_submission_limits, competition.slug)
    found = client.call(of_competition(competition), ask)
    left, for_good = found.num_allowed_now, bool(found.limited_by_total)
    return Limits(today=found.num_today, total=found.num_total, left=left, for_good=for_good)


def entries(client: Client, competition: Competition) -> Iterator[Entry]:
    """This account's submissions, the newest first, page after page, each page asked for when it is wanted."""
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest
    from kagglesdk.competitions.types.competition_enums import SubmissionSortBy

    request = ApiListSubmissionsRequest()
    request.competition_name = competition.slug
    request.sort_by = SubmissionSortBy.SUBMISSION_SORT_BY_DATE
    token = ""
    while True:
        request.page_size, request.page_token = _PAGE, token
        page = client.rpc(
            of_competition(competition),
            lambda kaggle: kaggle.competitions.competition_api_client.list_submissions(request),
        )
        for entry in page.submissions or ():
            yield Entry(
                ref=entry.ref,
                message=entry.description or "",
                status=entry.status.name,
                public=_score(entry.public_score),
                private=_score(entry.private_score),
                error=words(entry.error_description),
            )
        token = page.next_page_token or ""
        if not token:
            return


def submit_version(
    client: Client, competition: Competition, version: Version, *, file_name: str, message: str
) -> int | None:
    """Submits a file of the output of a kernel's version, which has to have come to its end.

    Returns:
        Kaggle's number of the submission; None where it gives none, and the listing has to tell.

    Raises:
        KaggleError: refused, also in words under a 200; or not answered, then `outcome_unknown`.
    """
    answer = client.call(
        of_competition(competition),
        lambda: client.api.competition_submit_code(
            file_name, message, competition.slug, version.kernel, version.number, quiet=True
        ),
        once=True,
    )
    return _taken(answer, competition)


def submit_file(
    client: Client, competition: Competition, path: Path, *, message: str, progress: Progress = no_progress
) -> int | None:
    """Uploads a file (`progress` counts bytes) and submits it; returns and raises as `submit_version` does.

    The upload makes no submission yet and may be done again; the last of the three calls does, and is made once.
    """
    from kagglesdk.competitions.types.competition_api_service import (
        ApiCreateSubmissionRequest,
        ApiStartSubmissionUploadRequest,
    )

    about = of_competition(competition)
    stat = path.stat()
    start = ApiStartSubmissionUploadRequest()
    start.competition_name, start.file_name = competition.slug, path.name
    start.content_length, start.last_modified_epoch_seconds = stat.st_size, int(stat.st_mtime)

    def upload() -> str:
        """One try, with an address of its own: one that failed half way may hold half a file."""
        with client.api.build_kaggle_client() as kaggle:
            place = kaggle.competitions.competition_api_client.start_submission_upload(start)
        with client.storage() as session, path.open("rb") as file:
            headers = {"Content-Type": "application/octet-stream"}
            body = _Counted(file, stat.st_size, progress)
            session.put(place.create_url, data=body, headers=headers).raise_for_status()
        return str(place.token)

    try:
        token = client.call(about, upload)
    except KaggleError as error:
        # Nothing has been submitted, whatever became of the upload.
        problem = f"{path.name} was not uploaded: {error.problem}"
        raise KaggleError(problem, error.remedy, status=error.status, transient=error.transient) from None
    request = ApiCreateSubmissionRequest()
    request.competition_name, request.submission_description = competition.slug, message
    request.blob_file_tokens = token
    answer = client.rpc(
        about, lambda kaggle: kaggle.competitions.competition_api_client.create_submission(request), once=True
    )
    return _taken(answer, competition)


class _Counted:
    """A file's bytes on their way to the server; `requests` sends what has a length and can be read in one body."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress(self._file.tell(), self._size)
        return data


def _taken(answer: Any, competition: Competition) -> int | None:
    """Kaggle's number of a submission that it says to have taken; raises where its words are none of success."""
    said = words(answer.message)
    if answer.ref or "success" in said.lower():
        return answer.ref or None
    raise KaggleError(
        f"Kaggle did not take the submission ({said or 'no reason given'})",
        f"see https://www.kaggle.com/competitions/{competition.slug}/submissions",
        outcome_unknown=not said,
    )


def _score(text: str | None) -> float | None:
    try:
        score = float(text or "")
    except ValueError:
        return None  # none yet, or not shown
    return score if math.isfinite(score) else None
