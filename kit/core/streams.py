"""Stdout for results and stderr for talk: neither ends a run, whatever becomes of the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from kit.core.text import safe, safe_lines

PIPE_CLOSED = 141
"""Exit code where the reader of the results has gone, as in `kit runs | head -n 1`; what a shell gives for SIGPIPE."""


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
