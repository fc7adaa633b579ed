"""Each failure is told with the server's own reason and the next step; what passes is waited out, within bounds."""

from __future__ import annotations

import base64
import email.utils
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from kaggle_server import KEY, RULES, SIGNATURE, TOKEN, USER, Answer, Fault, Hang, KaggleServer
from kaggle_user import listed

from kit.competition import COMPETITIONS, DEFAULT, get
from kit.core.errors import KitError
from kit.kaggle.client import RETRY_POLICY, RetryPolicy
from kit.kaggle.credentials import Credentials
from kit.kaggle.download import fetch
from kit.kaggle.failures import Subject, explain

OTHER = next(slug for slug in COMPETITIONS if slug != DEFAULT)
NOBODY = Credentials(kind="key", place="KAGGLE_USERNAME and KAGGLE_KEY")


def test_the_unmodified_client_gets_on_with_the_server(server: KaggleServer, home: Path) -> None:
    """The server is a fair stand-in: Kaggle's own command line lists and downloads from it."""
    kaggle = [sys.executable, "-m", "kaggle", "competitions"]
    listed = subprocess.run([*kaggle, "files", DEFAULT], capture_output=True, text=True, check=True)
    assert "all-dogs.zip" in listed.stdout
    subprocess.run([*kaggle, "download", DEFAULT, "-p", home], capture_output=True, check=True)
    assert (home / f"{DEFAULT}.zip").read_bytes() == server.bundle()


@pytest.mark.parametrize(
    ("slug", "call", "shape"), [(DEFAULT, "ListDataFiles", "error"), (OTHER, "DownloadDataFiles", "message")]
)
def test_rules_not_accepted(
    slug: str, call: str, shape: str, server: KaggleServer, policy: RetryPolicy, home: Path
) -> None:
    server.files = {"elsewhere/1.jpg": b"x"}
    server.page = 1
    server.fail(call, Answer(403, RULES, shape=shape))
    with pytest.raises(KitError) as caught:
        fetch("kaggle", get(slug), home / "out", policy=policy)
    assert RULES in caught.value.problem
    assert f"accept the rules at https://www.kaggle.com/competitions/{slug}/rules" in caught.value.remedy
    assert "KAGGLE_USERNAME and KAGGLE_KEY" in caught.value.remedy
    assert server.calls.count(call) == 1


@pytest.mark.parametrize(
    ("answer", "problem", "remedy"),
    [
        (Answer(401, "Unauthenticated"), "the key from KAGGLE_USERNAME and KAGGLE_KEY (Unauthenticated)", "new token"),
        (Answer(404, "Not found"), f"does not find {DEFAULT} (Not found)", f"competitions/{DEFAULT}"),
        (Answer(400, "Bad slug", shape="message"), f"answers 400 for {DEFAULT} (Bad slug)", f"competitions/{DEFAULT}"),
        (Answer(403, "Blocked by policy", shape="html"), "(Blocked by policy)", "rules"),
        (Answer(403, ""), "(Forbidden)", "rules"),
        (Answer(200, "Welcome to the hotel", shape="html"), "not what the kaggle client expects", "log-in page"),
        (
            Answer(429, "Slow down", {"Retry-After": "3600"}),
            "too many requests from this account (Slow down)",
            "60 min",
        ),
    ],
)
def test_a_refusal_is_told_at_once(
    answer: Answer, problem: str, remedy: str, server: KaggleServer, policy: RetryPolicy, waits: list[float]
) -> None:
    server.fail_always("ListDataFiles", answer)
    with pytest.raises(KitError) as caught:
        listed(policy)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert server.calls == ["ListDataFiles"]
    assert waits == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_server_is_tried_again(
    status: int, server: KaggleServer, policy: RetryPolicy, waits: list[float], said: list[str]
) -> None:
    server.fail("ListDataFiles", Answer(status, "Oops"), Answer(status, "Oops", shape="html"))
    assert len(listed(policy)) == 2
    assert waits == [1.0, 2.0]
    assert said == [f"Kaggle answers {status} (Oops); trying again in {wait} s" for wait in (1, 2)]


