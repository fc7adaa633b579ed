"""A server of the tests' own that speaks the part of Kaggle's protocol that the kit uses, and fails when told to.

    with kaggle_server(files={"all-dogs.zip": dogs, "Annotation.zip": boxes}) as server:
        subprocess.run(["kit", "data"], env=server.environment(home))

The unmodified client reaches it as a proxy: with KAGGLE_API_ENVIRONMENT=LOCALHOST it calls http://localhost, and
`http_proxy` leads here, whatever the host.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import re
import sys
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from kaggle_answers import Answer as Answer
from kaggle_desk import USER as USER
from kaggle_desk import Kernels, Submissions

KEY, TOKEN = "key-0123456789abcdef", "KGAT_0123456789abcdef"
SIGNATURE = "5ecret5ignature"  # in the address of each download, and worth as much as a password while it lasts
RULES = "You must accept this competition's rules before you'll be able to download files."


@dataclass(frozen=True)
class Cut:
    """Announces the whole body, sends this many bytes of it, and hangs up."""

    after: int


@dataclass(frozen=True)
class Slow:
    """Sends the body in pieces with pauses."""

    piece: int
    pause: float


@dataclass(frozen=True)
class Hang:
    """Takes the request and never answers."""


@dataclass(frozen=True)
class Endless:
    """Sends the body without saying how long it is, and hangs up at its end (or after some bytes)."""

    after: int | None = None


@dataclass(frozen=True)
class Helping:
    """Gives no more than this many bytes of the rest that is asked for, and says so, as HTTP allows."""

    most: int


@dataclass(frozen=True)
class Lost:
    """Does what it is asked, and then this instead of the answer that says so."""

    instead: Answer | Hang


Fault = Answer | Cut | Slow | Hang | Endless | Helping | Lost


@dataclass(frozen=True)
class SeenRequest:
    """A request that came: the method's name ("ListDataFiles", or "storage"), its headers, its JSON."""

    name: str
    headers: dict[str, str]
    json: dict[str, Any]


