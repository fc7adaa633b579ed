"""`kit score` and `kit check`: how good pictures are, and whether they would be taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kit.commands.common import DataOption, JsonOption, SlugOption, TrustOption, print_json, say
from kit.competition import DEFAULT
from kit.competition import get as get_competition
from kit.core.errors import KitError

if TYPE_CHECKING:  # torch is imported where it is used
    from kit.data.dataset import PreparedSet, Split
    from kit.scoring.extract import FeatureSet
    from kit.scoring.record import Kind


def score(
    target: Annotated[Path, typer.Argument(metavar="RUN|images.zip|DIR")],
    data: DataOption = None,
    features: Annotated[
        str,
        typer.Option(help="The network that looks on: timm, timm:NAME, kaggle, nasnet, own or random."),
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
    method: Annotated[
        Literal["symmetric", "scorer"],
        typer.Option(help="How the covariances' root is taken; scorer: by sqrtm, as the competition's scorer does."),
    ] = "symmetric",
    brief: Annotated[
        bool, typer.Option("--brief", help="Only MiFID, FID and distance: no intervals, KID, precision and recall.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All candidates of a run, and its best one truncated; recommends one."),
    ] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score generated pictures: MiFID, FID and the memorization distance, and how far they can be trusted.

    Example: kit score runs/dcgan-demo-1 --count 1000
    """
    from kit.core.console import bar
    from kit.data.dataset import latest, load
    from kit.scoring import compute_score as scoring
    from kit.scoring import features as feature_sets
    from kit.training.run_folder import read_run
    from kit.training.run_folder import target as find_target

    if everything and method != "symmetric":
        raise KitError("--method scorer is for one score", "leave it or --all out")
    if everything:
        read_run(target)  # a zip has no candidates
    found = find_target(target)
    prepared = load(data or found.data or latest())
    with bar("training features", unit="pictures") as progress:
        network = feature_sets.build(features, weights=weights, dtype=dtype, prepared=prepared, progress=progress)
    if everything:
        _compare(target, prepared, network, reference=reference, split=split, count=count, trust=trust, as_json=as_json)
        return
    with bar("scoring", unit="pictures") as progress:
        result = scoring.score(
            found.pictures,
            prepared,
            features=network,
            reference=reference,
            split=split,
            count=count,
            method=method,
            detailed=not brief,
            cache=scoring.default_cache(prepared),
            announce=lambda estimate: say(str(estimate)),
            progress=progress,
        )
    if found.record:
        scoring.save(result, found.record)
    if as_json:
        print_json(result.to_json())
    else:
        for line in result.lines():
            typer.echo(line)


def _compare(
    run: Path,
    prepared: PreparedSet,
    network: FeatureSet,
    *,
    reference: Kind,
    split: Split,
    count: int | None,
    trust: bool,
    as_json: bool,
) -> None:
    from kit.core.console import bar, print_table
    from kit.core.files import write_json
    from kit.scoring import candidates
    from kit.scoring.cache import default_cache

    with bar("scoring", unit="candidates") as progress:
        comparison = candidates.compare(
            run,
            prepared,
            features=network,
            reference=reference,
            split=split,
            count=count,
            cache=default_cache(prepared),
            trust=trust,
            progress=progress,
        )
    write_json(run / "candidates.json", comparison.to_json())
    if as_json:
        print_json(comparison.to_json())
        return
    print_table(*candidates.rows(comparison))
    for line in candidates.verdict(run, comparison):
        say(line)


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
    from kit.core.console import bar
    from kit.generation.validate import check as check_archive

    rules = get_competition(slug)
    with bar("checking", unit="pictures") as progress:
        report = check_archive(archive, competition=rules, count=count, progress=progress)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        for line in report.lines():
            typer.echo(line)
        verdict = "valid" if report.ok else "would be rejected"
        typer.echo(f"{archive}: {report.count:,} pictures for {slug}: {verdict}")
    raise typer.Exit(0 if report.ok else 1)
