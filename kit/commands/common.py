"""What several commands share: flags that mean the same everywhere, and ways to print."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Prepared set; default: the one that `kit data` last wrote."),
]
SlugOption = Annotated[
    str, typer.Option("--competition", metavar="SLUG", help="The competition's name in its address.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrustOption = Annotated[bool, typer.Option("--trust", help="Run code that came with the files and is not this kit's.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file that is there and that the kit did not make.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the model; `kit models NAME` lists them."),
]
CountOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pictures in images.zip; default: as many as the competition asks for.", min=1),
]
MODEL_HELP = "Name of a model (`kit models` lists them), or a Python file with one of your own."


class Command(TyperCommand):
    """A command whose help shows what an option takes in our words, not the types of Python."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for heading, kind in (("Arguments", "argument"), ("Options", "option")):
            params = [param for param in self.get_params(ctx) if param.param_type_name == kind]
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl([(name.partition(" <")[0], _plain(text)) for name, text in records])


def _plain(help: str) -> str:
    """Without `x>=0`, and without zeros at the end of a number."""
    return re.sub(r"(\d)\.0\b", r"\1", re.sub(r"; x>=\d+|  \[x>=\d+\]", "", help))


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
