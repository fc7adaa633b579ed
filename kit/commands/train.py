"""`kit train` and `kit sample`: from a set to a run, from a run to pictures."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from kit.commands.common import DataOption, RunArgument, TrustOption, say
from kit.core.clock import Stopwatch, parse_duration, parse_moment, show_duration
from kit.core.errors import KitError, unknown
from kit.models.recipe import SampleClasses


def train(
    model: Annotated[str, typer.Option(help="A row of `kit models`, or a Python file with one of your own.")],
    budget: Annotated[
        str | None,
        typer.Option(help="Time for the whole command, like 9h, 1h30m or 90s; it ends with a valid images.zip."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="Train on this many pictures instead, rounded up to whole steps; 0: not at all.", min=0),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; default: runs/MODEL-SET-N."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.", min=0)] = 0,
    count: Annotated[
        int | None,
        typer.Option(help="Pictures in images.zip; default: what the competition asks for.", min=1),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; default: the last one that was cut short.")
    ] = False,
    score_every: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|INTERVAL",
            help="Score candidates on the way, in at most this share of the time (5%), or so often (10m, within 5%).",
        ),
    ] = None,
    score_features: Annotated[str, typer.Option(help="For those scores: own, random or timm:NAME.")] = "own",
    score_weights: Annotated[
        Path | None, typer.Option(help="For those scores: file with that network's weights.")
    ] = None,
    score_count: Annotated[int, typer.Option(help="For those scores: pictures.", min=2)] = 1000,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the model; see `kit models NAME`."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="all|N", help="Share each batch by so many processes, one a GPU; without a GPU, on the CPU."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Use no more than this of each GPU's memory, like 14GB; default: all there is."
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="On a GPU, too, the same bits every time; slower. A CPU always gives them."
        ),
    ] = False,
    started_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When the budget's clock began to run, as in a kernel; ISO, or seconds since 1970."
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files into the run folder, too.")
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

    recipe = registry.get(model).override(settings or [])
    import kit.run
    from kit.data.dataset import latest
    from kit.report.panel import TrainingScreen
    from kit.report.tensorboard import require, screen_and_files
    from kit.run import processes
    from kit.scoring.periodic import ScoringConfig, parse_every
    from kit.training import run_folder
    from kit.training.memory import parse_size

    if tensorboard:
        require()

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
    job = kit.run.RunConfig(
        recipe=recipe,
        data=data,
        out=out or (run_folder.newest_unfinished() if resume else run_folder.default_run(recipe.model, data)),
        resume=resume,
        seed=seed,
        budget_s=budget_s,
        images=images,
        count=count,
        deterministic=deterministic,
        memory=parse_size(memory) if memory else None,
        scores=scores,
    )
    record = processes.train(
        job,
        gpus=gpus,
        clock=clock,
        arguments=sys.argv[1:],
        watching=partial(screen_and_files, job.out) if tensorboard else TrainingScreen,
    )
    if record is None or record.result is None or record.seconds is None:
        return
    say(
        f"{job.out}: {record.why}; {record.pictures:,} pictures seen, {record.result.count:,} generated, "
        f"packed and checked in {show_duration(record.seconds.finishing)}; "
        f"{show_duration(record.seconds.in_all)} in all"
    )
    typer.echo(job.out)
    if record.signal == "SIGINT":
        raise typer.Exit(130)


def sample(
    run: RunArgument,
    out: Annotated[
        Path,
        typer.Option(help="FILE.png, FILE.zip (as for the competition), FILE.gif, FILE.mp4, or a folder."),
    ],
    count: Annotated[
        int | None,
        typer.Option(help="Pictures; default: 64, in films 16 side by side, in strips 8 below each other.", min=1),
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(help="Draw latents within plus or minus this; less varied, more typical."),
    ] = None,
    truncations: Annotated[
        bool,
        typer.Option("--truncations", help="A strip that shows the same latents at several truncations."),
    ] = False,
    interpolate: Annotated[
        bool,
        typer.Option("--interpolate", help="Walk from latent to latent and back to the first; what a film shows."),
    ] = False,
    breed: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw this class only; needs a conditional model.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="NAME", help="Turn --breed into this one, as a film.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="proportional (as often as in the set) or balanced; default: as the recipe says.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the latents; default: the run's own, so a zip of as many pictures is the run's.", min=0),
    ] = None,
    candidate: Annotated[
        int | None,
        typer.Option(metavar="PICTURES", help="Of the average that had seen so many; default: that of images.zip."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Draw pictures from a saved run; the data it was trained on is not needed.

    Example: kit sample runs/dcgan-demo-1 --out grid.png
    """
    from kit.core.console import bar
    from kit.generation import export, video

    film = interpolate or to is not None or out.suffix in video.VIDEO_SUFFIXES
    if truncations and (film or truncation is not None or classes):
        raise KitError("--truncations goes with --breed, --count and --seed only", "leave the others out")
    if film and classes:
        raise KitError(f"--classes {classes} is for pictures, not for films", "name one with --breed, or leave it out")
    if classes is not None and classes not in get_args(SampleClasses):
        raise unknown("way to draw classes", classes, get_args(SampleClasses))
    with bar("sampling", unit="pictures") as progress:
        if truncations:
            made = export.sample_truncations(
                run,
                out=out,
                count=count or 8,
                class_name=breed,
                seed=seed,
                candidate=candidate,
                trust=trust,
                progress=progress,
            )
        elif film:
            made = export.sample_interpolation(
                run,
                out=out,
                count=count or (8 if out.suffix == ".png" else 16),
                move_latents=interpolate or to is None,
                truncation=truncation,
                class_name=breed,
                to_class=to,
                seed=seed,
                candidate=candidate,
                trust=trust,
                progress=progress,
            )
        else:
            made = export.sample_run(
                run,
                out=out,
                count=count or 64,
                truncation=truncation,
                class_name=breed,
                how=cast("SampleClasses | None", classes),
                seed=seed,
                candidate=candidate,
                trust=trust,
                progress=progress,
            )
    typer.echo(made)
