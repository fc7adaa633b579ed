"""What went wrong between here and Kaggle, in one line: the server's own reason, and the next step.

Kaggle's reasons are in the body of its answers, where `str(error)` does not show them; addresses of downloads carry
a signature. So no exception's text is passed on as it is, and what is passed on holds no secret: see `explain`.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from kit.core.errors import KitError
from kit.core.streams import safe
from kit.kaggle.credentials import TOKEN_PAGE, Credentials

_LONGEST_REASON = 300  # characters; an error page of a proxy is longer than anyone reads
_LONGEST_BODY = 20_000  # characters of an answer that are searched for a reason
_LONGEST_JSON = 1_000_000  # bytes


class KaggleError(KitError):
    """What Kaggle, or the way to it, did not do.

    Args:
        status: of the HTTP answer; None where none came.
        transient: the same call may succeed later: a busy or failing server, no network.
        outcome_unknown: the server may have done what was asked all the same, as its answer got lost.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        status: int | None = None,
        transient: bool = False,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(problem, remedy)
        self.status, self.transient, self.outcome_unknown = status, transient, outcome_unknown


@dataclass(frozen=True)
class Subject:
    """What a call is about, so that a refusal can name it and its page."""

    name: str  # slug of a competition, `owner/name` of a dataset or a kernel
    page: str  # its address
    rules: str = ""  # where an account accepts its rules; empty where there are none


def explain(error: BaseException, about: Subject, credentials: Credentials) -> KaggleError:
    """The error for the user, once there is no more to try; it holds no secret."""
    told, header = _told(error, about, credentials), _authorization(error)
    # An answer that cannot be read is an answer all the same: the work behind it may be done.
    unreadable = isinstance(error, json.JSONDecodeError | RecursionError)
    return KaggleError(
        credentials.redact(told.problem, header=header),
        credentials.redact(told.remedy, header=header),
        status=_status(error),
        transient=is_transient(error),
        outcome_unknown=(is_transient(error) and not is_busy(error)) or unreadable,
    )


def brief(error: BaseException, credentials: Credentials | None = None) -> str:
    """A failure in a few words, for a message that goes on ("…; trying again in 2 s"); it holds no secret."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"Kaggle answers {error.response.status_code} ({_reason(error.response, credentials)})"
    if isinstance(error, requests.Timeout):
        return f"{_host(error)} does not answer"
    if isinstance(error, requests.RequestException):
        return f"{_host(error)} cannot be reached"
    return f"the kaggle client fails ({type(error).__name__})"


def words(text: Any, credentials: Credentials | None = None, *, header: str = "") -> str:
    """What Kaggle says in an answer: one line of bounded length, no secret, nothing that commands a terminal."""
    text = str(text or "")[:_LONGEST_BODY]  # cut first: no pattern is kept busy by a page of any length
    return safe(" ".join((credentials or _NOBODY).redact(text, header=header).split())[:_LONGEST_REASON])


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment: a busy or failing server, a connection that was cut."""
    if status := _status(error):
        return status == 429 or status >= 500
    if isinstance(error, requests.exceptions.SSLError):
        return False
    return isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError))


def is_busy(error: BaseException) -> bool:
    """Whether Kaggle did nothing because it has had too many requests: what was asked may be asked again."""
    return _status(error) == 429