@pytest.mark.parametrize("status", [429, 500])
def test_the_tries_are_bounded(status: int, server: KaggleServer, policy: RetryPolicy, waits: list[float]) -> None:
    server.fail_always("ListDataFiles", Answer(status, "Oops"))
    with pytest.raises(KitError, match="Oops"):
        listed(policy)
    assert len(server.calls) == policy.tries == len(waits) + 1


def test_429_waits_as_told(server: KaggleServer, policy: RetryPolicy, waits: list[float]) -> None:
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    server.fail("ListDataFiles", *(Answer(429, "Slow", {"Retry-After": after}) for after in ("7", soon, "rubbish")))
    assert listed(policy)
    assert waits[0] == 7
    assert 90 < waits[1] <= 100
    assert waits[2] == policy.wait(3)


@pytest.mark.parametrize("call", ["ListDataFiles", "DownloadDataFile", "IntrospectToken"])
def test_a_server_that_hangs_is_left(
    call: str, server: KaggleServer, policy: RetryPolicy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    server.fail_always(call, Hang())
    with pytest.raises(KitError, match="localhost does not answer in time"):
        fetch("kaggle", get(DEFAULT), home / "out", policy=replace(policy, read=0.3, tries=2))
    assert server.calls.count(call) == 2


def test_importing_the_client_does_not_hang_on_a_token(
    server: KaggleServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`import kaggle` has the token examined, without a timeout; a fresh process shows that ours does not."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    server.fail_always("IntrospectToken", Hang())
    code = """
from kit.core.errors import KitError
from kit.kaggle.client import connect
from kit.kaggle.client import RetryPolicy
try:
    connect(policy=RetryPolicy(read=0.2, tries=1))
except KitError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert "does not answer in time" in done.stdout
    assert server.calls == ["IntrospectToken"]


def test_no_network(server: KaggleServer, policy: RetryPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port on which nobody listens
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(KitError) as caught:
            listed(policy)
    assert "no way to localhost: the proxy does not answer" in caught.value.problem
    assert "http_proxy" in caught.value.remedy


def _failure(url: str) -> BaseException:
    try:
        requests.get(url, timeout=5, proxies={"http": "", "https": ""})
    except requests.RequestException as error:
        return error
    raise AssertionError


def test_other_ways_of_having_no_network(server: KaggleServer) -> None:
    signed = f"?X-Goog-Signature={SIGNATURE}"
    about = Subject(DEFAULT, "https://www.kaggle.com", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = _failure(f"http://127.0.0.1:{taken.getsockname()[1]}/{signed}")
    unknown = _failure(f"http://no-such-host.invalid/{signed}")
    plain_instead_of_tls = _failure(f"https{server.url.removeprefix('http')}/{signed}")
    assert "127.0.0.1 cannot be reached" in str(explain(refused, about, NOBODY))
    assert "no-such-host.invalid cannot be reached" in str(explain(unknown, about, NOBODY))
    assert "127.0.0.1 shows no valid certificate" in str(explain(plain_instead_of_tls, about, NOBODY))
    for error in (refused, unknown, plain_instead_of_tls):
        assert SIGNATURE in str(error)  # which is why its text is not passed on
        assert SIGNATURE not in str(explain(error, about, NOBODY))


def test_the_client_prints_nothing_and_leaves_the_environment_as_it_was(
    server: KaggleServer, policy: RetryPolicy, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "kaggle-config").mkdir()
    (home / "kaggle-config" / "kaggle.json").write_text("{}")
    (home / "kaggle-config" / "kaggle.json").chmod(0o644)  # at which it would warn, on stdout
    before = dict(os.environ)
    listed(policy)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


SECRETS = [KEY, TOKEN, SIGNATURE, "stale-token"]
EVERYTHING_GOES_WRONG = f"""
import os, traceback
from pathlib import Path
from kit.competition import DEFAULT, get
from kit.core.errors import KitError
from kit.kaggle.download import fetch
from kit.kaggle.client import RetryPolicy
policy = RetryPolicy(read=0.3, tries=2, sleep=lambda seconds: None)
for number, token in enumerate([None, "stale-token", "{TOKEN}"] * 4):
    os.environ.pop("KAGGLE_API_TOKEN", None)
    if token:
        os.environ["KAGGLE_API_TOKEN"] = token
    try:
        print(fetch("kaggle", get(DEFAULT), Path("out") / str(number), policy=policy))
    except KitError:
        traceback.print_exc()
"""


# A client on its way to an address where nobody listens; such errors quote the address.
ASTRAY = Answer(302, headers={"Location": f"https://127.0.0.1:9/?X-Goog-Signature={SIGNATURE}"})


@pytest.mark.parametrize(
    "fault",
    [Answer(403, "you are {authorization}"), Answer(500, "you are {authorization}", shape="html"), Hang(), ASTRAY],
    ids=["403", "500", "hang", "astray"],
)
@pytest.mark.abuse("C13")
def test_no_secret_is_printed_logged_or_written(fault: Fault, server: KaggleServer, home: Path) -> None:
    for call in ("ListDataFiles", "DownloadDataFile", "storage"):
        server.fail(call, fault, fault)
    environment = server.environment(home) | {"VERBOSE": "1"}  # the client takes this as a wish to log everything
    code = [sys.executable, "-c", EVERYTHING_GOES_WRONG]
    done = subprocess.run(code, capture_output=True, text=True, check=True, cwd=home, env=environment)
    assert "all-dogs.zip" in done.stdout  # it did get somewhere
    assert "does not accept the token" in done.stderr
    written = "".join(path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr + written


def test_the_waits_by_default_are_bounded() -> None:
    policy = RETRY_POLICY
    assert sum(map(policy.wait, range(1, policy.tries))) + policy.tries * policy.read < 5 * 60
    assert (policy.sleep, policy.now) == (time.sleep, time.monotonic)


@pytest.mark.parametrize(
    ("token", "file"), [("KGAT_0123456789 abcdef_secret", False), ("\tKGAT_0123456789\r\nabcdef_secret", True)]
)
@pytest.mark.abuse("C13")
def test_a_token_with_a_line_break_is_named_and_not_shown(
    token: str, file: bool, server: KaggleServer, policy: RetryPolicy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file:
        (home / ".kaggle").mkdir()
        (home / ".kaggle" / "access_token").write_text(token)
    else:
        monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(KitError, match="has a space or a line break in it") as caught:
        listed(policy)
    assert ("access_token" if file else "KAGGLE_API_TOKEN") in caught.value.problem
    assert "0123456789" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("secret", ["0123456789\nabcdef", 'a"quoted\\secret', "with ümlaut/and+more", KEY])
@pytest.mark.abuse("C13")
def test_the_filter_knows_a_secret_in_every_form(secret: str) -> None:
    """As it is, escaped by `repr` and by JSON, in an address, in a header, cut at its line break."""
    credentials = Credentials(kind="key", place="x", secrets=(secret,))
    header = "Basic " + base64.b64encode(f"{USER}:{secret}".encode()).decode()
    error = ValueError(
        f"Invalid header value {secret.encode()!r} {secret!r} {json.dumps(secret)} {quote(secret)} {header}"
    )
    told = explain(error, Subject("x", ""), credentials).problem
    for piece in (*secret.split(), repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret)):
        assert piece not in told
    assert header not in credentials.redact(header, header=header)


@pytest.mark.parametrize("text", ["<" * 280_000, "<title>" * 40_000, " " * 280_000, '{"a":' * 50_000])
@pytest.mark.abuse("D17")
def test_an_error_text_of_any_length_is_cut_first(text: str, server: KaggleServer, policy: RetryPolicy) -> None:
    server.fail_always("ListDataFiles", Answer(400, text, shape="html"))
    began = time.process_time()
    with pytest.raises(KitError) as caught:
        listed(policy)
    assert time.process_time() - began < 5  # it was 70 s
    assert len(str(caught.value)) < 1000


@pytest.mark.abuse("D14")
def test_what_kaggle_says_cannot_command_a_terminal(server: KaggleServer, policy: RetryPolicy) -> None:
    server.fail_always("ListDataFiles", Answer(400, "\x1b]0;owned\x07 \x1b[31mred"))
    with pytest.raises(KitError) as caught:
        listed(policy)
    assert "\x1b" not in str(caught.value)
    assert "red" in str(caught.value)
