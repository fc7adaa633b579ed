"""What several commands share: flags that mean the same everywhere, and ways to print."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Prepared set; by default the one that `kit data` last wrote."),
]
SlugOption = Annotated[str, typer.Option("--competition", help="Slug of the competition.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrustOption = Annotated[bool, typer.Option("--trust", help="Run code that came with the files and is not this kit's.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file that is there and that the kit did not make.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


class CommandGroup(TyperGroup):
    """A group whose help shows the first sentence of each command whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, _first_sentence(command.help or ""))
                    for name, command in commands
                    if command and not command.hidden
                ]
            )


def _first_sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."


log = logging.getLogger(__name__)


def print_json(value: Any) -> None:
    """A result for a script, on stdout; in ASCII, so that it is JSON in every terminal's encoding."""
    print(json.dumps(value, indent=1, default=str))
