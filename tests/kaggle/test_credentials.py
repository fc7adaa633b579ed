"""Which credentials count is measured on the wire: the real client sends them to the server."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kaggle_server import TOKEN, USER, Answer, KaggleServer
from kaggle_user import listed

from kit.core.errors import KitError
from kit.kaggle.client import RetryPolicy, connect, kaggle_api
from kit.kaggle.credentials import PLACES, find

Give = Callable[[Path, pytest.MonkeyPatch], None]


def _basic(user: str, key: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _variable_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token-a")


def _variable_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(home / "token-file", "token-b\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "token-file"))


def _variable_path_to_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(home / "empty-file", "\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "empty-file"))


def _token_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(home / ".kaggle" / "access_token", "token-c\n")


def _token_text_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(home / ".kaggle" / "access_token.txt", "token-d\n")


def _variable_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "user-e")
    monkeypatch.setenv("KAGGLE_KEY", "key-e")


def _key_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(home / "kaggle-config" / "kaggle.json", json.dumps({"username": "user-f", "key": "key-f"}))


def _sign_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"refresh_token": "refresh", "access_token": "token-g", "access_token_expiration": "2999-01-01T00:00:00Z"}
    _write(home / ".kaggle" / "credentials.json", json.dumps(values | {"username": USER}))


# What is set up → the way by its name here, and what the client sends for it.
VARIABLES: dict[str, Give | None] = {"no": None, "token": _variable_token, "path": _variable_path}
VARIABLES["empty path"] = _variable_path_to_nothing
REST: list[Give] = [_token_file, _token_text_file, _variable_key, _key_file, _sign_in]
SENT = {
    "Bearer token-a": "KAGGLE_API_TOKEN",
    "Bearer token-b": "KAGGLE_API_TOKEN",
    "Bearer token-c": "~/.kaggle/access_token",
    "Bearer token-d": "~/.kaggle/access_token",
    _basic("user-e", "key-e"): "KAGGLE_USERNAME and KAGGLE_KEY",
    _basic("user-f", "key-f"): "~/kaggle-config/kaggle.json",
    "Bearer token-g": "~/.kaggle/credentials.json",
}


@pytest.fixture
def nobody(server: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> KaggleServer:
    """The server, with no credentials at hand that it would take."""
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    return server


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("given", [*itertools.product([False, True], repeat=len(REST))], ids=str)
def test_the_way_that_look_names_is_the_one_that_the_client_sends(
    variable: str,
    given: tuple[bool, ...],
    home: Path,
    nobody: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: RetryPolicy,
) -> None:
    nobody.accepted = set(SENT)
    for give in (VARIABLES[variable], *itertools.compress(REST, given)):
        if give:
            give(home, monkeypatch)
    if variable in ("no", "empty path") and not any(given[2 if variable == "empty path" else 0 :]):
        with pytest.raises(SystemExit):
            kaggle_api(policy).authenticate()
        with pytest.raises(KitError, match="no Kaggle credentials"):
            connect(policy=policy)
        return
    listed(policy)
    sent = next(request for request in nobody.seen if request.name == "ListDataFiles").headers["Authorization"]
    assert find(kaggle_api(policy)).place == SENT[sent]


def test_without_any_every_place_is_named_in_one_line(home: Path, nobody: KaggleServer) -> None:
    code = """
import sys
from pathlib import Path
from kit.competition import DEFAULT, get
from kit.core.errors import KitError
from kit.kaggle.download import fetch
try:
    fetch("kaggle", get(DEFAULT), Path("data"))
except KitError as error:
    print(error, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout == ""
    assert all(place in done.stderr for place in PLACES)
    assert done.stderr.count("\n") == 1
    assert nobody.calls == []


@pytest.mark.parametrize(
    ("file", "text", "variables", "problem"),
    [
        ("kaggle-config/kaggle.json", "{", {}, "no Kaggle credentials"),
        ("kaggle-config/kaggle.json", "[3]", {}, "kaggle.json: not a JSON object"),
        ("kaggle-config/kaggle.json", '{"username": "x"}', {}, "no Kaggle credentials"),
        ("kaggle-config/kaggle.json", '{"username": "x", "key": "y"}', {"KAGGLE_KEY": ""}, "no Kaggle credentials"),
        (".kaggle/access_token", " \n", {}, "no Kaggle credentials"),
        (".kaggle/access_token", "\udcff", {}, "cannot read the token"),
        (".kaggle/credentials.json", "{}", {}, "no Kaggle credentials"),
        (".kaggle/credentials.json", "[]", {}, "no Kaggle credentials"),
    ],
)
def test_what_gives_nothing_is_said(
    file: str,
    text: str,
    variables: dict[str, str],
    problem: str,
    home: Path,
    nobody: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: RetryPolicy,
) -> None:
    (home / file).parent.mkdir(parents=True)
    (home / file).write_bytes(text.encode(errors="surrogateescape"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KitError, match=problem):
        connect(policy=policy)


@pytest.mark.parametrize("given", [*itertools.product([False, True], repeat=3)], ids=str)
def test_kaggle_json_is_where_the_client_looks(
    given: tuple[bool, ...], home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, old, xdg = given
    monkeypatch.delenv("KAGGLE_CONFIG_DIR")
    if own:
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "own"))
    if old:
        (home / ".kaggle").mkdir()
    if xdg:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    expected = kaggle_api().config
    code = "import kaggle; print(kaggle.api.config)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == expected


def test_a_token_of_any_length_is_no_path_and_is_not_shown(
    home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy
) -> None:
    token = "a" * 5_000  # the client asks the system for a file of this name, which fails
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(KitError) as caught:
        connect(policy=policy)
    assert "aaa" not in str(caught.value)


@pytest.mark.parametrize("introspection", [None, Answer(401, "Unauthenticated"), Answer(400, "no such token")])
@pytest.mark.parametrize("give", [_variable_token, _token_file])
@pytest.mark.parametrize("key", [_variable_key, _key_file, None])
def test_a_stale_token_that_hides_a_valid_key(
    introspection: Answer | None,
    give: Give,
    key: Give | None,
    home: Path,
    nobody: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: RetryPolicy,
) -> None:
    give(home, monkeypatch)
    nobody.accepted = {f"Bearer {TOKEN}"}
    if key:
        key(home, monkeypatch)
        nobody.accepted |= {_basic("user-e", "key-e"), _basic("user-f", "key-f")}
    if introspection:
        nobody.fail_always("IntrospectToken", introspection)
    with pytest.raises(KitError) as caught:
        listed(policy)
    token = find(kaggle_api(policy)).place
    assert f"does not accept the token from {token}" in caught.value.problem
    if key is None:
        assert "make a new token" in caught.value.remedy
    else:
        assert "your key was not tried" in caught.value.problem
        assert f"{token} to use the key" in caught.value.remedy


def test_a_sign_in_that_has_ended(
    home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy
) -> None:
    values = {"refresh_token": "refresh-token-0", "username": USER}
    _write(home / ".kaggle" / "credentials.json", json.dumps(values))
    nobody.fail_always("GenerateAccessToken", Answer(401, "Unauthenticated"))
    with pytest.raises(KitError, match="kaggle auth login") as caught:
        connect(policy=policy)
    assert "~/.kaggle/credentials.json" in caught.value.problem
