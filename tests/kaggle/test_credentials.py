"""Which credentials count is measured on the wire: the real client sends them to the server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from kaggle_server import TOKEN, USER, Answer, KaggleServer
from kaggle_user import listed

from kit.core.errors import KitError
from kit.kaggle.client import RetryPolicy, connect, kaggle_api
from kit.kaggle.credentials import PLACES, find


def basic(user: str, key: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


SIGN_IN = {"refresh_token": "refresh-token-0", "username": USER}
ENDLESS = SIGN_IN | {"access_token": "token-g", "access_token_expiration": "2999-01-01T00:00:00Z"}

# Variables and files, in the client's order; the header that it sends for them; the place that the kit names.
WAYS: list[tuple[dict[str, str], str, str]] = [
    ({"KAGGLE_API_TOKEN": "token-a"}, "Bearer token-a", "KAGGLE_API_TOKEN"),
    ({".kaggle/access_token": "token-c\n"}, "Bearer token-c", "~/.kaggle/access_token"),
    ({".kaggle/access_token.txt": "token-d\n"}, "Bearer token-d", "~/.kaggle/access_token"),
    ({"KAGGLE_USERNAME": "user-e", "KAGGLE_KEY": "key-e"}, basic("user-e", "key-e"), "KAGGLE_USERNAME and KAGGLE_KEY"),
    (
        {"kaggle-config/kaggle.json": json.dumps({"username": "user-f", "key": "key-f"})},
        basic("user-f", "key-f"),
        "~/kaggle-config/kaggle.json",
    ),
    ({".kaggle/credentials.json": json.dumps(ENDLESS)}, "Bearer token-g", "~/.kaggle/credentials.json"),
]
TOKEN_VARIABLE, TOKEN_FILE, _, KEY_VARIABLES, KEY_FILE, _ = (way for way, _, _ in WAYS)


def give(settings: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets variables, and writes files below the home."""
    for name, text in settings.items():
        if "." not in name:
            monkeypatch.setenv(name, text)
        else:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(text.encode(errors="surrogateescape"))


@pytest.fixture
def nobody(server: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> KaggleServer:
    """The server, with no credentials at hand that it would take."""
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    return server


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("first", range(len(WAYS)))
def test_the_place_that_is_named_is_the_one_that_the_client_takes(
    first: int, alone: bool, home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy
) -> None:
    nobody.accepted = {header for _, header, _ in WAYS}
    for settings, _, _ in WAYS[first : first + 1 if alone else None]:
        give(settings, home, monkeypatch)
    listed(policy)
    sent = next(request for request in nobody.seen if request.name == "ListDataFiles").headers["Authorization"]
    assert (sent, find(kaggle_api(policy)).place) == WAYS[first][1:]


@pytest.mark.parametrize(("text", "place"), [("token-a\n", "KAGGLE_API_TOKEN"), ("\n", "~/.kaggle/credentials.json")])
def test_the_variable_may_name_a_file(
    text: str, place: str, home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy
) -> None:
    """An empty one hides the file with the token, and the client goes on to the next place."""
    nobody.accepted = {header for _, header, _ in WAYS}
    for settings in ({"token-file.txt": text}, TOKEN_FILE, WAYS[-1][0]):
        give(settings, home, monkeypatch)
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "token-file.txt"))
    listed(policy)
    assert find(kaggle_api(policy)).place == place


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
    ("settings", "problem"),
    [
        ({"kaggle-config/kaggle.json": "{"}, "no Kaggle credentials"),
        ({"kaggle-config/kaggle.json": "[3]"}, "kaggle.json: not a JSON object"),
        ({"kaggle-config/kaggle.json": '{"username": "x", "key": "y"}', "KAGGLE_KEY": ""}, "no Kaggle credentials"),
        ({".kaggle/access_token": " \n"}, "no Kaggle credentials"),
        ({".kaggle/access_token": "\udcff"}, "cannot read the token"),
        ({".kaggle/credentials.json": "[]"}, "no Kaggle credentials"),
    ],
)
def test_what_gives_nothing_is_said(
    settings: dict[str, str],
    problem: str,
    home: Path,
    nobody: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: RetryPolicy,
) -> None:
    give(settings, home, monkeypatch)
    with pytest.raises(KitError, match=problem):
        connect(policy=policy)


@pytest.mark.parametrize("given", ["own", "old", "xdg"])
def test_kaggle_json_is_where_the_client_looks(
    given: str, home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_CONFIG_DIR")
    if given == "own":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "own"))
    elif given == "old":
        (home / ".kaggle").mkdir()
    else:
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


@pytest.mark.parametrize(
    ("token", "key", "introspection"),
    [
        (TOKEN_VARIABLE, KEY_VARIABLES, None),
        (TOKEN_FILE, KEY_FILE, Answer(401, "Unauthenticated")),
        (TOKEN_FILE, {}, Answer(400, "no such token")),
    ],
)
def test_a_stale_token_that_hides_a_valid_key(
    token: dict[str, str],
    key: dict[str, str],
    introspection: Answer | None,
    home: Path,
    nobody: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: RetryPolicy,
) -> None:
    nobody.accepted = {f"Bearer {TOKEN}", basic("user-e", "key-e"), basic("user-f", "key-f")}
    give(token | key, home, monkeypatch)
    if introspection:
        nobody.fail_always("IntrospectToken", introspection)
    with pytest.raises(KitError) as caught:
        listed(policy)
    place = find(kaggle_api(policy)).place
    assert f"does not accept the token from {place}" in caught.value.problem
    if key:
        assert "your key was not tried" in caught.value.problem
        assert f"{place} to use the key" in caught.value.remedy
    else:
        assert "make a new token" in caught.value.remedy


def test_a_sign_in_that_has_ended(
    home: Path, nobody: KaggleServer, monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy
) -> None:
    give({".kaggle/credentials.json": json.dumps(SIGN_IN)}, home, monkeypatch)
    nobody.fail_always("GenerateAccessToken", Answer(401, "Unauthenticated"))
    with pytest.raises(KitError, match="kaggle auth login") as caught:
        connect(policy=policy)
    assert "~/.kaggle/credentials.json" in caught.value.problem
