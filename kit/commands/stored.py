"""Hidden commands that others run in a process of their own: with a stored kit, or with code that is not the kit's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SettingsOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")]


def check_model(file: Path, settings: SettingsOption = None) -> None:
    """See that a model file has its row, and takes these settings."""
    from kit.models import registry

    registry.get(str(file)).override(settings or [])
