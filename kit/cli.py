"""The command line: one small function a command; its flags are its signature, the work is elsewhere.

Heavy packages are imported inside the commands that use them, so that `kit --help` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kit.clock import Stopwatch, parse_duration, show_duration
from kit.competition import DEFAULT
from kit.competition import get as get_competition
from kit.errors import KitError

app = typer.Typer(
    help="From photographs of dogs to a valid, scored, reproducible images.zip.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers in a third of the time
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Prepared set; by default the one that `kit data` last wrote."),
]
SlugOption = Annotated[str, typer.Option("--competition", help="Slug of the competition.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]


@app.command()
def data(
    slug: SlugOption = DEFAULT,
    origin: Annotated[
        str, typer.Option("--from", metavar="WHERE", help="kaggle, kaggle:OWNER/DATASET, demo, mnist, or a path.")
    ] = "kaggle",
    crop: Annotated[
        str | None,
        typer.Option(help="box, square, mixed or whole; default: what suits the competition and the source."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of a picture in pixels; default: the competition's."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="1 (grey) or 3 (RGB); default: what suits the source."),
    ] = None,
    margin: Annotated[float, typer.Option(help="Widen boxes by this much of their sides, %.")] = 0.0,
    margin_px: Annotated[int, typer.Option(help="Widen boxes by this much on each side, pixels.")] = 0,
    min_side: Annotated[int, typer.Option(help="Leave out boxes with a shorter side, pixels.")] = 0,
    max_aspect: Annotated[
        float | None,
        typer.Option(help="Leave out boxes longer than this many times their breadth."),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep files with the very same bytes.")
    ] = False,
    holdout: Annotated[float, typer.Option(help="Share of the pictures never trained on.")] = 0.05,
    max_rejected: Annotated[float, typer.Option(help="Share of the pictures that may be unusable.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Decides the hold-out, and what `demo` draws.", min=0)] = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; default: one a core.", min=1),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the prepared set; default: data/NAME."),
    ] = None,
) -> None:
    """Fetch pictures and prepare them: cropped by their boxes, resized, checked, and traced to their source.

    Example: kit data --from demo
    """
    from kit.console import bar
    from kit.data.crops import CropSettings
    from kit.data.dataset import remember
    from kit.data.origin import locate
    from kit.data.prepare import describe, prepare

    rules = get_competition(slug)
    settings = CropSettings(
        policy=crop, margin_percent=margin, margin_px=margin_px, min_side=min_side, max_aspect=max_aspect
    )
    root = Path("data")
    with bar(f"getting {origin}", unit="pictures", size_in_bytes=origin.startswith("kaggle")) as progress:
        source = locate(origin, rules, root=root, seed=seed, progress=progress, say=_say)
    with bar("preparing", unit="pictures") as progress:
        prepared = prepare(
            source.path,
            competition=rules,
            out=out or root / source.name,
            crop=settings,
            size=size,
            channels=channels,
            holdout=holdout,
            max_rejected=max_rejected,
            keep_duplicates=keep_duplicates,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    remember(prepared.path, root=root)
    for line in describe(prepared):
        _say(line)
    typer.echo(prepared.path)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="A row of `kit models`.")],
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
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the model; see `kit models NAME`."),
    ] = None,
) -> None:
    """Train a GAN and leave a run folder with a checked images.zip.

    Example: kit train --model dcgan --budget 3m
    """
    if (budget is None) == (images is None):
        raise KitError("give either --budget TIME or --images N", "for example --budget 3m")
    clock = Stopwatch()
    budget_s = parse_duration(budget) if budget else None

    from kit.models import zoo

    recipe = zoo.get(model).override(settings or [])
    from kit import pipeline, runs
    from kit.console import TrainingScreen
    from kit.data.dataset import latest

    data = data or latest()
    job = pipeline.Job(
        recipe=recipe,
        data=data,
        out=out or (runs.newest_unfinished() if resume else runs.default_run(model, data)),
        resume=resume,
        seed=seed,
        budget_s=budget_s,
        images=images,
        count=count,
    )
    with TrainingScreen(clock) as screen:
        run = pipeline.train(job, clock=clock, listener=screen)
    record = run.record
    _say(
        f"{run.path}: {record['why']}; {record['pictures']:,} pictures seen, {record['result']['count']:,} generated, "
        f"packed and checked in {show_duration(record['seconds']['finishing'])}; "
        f"{show_duration(record['seconds']['in_all'])} in all"
    )
    typer.echo(run.path)
    if record["signal"] == "SIGINT":
        raise typer.Exit(130)


@app.command()
def sample(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="FILE.png (a grid), FILE.zip (as for the competition), or a folder.")],
    count: Annotated[int, typer.Option(help="Pictures.", min=1)] = 64,
    truncation: Annotated[
        float | None,
        typer.Option(help="Draw latents again that are larger than this; less varied, more typical."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the latents; default: the run's own, so a zip of as many pictures is the run's.", min=0),
    ] = None,
) -> None:
    """Draw pictures from a saved run; the data it was trained on is not needed.

    Example: kit sample runs/dcgan-demo-1 --out grid.png
    """
    from kit.console import bar
    from kit.generation.export import sample_run

    with bar("sampling", unit="pictures") as progress:
        made = sample_run(run, out=out, count=count, truncation=truncation, seed=seed, progress=progress)
    typer.echo(made)


@app.command()
def score(
    target: Annotated[Path, typer.Argument(metavar="RUN|images.zip|DIR")],
    data: DataOption = None,
    features: Annotated[
        str, typer.Option(help="timm, timm:NAME, kaggle, nasnet or random: the network that looks at the pictures.")
    ] = "timm",
    weights: Annotated[
        Path | None,
        typer.Option(help="File with that network's weights; default: timm's own, fetched once."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16; another precision is another score.")] = "float32",
    reference: Annotated[
        Literal["whole", "crops"], typer.Option(help="Whole pictures, as on Kaggle, or crops, as trained on.")
    ] = "whole",
    split: Annotated[Literal["all", "train", "holdout"], typer.Option(help="Which of the real pictures.")] = "all",
    count: Annotated[
        int | None,
        typer.Option(help="Score so many of the pictures, the first by name.", min=1),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score generated pictures: MiFID, FID and the memorization distance.

    Example: kit score runs/dcgan-demo-1 --count 1000
    """
    from kit.console import bar
    from kit.data.dataset import latest, load
    from kit.runs import target as find_target
    from kit.scoring import features as feature_sets
    from kit.scoring import score as scoring

    found = find_target(target)
    prepared = load(data or found.data or latest())
    network = feature_sets.build(features, weights=weights, dtype=dtype)
    with bar("scoring", unit="pictures") as progress:
        result = scoring.score(
            found.pictures,
            prepared,
            features=network,
            reference=reference,
            split=split,
            count=count,
            cache=scoring.default_cache(prepared),
            announce=lambda estimate: _say(str(estimate)),
            progress=progress,
        )
    if found.record:
        scoring.save(result, found.record)
    if as_json:
        _json(result.to_json())
    else:
        for line in result.lines():
            typer.echo(line)


