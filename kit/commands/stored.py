"""Hidden commands that others run in a process of their own: with a stored kit, or with code that is not the kit's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import SettingsOption, TrustOption


def check_model(file: Path, settings: SettingsOption = None) -> None:
    """See that a model file has its row, and takes these settings."""
    from kit.models import registry

    registry.get(str(file)).override(settings or [])


def replay(
    record: Path,
    data: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    processes: Annotated[int, typer.Option(min=1)] = 1,
    trust: TrustOption = False,
) -> None:
    """Make a run again from its run.json."""
    from kit.core.clock import Stopwatch
    from kit.core.signals import exit_with_parent
    from kit.models import custom
    from kit.report.panel import TrainingScreen
    from kit.run.processes import launch
    from kit.run.replay import replay as make_again
    from kit.training.distributed import started_by_torchrun
    from kit.training.run_record import RunRecord

    if not started_by_torchrun():
        exit_with_parent()
        if processes > 1:
            raise typer.Exit(1 if launch(sys.argv[1:], processes).early else 0)
    run, clock = RunRecord.load(record), Stopwatch()
    custom.require_trust(run.recipe.model, run.recipe.source, trust=trust, where=record)
    with TrainingScreen(clock) as screen:
        make_again(run, data=data, out=out, clock=clock, callback=screen)


def rebuild_kernel(
    recipe: Path,
    slug: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option()],
    commit: Annotated[str | None, typer.Option()] = None,
    dirty: Annotated[bool, typer.Option("--dirty")] = False,
    trust: TrustOption = False,
) -> None:
    """Write a kernel again from its recipe, with the commit that its code is said to come from."""
    from kit.core import provenance
    from kit.core.provenance import Source
    from kit.kaggle.kernel_spec import parse_spec
    from kit.kaggle.kernels import build
    from kit.models import custom

    spec = parse_spec(recipe.read_text(encoding="utf-8"), slug=slug)
    custom.require_trust(spec.model, spec.source, trust=trust, where=recipe)
    source = Source(commit=commit, dirty=dirty, digest=provenance.source_tree().digest)
    build(spec, out, source=source)
