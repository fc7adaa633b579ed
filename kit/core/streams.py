"""Stdout for results and stderr for talk: neither ends a run, whatever becomes of the terminal.

Text from outside is made safe for a terminal, and own text is fit for terminals that cannot show all of it.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

PIPE_CLOSED = 141
"""Exit code where the reader of the results has gone, as in `kit runs | head -n 1`; what a shell gives for SIGPIPE."""


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


class _Stream:
    """A text stream that writes what it can in its encoding."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kit")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Results(_Stream):
    """Stdout: ends the process without a word once nobody reads it."""

    def write(self, text: str) -> int:
        with self._exit_where_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._exit_where_closed():
            self._stream.flush()

    @contextlib.contextmanager
    def _exit_where_closed(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise SystemExit(PIPE_CLOSED) from None


class Talk(_Stream):
    """Stderr: what cannot be written is dropped (a closed pipe, a full disk, a terminal that has gone)."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class TalkHandler(logging.Handler):
    """Prints the kit's log on stderr, a message a line: "…", "warning: …", "error: …"."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record; foreign text in it is made safe, and no failure of the terminal is raised."""
        try:
            text = safe_lines(self.format(record))
            prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            Talk(sys.stderr).write(f"{prefix}{text}\n")
            Talk(sys.stderr).flush()
        except Exception:
            self.handleError(record)


def set_up() -> None:
    """Prepares this process as a command: its streams, and the kit's log printed on stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`, or of a program without a console
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if not isinstance(sys.stdout, _Stream):
        sys.stdout, sys.stderr = cast("TextIO", Results(sys.stdout)), cast("TextIO", Talk(sys.stderr))
    log_to_stderr()


def log_to_stderr() -> None:
    """Prints the kit's log on stderr from now on."""
    log = logging.getLogger("kit")
    if not any(isinstance(handler, TalkHandler) for handler in log.handlers):
        log.addHandler(TalkHandler())
    log.setLevel(logging.INFO)
    log.propagate = False  # a library that sets up the root logger would print everything twice


def echo(text: object = "") -> None:
    """Prints a line of a result on stdout; foreign text in it is made safe."""
    print(safe(str(text)))