@app.command()
def check(
    archive: Annotated[Path, typer.Argument(metavar="images.zip")],
    slug: SlugOption = DEFAULT,
    count: Annotated[
        int | None,
        typer.Option(help="Pictures there must be; default: what the competition takes.", min=1),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find out what the competition's scorer would reject; exit code 1 if anything.

    Example: kit check runs/dcgan-demo-1/images.zip
    """
    from kit.console import bar
    from kit.generation.check import check as check_archive

    rules = get_competition(slug)
    with bar("checking", unit="pictures") as progress:
        report = check_archive(archive, competition=rules, count=count, progress=progress)
    if as_json:
        _json(dataclasses.asdict(report))
    else:
        for line in report.lines():
            typer.echo(line)
        verdict = "valid" if report.ok else "would be rejected"
        typer.echo(f"{archive}: {report.count:,} pictures for {slug}: {verdict}")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def pack(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="Submission folder; default: submissions/NAME-OF-THE-RUN."),
    ] = None,
) -> None:
    """Make a submission folder from a run: the zip, the code that made it, and the record to make it again.

    Example: kit pack runs/dcgan-demo-1
    """
    from kit.console import bar
    from kit.submission.make import make_submission

    with bar("checking", unit="pictures") as progress:
        submission = make_submission(run, out=out, progress=progress)
    typer.echo(submission.folder)


@app.command()
def submit(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[SUBMISSION|RUN]", help="Default: the newest submission."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What Kaggle shows beside the score.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and say what would be sent.")] = False,
) -> None:
    """Check a submission and say what would be sent. (Sending is not built yet: --dry-run is required.)

    Example: kit submit --dry-run
    """
    if not dry_run:
        raise KitError("this version of the kit cannot send a submission yet", "add --dry-run to check it")
    from kit.console import bar
    from kit.submission import ledger
    from kit.submission.submit import dry_run as plan_submission

    submission = ledger.find(target) if target else ledger.newest()
    with bar("checking", unit="pictures") as progress:
        plan = plan_submission(submission, message=message, progress=progress)
    for line in plan.lines():
        typer.echo(line)
    raise typer.Exit(0 if plan.ok else 1)


@app.command()
def submissions(as_json: JsonOption = False) -> None:
    """List the submissions with their scores.

    Example: kit submissions
    """
    from kit.submission import ledger, table

    found = ledger.all_submissions()
    rows = [table.row(submission) for submission in found.submissions]
    if as_json:
        _json([dataclasses.asdict(row) for row in rows])
    else:
        _table(table.COLUMNS, [row.cells() for row in rows])
    for error in found.damaged:
        _say(f"warning: {error}")


@app.command()
def reproduce(
    target: Annotated[Path, typer.Argument(metavar="SUBMISSION")],
    data: DataOption = None,
    keep: Annotated[
        Path | None, typer.Option(help="New folder for the run that is made; default: thrown away.")
    ] = None,
) -> None:
    """Make a submission again from its stored code, recipe and data, and compare; exit code 1 if anything differs.

    Example: kit reproduce submissions/dcgan-demo-1
    """
    from kit.submission import ledger
    from kit.submission.reproduce import reproduce as make_again

    verdict = make_again(ledger.find(target), data=data, keep=keep, say=_say)
    for line in verdict.lines:
        typer.echo(line)
    raise typer.Exit(0 if verdict.identical else 1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Page that compares several runs; default: comparison.html beside the first of them."),
    ] = None,
) -> None:
    """Write a page about a run, with its film, or one that compares several; it opens in any browser, offline.

    Example: kit report runs/dcgan-demo-1
    """
    from kit.console import bar
    from kit.report.comparison import write_comparison
    from kit.report.page import write_report
    from kit.report.pictures import film

    if len(runs) > 1:
        typer.echo(write_comparison(runs, out or runs[0].parent / "comparison.html"))
        return
    if out:
        raise KitError(f"--out {out} is for the page that compares several runs", "leave it out, or name more runs")
    with bar("filming", unit="frames") as progress:
        film(runs[0], progress=progress)
    typer.echo(write_report(runs[0]))


@app.command()
def models(name: Annotated[str | None, typer.Argument()] = None, as_json: JsonOption = False) -> None:
    """List the models, or all settings of one.

    Example: kit models dcgan
    """
    from kit.models import describe

    if name is None:
        rows = describe.zoo_rows()
        if as_json:
            _json(rows)
        else:
            _table(list(rows[0]), [list(row.values()) for row in rows])
        return
    facts, settings = describe.model(name)
    if as_json:
        _json({**facts, "settings": settings})
        return
    for key, value in facts.items():
        typer.echo(f"{key:15} {value}")
    typer.echo("")
    _table(list(settings[0]), [list(row.values()) for row in settings])


@app.command()
def runs(as_json: JsonOption = False) -> None:
    """List the runs.

    Example: kit runs
    """
    from kit.runs import all_runs

    rows, damaged = all_runs(Path("runs"))
    if as_json:
        _json(rows)
    else:
        columns = ("name", "model", "set", "state", "pictures", "count", "fid", "mifid", "features")
        _table(columns, [[row[column] for column in columns] for row in rows])
    for error in damaged:
        _say(f"warning: {error}")


def main() -> None:
    """The `kit` command: 0 done, 1 a `KitError`, 2 wrong usage, 130 interrupted."""
    # OpenMP's threads wait for each other by spinning: on a machine that also does something else, the spinning takes
    # the time of the thread it waits for, and training was seen to slow down threefold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except KitError as error:
        _say(f"error: {error}")
        sys.exit(1)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _table(columns: list[str] | tuple[str, ...], rows: list[list[Any]]) -> None:
    from kit.console import print_table

    print_table(columns, rows)