class KaggleServer(ThreadingHTTPServer):
    """See the module. Its attributes may be changed while it runs.

    Attributes:
        files: what a competition consists of; a name may have folders.
        datasets: `owner/name` → the zip.
        page: files in a page of a listing, whatever the client asks for.
        validators, ranges: whether storage sends ETags, and follows Range.
        compresses: whether storage sends gzip to those who take it.
        accepted: the Authorization headers that are let in.
        kernels, submissions: what is done with them, and what was.
        seen: every request, in order.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], datasets: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.datasets = files, datasets
        self.kernels = Kernels()
        self.submissions = Submissions(self.kernels)
        self.page = 20
        self.validators, self.ranges, self.compresses = True, True, False
        self.accepted = {f"Bearer {TOKEN}", f"Basic {base64.b64encode(f'{USER}:{KEY}'.encode()).decode()}"}
        self.seen: list[SeenRequest] = []
        self.errors: list[BaseException | None] = []
        self.closing = threading.Event()
        self._faults: dict[str, Iterator[Fault | None]] = defaultdict(lambda: iter(()))
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def calls(self) -> list[str]:
        """The names of the requests so far."""
        return [request.name for request in self.seen]

    def ranges_asked(self) -> list[str | None]:
        """The Range header of each request to storage."""
        return [request.headers.get("Range") for request in self.seen if request.name == "storage"]

    def fail(self, name: str, *faults: Fault | None) -> None:
        """The next requests of this name meet these faults, one each (None: none); those after them none."""
        self._faults[name] = iter(faults)

    def fail_always(self, name: str, fault: Fault | None) -> None:
        self._faults[name] = itertools.repeat(fault)

    def next_fault(self, name: str) -> Fault | None:
        with self._lock:
            return next(self._faults[name], None)

    def environment(self, home: Path, *, base: Iterable[tuple[str, str]] | None = None) -> dict[str, str]:
        """The environment of a user with this home, who has a key in its variables and reaches only this server."""
        others = re.compile(r"KAGGLE_.*|(https?|all|no)_proxy|XDG_CONFIG_HOME|VERBOSE(_OUTPUT)?", re.IGNORECASE)
        kept = {name: value for name, value in (base or os.environ.items()) if not others.fullmatch(name)}
        return kept | {
            "HOME": str(home),
            "USERPROFILE": str(home),
            "KAGGLE_CONFIG_DIR": str(home / "kaggle-config"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "KAGGLE_USERNAME": USER,
            "KAGGLE_KEY": KEY,
        }

    def bundle(self) -> bytes:
        """All files of the competition in one zip, the zips among them as they are."""
        return make_zip(self.files)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # a client that hangs up is part of the game
            self.errors.append(error)

    def stored(self, path: str) -> bytes | None:
        """What storage has at a path: `file/NAME`, `bundle/SLUG.zip`, `dataset/OWNER/NAME`, `output/SLUG/N/NAME`."""
        kind, _, name = path.partition("/")
        if kind == "output":
            return self.kernels.stored(*name.split("/", 2))
        if kind == "bundle":
            return self.bundle()
        return (self.files if kind == "file" else self.datasets).get(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KaggleServer

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        name = path.rsplit("/", 1)[-1]
        body = json.loads(raw)
        self.server.seen.append(SeenRequest(name, dict(self.headers), body))
        fault = self.server.next_fault(name)
        if isinstance(fault, Lost):
            _DESK[name](self.server)(body)
            self._meet(fault.instead)
        elif fault is not None:
            self._meet(fault)
        elif self.headers.get("Authorization") not in self.server.accepted:
            self._answer(Answer(401, "Unauthenticated"))
        elif name in _METHODS:
            _METHODS[name](self, body)
        elif name in _DESK:
            self._reply(_DESK[name](self.server)(body))
        else:
            self._answer(Answer(404, f"no method {name}"))

    def do_PUT(self) -> None:
        self.server.seen.append(SeenRequest("upload", dict(self.headers), {}))
        fault = self.server.next_fault("upload")
        if isinstance(fault, Cut):
            self.rfile.read(fault.after)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        token = address.path.rsplit("/", 1)[-1]
        if isinstance(fault, (Answer, Hang)):
            self._meet(fault)
        elif self.headers.get("Authorization") or SIGNATURE not in address.query:
            self._answer(Answer(403, "Access denied."))
        elif token not in self.server.submissions.uploads:
            self._answer(Answer(404, "No such upload"))
        else:
            self.server.submissions.uploads[token] = body
            self._finish_empty()

    def do_GET(self) -> None:
        if "/v1/kernels/logs/stream/" in self.path:
            self._log()
            return
        self.server.seen.append(SeenRequest("storage", dict(self.headers), {}))
        address = urlsplit(self.path)
        fault = self.server.next_fault("storage")
        content = self.server.stored(unquote(address.path).removeprefix("/storage/"))
        if isinstance(fault, (Answer, Hang)):
            self._meet(fault)
        elif self.headers.get("Authorization"):  # a signed address and a header too: cloud storage refuses that
            self._answer(Answer(400, "Only one auth mechanism allowed"))
        elif content is None or SIGNATURE not in address.query:
            self._answer(Answer(404, "No such object"))
        else:
            self._send_content(content, fault)

    def list_files(self, request: dict[str, Any]) -> None:
        names = list(self.server.files)
        start = int(request.get("pageToken") or 0)
        end = start + min(self.server.page, request.get("pageSize") or 20)
        self._json(
            {
                "files": [
                    {"name": name, "totalBytes": len(self.server.files[name]), "creationDate": "2019-06-20T00:00:00Z"}
                    for name in names[start:end]
                ],
                "nextPageToken": str(end) if end < len(names) else "",
            }
        )

    def download_file(self, request: dict[str, Any]) -> None:
        self._redirect(f"file/{request['fileName']}")

    def download_files(self, request: dict[str, Any]) -> None:
        self._redirect(f"bundle/{request['competitionName']}.zip")

    def download_dataset(self, request: dict[str, Any]) -> None:
        self._redirect(f"dataset/{request['ownerSlug']}/{request['datasetSlug']}")

    def introspect(self, request: dict[str, Any]) -> None:
        known = f"Bearer {request['token']}" in self.server.accepted
        self._json({"active": known, "username": USER if known else ""})

    def _log(self) -> None:
        """A running version's log as events, one that has ended as the list that is kept of them."""
        self.server.seen.append(SeenRequest("log", dict(self.headers), {}))
        fault = self.server.next_fault("log")
        version = self.server.kernels.newest(self.path.rsplit("/", 1)[-1])
        if fault is not None:
            self._meet(fault)
        elif version is None or self.headers.get("Authorization") not in self.server.accepted:
            self._answer(Answer(404, "Not found"))
        else:
            events = [{"stream_name": "stderr", "time": 0.5, "data": piece} for piece in version.run.log]
            live = version.state == "RUNNING"
            lines = [*(f"data: {json.dumps(event)}\n\n" for event in events), "data: END_OF_LOG\n\n"]
            self.send_response(200)
            kind = "text/event-stream" if live else "application/octet-stream"
            self._finish(kind, ("".join(lines) if live else json.dumps(events)).encode())

    def _reply(self, result: dict[str, Any] | Answer) -> None:
        if isinstance(result, Answer):
            self._answer(result)
        else:
            self._json(_signed(result))

    def _finish_empty(self) -> None:
        self.send_response(200)
        self._finish("text/plain", b"")

    def _redirect(self, path: str) -> None:
        if self.server.stored(path) is None:
            self._answer(Answer(404, f"Not found: {path}"))
            return
        self.send_response(302)
        self.send_header("Location", f"http://storage.example/storage/{quote(path)}?X-Goog-Signature={SIGNATURE}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_content(self, content: bytes, fault: Fault | None) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        offset = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.server.ranges and self.headers.get("If-Range") in (tag, None):
            offset = int(asked[1])
        body = content[offset:]
        if offset and isinstance(fault, Helping):
            body = body[: fault.most]
        self.send_response(206 if offset else 200)
        if offset:
            self.send_header("Content-Range", f"bytes {offset}-{offset + len(body) - 1}/{len(content)}")
        if self.server.compresses and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
            body = gzip.compress(body)
        self.send_header("Content-Type", "application/zip")
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if self.server.validators:
            self.send_header("ETag", tag)
        if isinstance(fault, Endless):
            self.close_connection = True
            self.send_header("Connection", "close")
            body = body[: fault.after]
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault | None) -> None:
        with contextlib.suppress(OSError):  # the client may hang up
            if isinstance(fault, Cut):
                self.wfile.write(body[: fault.after])
                self.close_connection = True
            elif isinstance(fault, Slow):
                for start in range(0, len(body), fault.piece):
                    self.wfile.write(body[start : start + fault.piece])
                    self.server.closing.wait(fault.pause)
            else:
                self.wfile.write(body)

    def _meet(self, fault: Fault) -> None:
        if isinstance(fault, Answer):
            self._answer(fault)
        else:
            if isinstance(fault, Hang):
                self.server.closing.wait()
            self.close_connection = True

    def _answer(self, answer: Answer) -> None:
        kind, body = answer.body()
        body = body.replace(b"{authorization}", self.headers.get("Authorization", "").encode())
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self._finish(kind, body)

    def _json(self, value: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("X-Kaggle-ApiVersion", "99.0.0")  # at which the client prints that it is outdated
        self._finish("application/json", json.dumps(value).encode())

    def _finish(self, kind: str, body: bytes) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


_METHODS = {
    "ListDataFiles": _Handler.list_files,
    "DownloadDataFile": _Handler.download_file,
    "DownloadDataFiles": _Handler.download_files,
    "DownloadDataset": _Handler.download_dataset,
    "IntrospectToken": _Handler.introspect,
}


_DESK: dict[str, Callable[[KaggleServer], Callable[[dict[str, Any]], dict[str, Any] | Answer]]] = {
    "SaveKernel": lambda server: server.kernels.save,
    "GetKernel": lambda server: server.kernels.get,
    "GetKernelSessionStatus": lambda server: server.kernels.status,
    "ListKernelSessionOutput": lambda server: server.kernels.output,
    "GetCompetition": lambda server: server.submissions.competition,
    "GetSubmissionLimits": lambda server: server.submissions.limits,
    "StartSubmissionUpload": lambda server: server.submissions.start_upload,
    "CreateSubmission": lambda server: server.submissions.create,
    "CreateCodeSubmission": lambda server: server.submissions.create_code,
    "ListSubmissions": lambda server: server.submissions.list,
}


def _signed(value: Any) -> Any:
    """The same with a signature in each address of storage."""
    if isinstance(value, dict):
        return {key: _signed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_signed(part) for part in value]
    if isinstance(value, str) and value.startswith("http://storage.example/"):
        return f"{value}?X-Goog-Signature={SIGNATURE}"
    return value


def noise(seed: int, size: int) -> bytes:
    """Bytes that no compression and no mistake would give."""
    return random.Random(seed).randbytes(size)


def make_zip(files: dict[str, bytes]) -> bytes:
    """A zip of these, stored as they are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


@contextlib.contextmanager
def kaggle_server(
    *, files: dict[str, bytes] | None = None, datasets: dict[str, bytes] | None = None
) -> Iterator[KaggleServer]:
    """A server for the time of the block.

    Args:
        files: a competition's files, whatever its slug: two zips, or pictures with their folders in their names.
        datasets: `owner/name` → the zip.
    """
    server = KaggleServer(files or {}, datasets or {})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert not server.errors, server.errors
