"""`kit train`: from a prepared set to a run."""

from __future__ import annotations

import contextlib
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kit.commands.common import MODEL_HELP, CountOption, DataOption, SettingsOption
from kit.core.clock import Stopwatch, parse_duration, parse_moment, show_duration
from kit.core.errors import KitError
from kit.core.streams import echo

log = logging.getLogger(__name__)


def train(
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help=MODEL_HELP)],
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Time for the whole command, like 9h, 1h30m or 90s; it ends with a valid images.zip."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Train on so many pictures instead, rounded up to whole steps; 0: not at all.", min=0
        ),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder; default: runs/MODEL-SET-NUMBER."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The random numbers of the run follow from it.", min=0)] = 0,
    count: CountOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out, or with the last one that did not come to its end."
        ),
    ] = False,
    score_every: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT|TIME",
            help="Score candidates while it trains, in at most this part of the time (5%), or every so often (10m).",
        ),
    ] = None,
    score_features: Annotated[
        str, typer.Option(metavar="NAME", help="Feature network of those scores: own, random or timm:NAME.")
    ] = "own",
    score_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the weights of that network.")
    ] = None,
    score_count: Annotated[int, typer.Option(metavar="N", help="Pictures of each of those scores.", min=2)] = 1000,
    settings: SettingsOption = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="all|N", help="Divide each batch among so many GPUs, or processes on the CPU where there is no GPU."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Use no more than this of the memory of each GPU, like 14GB; default: all of it."
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="The same bits every time on a GPU, too; slower. A CPU gives them anyway."
        ),
    ] = False,
    started_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the budget began to run: 2026-11-22T09:00:00, or seconds since 1970."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write files for TensorBoard into the run folder.")
    ] = False,
) -> None:
    """Train a GAN and leave a run folder with a checked images.zip.

    Example: kit train --model dcgan --budget 3m
    """
    if (budget is None) == (images is None):
        raise KitError("give either --budget TIME or --images N", "for example --budget 3m")
    clock = Stopwatch(parse_moment(started_at) if started_at else None)
    budget_s = parse_duration(budget) if budget else None

    from kit.models import registry

    row = registry.get(model)
    recipe = row.override(settings or [])
    import kit.run
    from kit.data.prepared_set import latest
    from kit.report.panel import TensorBoard, TrainingScreen, screen_and_tensorboard
    from kit.run import processes
    from kit.scoring.candidates import ScoringConfig, parse_every
    from kit.training import run_folder
    from kit.training.memory import parse_size

    if tensorboard:
        TensorBoard.require()

    scores = None
    if score_every is not None:
        share, interval_s = parse_every(score_every)
        scores = ScoringConfig(
            share=share,
            interval_s=interval_s,
            features=score_features,
            weights=score_weights,
            count=score_count,
        )
    data = data or latest()
    memory_limit = parse_size(memory) if memory else None
    config = kit.run.RunConfig(
        recipe=recipe,
        ladder=row.widths(settings or []) if budget_s else (),
        data=data,
        out=out or (run_folder.newest_unfinished() if resume else run_folder.claim_run(recipe.model, data)),
        resume=resume,
        seed=seed,
        budget_s=budget_s,
        images=images,
        count=count,
        deterministic=deterministic,
        memory=memory_limit,
        scores=scores,
    )
    try:
        record = processes.train(
            config,
            gpus=gpus,
            clock=clock,
            arguments=sys.argv[1:],
            make_callback=partial(screen_and_tensorboard, config.out) if tensorboard else TrainingScreen,
        )
    except KitError:
        if out is None:
            _remove_empty(config.out)
        raise
    if record is None or record.result is None or record.seconds is None:
        return
    log.info(
        f"{config.out}: {record.why}; {record.pictures:,} pictures seen, {record.result.count:,} generated, "
        f"packed and checked in {show_duration(record.seconds.finishing)}; "
        f"{show_duration(record.seconds.in_all)} in all"
    )
    echo(config.out)
    if record.signal == "SIGINT":
        raise typer.Exit(130)


def _remove_empty(folder: Path) -> None:
    """Removes the folder of a run that never began, and the folder of runs where it was the only one."""
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):  # gone already, or something lies in it
            empty.rmdir()
