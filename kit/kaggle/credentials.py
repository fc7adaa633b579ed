"""Which credentials the Kaggle client uses, asked of the client itself, and the filter that keeps them out of texts."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from kit.core.errors import KitError

TOKEN_PAGE = "https://www.kaggle.com/settings/api"

PLACES = (
    "KAGGLE_API_TOKEN",
    "~/.kaggle/access_token",
    "KAGGLE_USERNAME and KAGGLE_KEY",
    "kaggle.json in KAGGLE_CONFIG_DIR, ~/.kaggle or ~/.config/kaggle",
    "~/.kaggle/credentials.json (`kaggle auth login`)",
)
"""Where the client looks, in its order. It takes the first that it finds."""

_SHORTEST_SECRET = 6  # characters; hiding shorter pieces would make texts unreadable and protect nothing


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the client signs in with."""

    kind: Literal["token", "key", "sign-in"]
    place: str  # one of PLACES, or the path of the file
    hides_key: bool = False  # a token is used although there is a key
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def redact(self, text: str, *, header: str = "") -> str:
        """The text without any secret; the value of an Authorization header holds one too."""
        scheme, _, value = header.partition(" ")
        secrets = [*self.secrets, value]
        if scheme == "Basic":
            with contextlib.suppress(ValueError):
                secrets.append(base64.b64decode(value).decode().partition(":")[2])
        # Messages quote a secret as it is, escaped, or cut into pieces at its white space.
        forms = {form for secret in secrets for form in _forms(secret)}
        forms |= {piece for form in (*forms, *secrets) for piece in (*form.split(), *repr(form)[1:-1].split("\\n"))}
        for form in sorted(forms, key=len, reverse=True):
            if len(form) >= _SHORTEST_SECRET:
                text = text.replace(form, "…")
        return text


def find(api: Any) -> Credentials:
    """The credentials that a `KaggleApi` will send. It reads its settings, and asks Kaggle nothing.

    Raises:
        KitError: there are none, or they cannot be read.
    """
    from kagglesdk.kaggle_creds import KaggleCredentials
    from kagglesdk.kaggle_env import get_access_token_from_env

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints a warning where results belong
            api._load_config()
            in_file = api.read_config_file(quiet=True).get(api.CONFIG_NAME_KEY)
        user, key = (api.config_values.get(name) for name in (api.CONFIG_NAME_USER, api.CONFIG_NAME_KEY))
    except (AttributeError, TypeError):
        raise KitError(f"{api.config}: not a JSON object", f"download a new one from {TOKEN_PAGE}") from None
    try:
        token, source = get_access_token_from_env()
    except (OSError, ValueError):  # the message would quote the token
        raise KitError(
            "the kaggle client cannot read the token in KAGGLE_API_TOKEN or ~/.kaggle/access_token",
            f"make a new one at {TOKEN_PAGE}",
        ) from None
    if token:
        place = PLACES[1] if source == "access_token" else source
        if len(token.split()) > 1:
            raise KitError(
                f"the token from {place} has a space or a line break in it", f"copy it again from {TOKEN_PAGE}"
            )
        return Credentials(kind="token", place=place, hides_key=bool(user and key), secrets=_texts(token, key))
    if user and key:
        path = Path(api.config)
        shown = f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)
        place = shown if in_file == key else PLACES[2]
        return Credentials(kind="key", place=place, secrets=_texts(key))
    signed_in = None
    with contextlib.suppress(AttributeError, TypeError, ValueError, OSError):  # a damaged file counts as none
        signed_in = KaggleCredentials.load(client=None)
    if signed_in is None:
        raise KitError(
            f"no Kaggle credentials; looked in {'; '.join(PLACES)}",
            f"make a token at {TOKEN_PAGE} and save it as ~/.kaggle/access_token, or set KAGGLE_API_TOKEN to it",
        )
    return Credentials(
        kind="sign-in",
        place="~/.kaggle/credentials.json",
        secrets=_texts(signed_in._refresh_token, signed_in._access_token),
    )


def _forms(secret: str) -> tuple[str, ...]:
    in_bytes = repr(secret.encode(errors="surrogateescape"))[2:-1]
    return secret, repr(secret)[1:-1], in_bytes, json.dumps(secret)[1:-1], quote(secret), quote(secret, safe="")


def _texts(*values: Any) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