def retry_after(response: requests.Response) -> float | None:
    """The seconds that the server asks to wait (RFC 9110, 10.2.3: a number or a date); None where it does not say."""
    value = response.headers.get("Retry-After", "")[:100]
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _status(error: BaseException) -> int | None:
    """Of the answer that an error is about, if one came."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    return None if response is None else response.status_code


def _told(error: BaseException, about: Subject, credentials: Credentials) -> KitError:
    if isinstance(error, SystemExit):
        return _not_accepted("", credentials)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _explain_status(error.response, about, credentials)
    if isinstance(error, requests.exceptions.SSLError):
        return KitError(
            f"{_host(error)} shows no valid certificate",
            "a proxy may be in between: set REQUESTS_CA_BUNDLE to its certificate; and check this machine's clock",
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return KitError(f"no way to {_host(error)}: the proxy does not answer", "check http_proxy and https_proxy")
    if isinstance(error, requests.Timeout):
        return KitError(f"{_host(error)} does not answer in time", "try again later; check the network and its proxy")
    if isinstance(error, json.JSONDecodeError):
        return KitError(
            "Kaggle's answer is not what the kaggle client expects", "a log-in page of the network may be in between"
        )
    if isinstance(error, requests.RequestException):
        return KitError(f"{_host(error)} cannot be reached", "check the network (inside a kernel: internet is off)")
    # Others may quote what they were given.
    said = f": {words(error, credentials)}" if isinstance(error, ValueError) else ""
    return KitError(f"the kaggle client fails over {about.name} ({type(error).__name__}{said})")


def _explain_status(response: requests.Response, about: Subject, credentials: Credentials) -> KitError:
    status, said = response.status_code, _reason(response, credentials)
    if status == 429:
        wait = retry_after(response)
        later = f"in {wait / 60:.0f} min" if wait and wait > 90 else "in some minutes"
        return KitError(f"Kaggle has had too many requests from this account ({said})", f"try again {later}")
    if status >= 500:
        return KitError(f"Kaggle answers {status} again and again ({said})", "the fault is on its side: try later")
    # Every call is a POST; its redirect to the file is followed by a GET, and an upload is a PUT.
    if response.request.method in ("GET", "PUT"):
        return KitError(f"Kaggle's storage answers {status} for {about.name} ({said})", "run the command again")
    if status == 401:
        return _not_accepted(f" ({said})", credentials)
    if status == 403 and about.rules:
        return KitError(
            f"Kaggle refuses {about.name} ({said})",
            f"accept the rules at {about.rules} with the account of {credentials.place}, then run this again",
        )
    if status == 403:
        return KitError(f"Kaggle refuses {about.name} ({said})", f"see whether your account may open {about.page}")
    if status == 404:
        return KitError(f"Kaggle does not find {about.name} ({said})", f"check the name against {about.page}")
    return KitError(f"Kaggle answers {status} for {about.name} ({said})", f"see {about.page}")


def _not_accepted(said: str, credentials: Credentials) -> KitError:
    place = credentials.place
    problem = f"Kaggle does not accept the {credentials.kind} from {place}{said}"
    if credentials.hides_key:
        away = "unset" if place.startswith("KAGGLE_") else "remove"
        return KitError(
            f"{problem}; your key was not tried, because the client prefers a token",
            f"{away} {place} to use the key, or make a new token at {TOKEN_PAGE}",
        )
    if credentials.kind == "sign-in":
        return KitError(problem, "run `kaggle auth login` again")
    return KitError(problem, f"make a new token at {TOKEN_PAGE}")


def _reason(response: requests.Response, credentials: Credentials | None) -> str:
    """Kaggle's own words for a refusal: of JSON in either of its two forms, or of a page."""
    try:
        content = response.content
    except requests.RequestException:
        content = b""
    try:
        body = json.loads(content) if len(content) <= _LONGEST_JSON else None
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        error = body.get("error")
        said = body.get("message") or (error.get("message") if isinstance(error, dict) else error)
    else:
        text = content[:_LONGEST_BODY].decode(errors="replace")
        message = re.search(r"<(?:Message|title)>([^<]*)</", text, re.IGNORECASE)
        said = message[1] if message else re.sub(r"<[^<>]*>", " ", text)
    header = str(response.request.headers.get("Authorization", ""))
    return words(said, credentials, header=header) or words(response.reason) or "no reason given"


def _host(error: requests.RequestException) -> str:
    url = str(error.request.url) if error.request is not None else ""
    return urlsplit(url).hostname or "Kaggle"


def _authorization(error: BaseException) -> str:
    request = getattr(error, "request", None) or getattr(getattr(error, "response", None), "request", None)
    return str(request.headers.get("Authorization", "")) if request is not None else ""


_NOBODY = Credentials(kind="key", place="")
