"""What several commands share: flags that mean the same everywhere, and ways to print."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Prepared set; by default the one that `kit data` last wrote."),
]
SlugOption = Annotated[str, typer.Option("--competition", help="Slug of the competition.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrustOption = Annotated[bool, typer.Option("--trust", help="Run code that came with the files and is not this kit's.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]


log = logging.getLogger(__name__)


def say(text: str) -> None:
    """A line for the reader, on stderr: results alone go to stdout."""
    log.info("%s", text)


def print_json(value: Any) -> None:
    """A result for a script, on stdout; in ASCII, so that it is JSON in every terminal's encoding."""
    print(json.dumps(value, indent=1, default=str))
