"""Foreign text, and streams that break, as a user's terminal meets them."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.core import streams
from kit.core.console import print_table
from kit.core.streams import safe, safe_lines

FULL = Path("/dev/full")
KIT = [sys.executable, "-m", "kit"]


@pytest.mark.abuse("D14")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.png", "plain.png"),
        ("Löwchen 犬 🐶", "Löwchen 犬 🐶"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("\x9b31mred", r"\x9b31mred"),
        ("two\nlines\r", r"two\nlines\r"),
        ("gpj.\u202egnp", r"gpj.\u202egnp"),
        (os.fsdecode(b"dog-\xff.png"), r"dog-\xff.png"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_what_a_terminal_would_obey_becomes_readable(text, shown):
    assert safe(text) == shown


@given(st.text(st.characters(), max_size=50))
def test_safe_text_can_be_encoded_is_one_line_and_stays(text):
    once = safe(text)
    once.encode()
    assert once.isprintable() or set(once) & set(text)
    assert safe(once) == once
    assert len(once.splitlines()) <= 1
    assert "\x1b" not in safe_lines(text)


class Broken(io.StringIO):
    """A stream whose writing fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, _):
        raise self.error


@pytest.mark.abuse("F21")
@pytest.mark.parametrize("error", [BrokenPipeError(32, "pipe"), OSError(28, "full"), OSError(5, "gone"), ValueError()])
def test_what_cannot_be_said_raises_nothing(error, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    streams.TalkHandler().emit(logging.LogRecord("kit", logging.INFO, "", 0, "said", (), None))


@pytest.mark.abuse("D14")
def test_the_log_is_printed_on_stderr_with_foreign_text_made_safe(capsys):
    handler = streams.TalkHandler()
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        handler.emit(logging.LogRecord("kit.data", level, "", 0, "read %s", ("\x1b[2J",), None))
    assert capsys.readouterr().err == "read \\x1b[2J\nwarning: read \\x1b[2J\nerror: read \\x1b[2J\n"


def test_tables_show_numbers_without_trailing_zeros_and_foreign_text_safely(capsys):
    print_table(["name", "value"], [["\x1b[2Ja\nb", 0.5], ["c", 0.0002]])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert [line.split()[-1] for line in printed.splitlines()] == ["value", "0.5", "0.0002"]


@pytest.mark.abuse("D16")
@pytest.mark.parametrize(
    ("command", "encoding"),
    [("runs", "ascii"), ("submissions", "cp1252"), ("models", "of the C locale"), ("submissions", "of the C locale")],
)
def test_every_encoding_of_a_terminal_will_do(command, encoding, tmp_path):
    for folder, record in (("runs", "run.json"), ("submissions", "submission.json")):
        (tmp_path / folder / "été – 犬").mkdir(parents=True)
        (tmp_path / folder / "été – 犬" / record).write_text("{}")  # a line of its own in the list
    as_asked = {"PYTHONIOENCODING": encoding} if " " not in encoding else {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, "PYTHONUTF8": "0", **as_asked}
    done = subprocess.run([*KIT, command], env=environment, capture_output=True, cwd=tmp_path, check=True)
    assert done.stdout.decode("ascii" if " " in encoding else encoding)
    assert b"Traceback" not in done.stderr


@pytest.mark.abuse("D16")
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE there")
@pytest.mark.parametrize("command", [["--help"], ["models", "--json"], ["runs"]], ids=" ".join)
def test_a_closed_pipe_is_no_error(command, tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*KIT, *command], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (streams.PIPE_CLOSED, b"")


@pytest.mark.abuse("D16")
@pytest.mark.skipif(sys.platform == "win32", reason="no shell there")
def test_a_process_without_stdout_and_stderr_does_its_work(tmp_path):
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *KIT, "models"], cwd=tmp_path, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_results_that_a_full_disk_loses_are_an_error_in_one_line():
    with FULL.open("w") as full:
        done = subprocess.run([*KIT, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")
    with FULL.open("w") as full:
        done = subprocess.run([*KIT, "models", "dcgn"], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == 1
