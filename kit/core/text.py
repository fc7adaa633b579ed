"""Text from outside, made safe for a terminal, and own text for terminals that cannot show all of it."""

from __future__ import annotations

import codecs
import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, escape sequences among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of the text around them
    "\u2028\u2029\ufeff"  # line separators of Unicode, byte-order marks
    "\ud800-\udfff]"  # surrogates: bytes of a file's name that are no UTF-8
)

PLAIN = {"–": "-", "—": "-", "…": "...", "×": "x", "·": "-", "→": "->", "±": "+-", "∞": "inf", "≤": "<=", "≥": ">="}
"""What stands for characters of the kit's own messages where a terminal's encoding does not have them."""


def safe(text: str) -> str:
    r"""Foreign text as one line that a terminal shows and does not obey.

    Control characters become escapes that can be read (`\x1b`, `\n`), bytes of a file's name that are no UTF-8 become
    `\xff`. Letters of all scripts and emoji stay. Safe text is not changed.

    Args:
        text: a file's name, a class, a line of a log, an answer of Kaggle's.
    """
    return _UNSAFE.sub(_escape, text)


def safe_lines(text: str) -> str:
    """Foreign text of several lines, each made safe."""
    return "\n".join(map(safe, text.expandtabs().split("\n")))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape", "surrogatepass").decode()


def _replace(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: plain characters, or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in bad), error.end


codecs.register_error("kit", _replace)
