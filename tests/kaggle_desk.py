"""What the tests' Kaggle does with kernels and submissions: the state behind `kaggle_server`, without the HTTP.

A kernel is not run: the test says which states a version goes through, what it writes to its log and what it leaves.
Every look at a version or a submission is a step of its way.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kaggle_answers import Answer

USER = "dog-lover"
NOT_FOUND = "Not found"
FULL = "Maximum batch GPU session count of 2 reached."


@dataclass
class Run:
    """How a version will fare."""

    states: list[str] = field(default_factory=lambda: ["QUEUED", "RUNNING", "COMPLETE"])
    failure: str = ""
    log: list[str] = field(default_factory=lambda: ["it begins\n"])  # pieces of output
    leaves: Callable[[Version], dict[str, bytes]] = lambda version: {}


@dataclass
class Version:
    """A version that was pushed."""

    request: dict[str, Any]
    run: Run
    looks: int = 0

    @cached_property
    def files(self) -> dict[str, bytes]:
        """What it leaves, made when it is first asked for: it carries the push's receipt."""
        return self.run.leaves(self)

    @property
    def state(self) -> str:
        return self.run.states[min(self.looks, len(self.run.states)) - 1] if self.looks else self.run.states[0]


class Kernels:
    """Kernels of one account.

    Attributes:
        versions: slug → its versions, the first pushed first.
        next_run: how the next version will fare.
        full: so many pushes meet a full GPU.
        error: what the next push is answered with in-band.
        known: competitions that are known as a source.
        labels: whether a version's number is understood in questions about it.
        hidden: so many questions about a new version are answered with 404.
        page: files in a page of an output.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[Version]] = {}
        self.next_run = Run()
        self.full = 0
        self.error = ""
        self.known = {"generative-dog-images", "gan-getting-started"}
        self.labels = True
        self.hidden = 0
        self.page = 2

    def save(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        owner, slug = request["slug"].split("/")
        if owner != USER:
            return Answer(403, "Permission 'kernels.update' was denied")
        if request["newTitle"].lower().replace(" ", "-") != slug:
            return Answer(409, "The title is already in use")
        if self.full:
            self.full -= 1
            return {"ref": "", "url": "", "error": FULL}
        if self.error:
            error, self.error = self.error, ""
            return {"ref": "", "url": "", "error": error}
        versions = self.versions.setdefault(slug, [])
        versions.append(Version(request, self.next_run))
        unknown = [source for source in request["competitionDataSources"] if source not in self.known]
        return {
            "ref": f"/code/{owner}/{slug}",
            "url": f"https://www.kaggle.com/code/{owner}/{slug}",
            "versionNumber": len(versions),
            "kernelId": 7,
            "invalidCompetitionSources": unknown,
        }

    def get(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        versions = self.versions.get(request["kernelSlug"])
        if not versions or request["userName"] != USER:
            return Answer(403, "Permission 'kernels.get' was denied")
        source = versions[-1].request
        return {
            "metadata": {"ref": source["slug"], "title": source["newTitle"], "currentVersionNumber": len(versions)},
            "blob": {
                "source": source["text"],
                "language": source["language"],
                "kernelType": source["kernelType"],
                "slug": request["kernelSlug"],
            },
        }

    def status(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        version = self._asked(request)
        if isinstance(version, Answer):
            return version
        if self.hidden:
            self.hidden -= 1
            return Answer(404, NOT_FOUND)
        version.looks += 1
        return {"status": version.state, "failureMessage": version.run.failure if version.state == "ERROR" else ""}

    def output(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        version = self._asked(request)
        if isinstance(version, Answer):
            return version
        names = list(version.files)
        start = int(request.get("pageToken") or 0)
        end = start + self.page
        number = self.versions[request["kernelSlug"]].index(version)
        where = f"http://storage.example/storage/output/{request['kernelSlug']}/{number}"
        return {
            "files": [{"fileName": name, "url": f"{where}/{name}"} for name in names[start:end]],
            "log": "".join(version.run.log),
            "nextPageToken": str(end) if end < len(names) else "",
        }

    def stored(self, slug: str, number: str, name: str) -> bytes | None:
        return self.versions[slug][int(number)].files.get(name)

    def newest(self, slug: str) -> Version | None:
        return (self.versions.get(slug) or [None])[-1]

    def _asked(self, request: dict[str, Any]) -> Version | Answer:
        versions = self.versions.get(request["kernelSlug"])
        label = request.get("versionLabel")
        if not versions or request["userName"] != USER:
            return Answer(404, NOT_FOUND)
        if label is None:
            return versions[-1]
        if not self.labels:
            return Answer(400, "Invalid version label")
        return versions[int(label) - 1] if int(label) <= len(versions) else Answer(404, NOT_FOUND)


@dataclass
class Entry:
    """A submission that was taken."""

    ref: int
    request: dict[str, Any]
    looks: int = 0


class Submissions:
    """Submissions of one account to any competition.

    Attributes:
        taken: the first taken first.
        uploads: what was uploaded, by its token.
        kernels_only: whether files are refused.
        entered: whether the account has accepted the rules.
        deadline: of the competition.
        left: how many may be sent today.
        pending: so many looks at a submission find it pending.
        scores: public and private, as Kaggle writes them.
        error: why scoring fails, if it does.
        refusal: in-band words for the next submission, which is not taken.
    """

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self.taken: list[Entry] = []
        self.uploads: dict[str, bytes | None] = {}
        self.kernels_only = True
        self.entered = True
        self.deadline = "2019-08-12T23:59:00Z"
        self.left = 5
        self.pending = 2
        self.scores = ("61.25", "98.5")
        self.error = ""
        self.refusal = ""
        self.page = 2

    def competition(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        return {
            "ref": f"https://www.kaggle.com/competitions/{request['competitionName']}",
            "deadline": self.deadline,
            "userHasEntered": self.entered,
            "isKernelsSubmissionsOnly": self.kernels_only,
            "maxDailySubmissions": 5,
        }

    def limits(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        return {"numToday": 5 - self.left, "numTotal": 9, "numAllowedNow": self.left, "limitedByTotal": False}

    def start_upload(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        token = secrets.token_hex(4)
        self.uploads[token] = None
        return {"token": token, "createUrl": f"http://storage.example/upload/{token}"}

    def create(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        if self.kernels_only:
            return Answer(400, "Submission not allowed: This competition only accepts Submissions from Notebooks.")
        if not self.uploads.get(request["blobFileTokens"]):
            return Answer(400, "Unknown token")
        return self._take(request)

    def create_code(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        versions = self._kernels.versions.get(request["kernelSlug"], [])
        number = request.get("kernelVersion", 0)
        if not 0 < number <= len(versions) or versions[number - 1].state != "COMPLETE":
            return Answer(400, "Could not find provided notebook.")
        return self._take(request)

    def list(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        newest_first = self.taken[::-1]
        start = int(request.get("pageToken") or 0)
        end = start + self.page
        return {
            "submissions": [self._listed(entry) for entry in newest_first[start:end]],
            "nextPageToken": str(end) if end < len(newest_first) else "",
        }

    def _take(self, request: dict[str, Any]) -> dict[str, Any] | Answer:
        if self.refusal:
            words, self.refusal = self.refusal, ""
            return {"message": words, "ref": 0}
        if not self.entered:
            return Answer(403, "You cannot submit until you accept the competition rules")
        if not self.left:
            return Answer(400, "Your team has used its daily Submission allowance (5) today")
        self.left -= 1
        self.taken.append(Entry(40_000_000 + len(self.taken), request))
        return {"message": f"Successfully submitted to {request['competitionName']}", "ref": self.taken[-1].ref}

    def _listed(self, entry: Entry) -> dict[str, Any]:
        entry.looks += 1
        done = entry.looks > self.pending
        status = "PENDING" if not done else "ERROR" if self.error else "COMPLETE"
        public, private = self.scores if status == "COMPLETE" else ("", "")
        return {
            "ref": entry.ref,
            "date": "2026-01-01T00:00:00Z",
            "description": entry.request["submissionDescription"],
            "fileName": "images.zip",
            "status": status,
            "publicScore": public,
            "privateScore": private,
            "errorDescription": self.error if done else "",
        }
