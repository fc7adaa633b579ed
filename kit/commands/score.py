"""`kit score` and `kit check`: how good pictures are, and whether they would be taken."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kit.commands.common import JsonOption, SlugOption, TrustOption, print_json
from kit.competition import DEFAULT
from kit.competition import get as get_competition
from kit.core.errors import KitError
from kit.core.streams import echo

if TYPE_CHECKING:  # torch is imported where it is used
    from kit.core.records import Record
    from kit.data.prepared_set import PreparedSet, Split
    from kit.scoring.extract import FeatureSet
    from kit.scoring.score_record import Kind

log = logging.getLogger(__name__)


def score(
    target: Annotated[Path, typer.Argument(metavar="RUN|ZIP|DIR", help="A run, or a zip or folder of pictures.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Prepared set; default: the run's own, else the one that `kit data` last wrote."
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(metavar="NAME", help="Feature network: timm, timm:NAME, kaggle, nasnet, own or random."),
    ] = "timm",
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with its weights; default: timm's own, downloaded once."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="float32 or bfloat16; their scores cannot be compared.")
    ] = "float32",
    reference: Annotated[
        Literal["whole", "crops"],
        typer.Option(metavar="whole|crops", help="Real pictures: whole, as on Kaggle, or crops, as in training."),
    ] = "whole",
    split: Annotated[
        Literal["all", "train", "holdout"],
        typer.Option(metavar="all|train|holdout", help="Which of the real pictures."),
    ] = "all",
    against: Annotated[
        Path | None,
        typer.Option(metavar="ZIP|DIR", help="Real pictures to compare with, in place of the set's."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="Score only the first N pictures by name.", min=1),
    ] = None,
    method: Annotated[
        Literal["symmetric", "sqrtm"],
        typer.Option(
            metavar="symmetric|sqrtm", help="Root of the covariances; sqrtm: as the competition's scorer does."
        ),
    ] = "symmetric",
    brief: Annotated[
        bool, typer.Option("--brief", help="Only MiFID, FID and distance: no intervals, KID, precision and recall.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Compare all candidates of a run, and its best one truncated."),
    ] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score generated pictures: MiFID, FID and memorization distance, with intervals, KID, precision and recall.

    Example: kit score runs/dcgan-demo-1 --count 1000
    """
    from kit.core.console import bar
    from kit.data.prepared_set import latest, load
    from kit.scoring import features as feature_sets
    from kit.scoring.compute_score import score_pictures
    from kit.scoring.reference import FolderReference, default_cache, load_reference
    from kit.training.run_folder import read_run
    from kit.training.run_folder import target as find_target

    if everything and method != "symmetric":
        raise KitError("--method sqrtm is for one score", "leave out --method or --all")
    if against and (everything or reference != "whole" or split != "all"):
        raise KitError("--against FOLDER has whole pictures alone, for one score", "leave out the flags beside it")
    if everything:
        read_run(target)  # a zip has no candidates
    found = find_target(target)
    if data is None and found.data and found.digest:
        prepared = load_reference(found.data, digest=found.digest)
    else:
        prepared = load(data or latest())
    with bar("training features", unit="pictures") as progress:
        network = feature_sets.build(features, weights=weights, dtype=dtype, prepared=prepared, progress=progress)
    if everything:
        _compare(target, prepared, network, reference=reference, split=split, count=count, trust=trust, as_json=as_json)
        return
    with bar("scoring", unit="pictures") as progress:
        result = score_pictures(
            found.pictures,
            FolderReference.read(against, like=prepared) if against else prepared,
            features=network,
            reference=reference,
            split=split,
            count=count,
            method=method,
            detailed=not brief,
            cache=default_cache(prepared),
            progress=progress,
        )
    if as_json:
        print_json(result.to_json())
    else:
        for line in result.lines():
            echo(line)
    if found.record and not against:
        _keep(result, found.record)


def _keep(record: Record, path: Path) -> None:
    """Writes what has been printed; the medium may be read-only."""
    try:
        record.save(path)
    except KitError as error:
        log.warning("not kept: %s", error)


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
    from kit.scoring import candidates
    from kit.scoring.reference import default_cache

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
    if as_json:
        print_json(comparison.to_json())
    else:
        print_table(*candidates.rows(comparison))
        for line in candidates.verdict(run, comparison):
            log.info(line)
    _keep(comparison, run / "candidates.json")


def check(
    archive: Annotated[Path, typer.Argument(metavar="ZIP", help="A zip of pictures.")],
    slug: SlugOption = DEFAULT,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pictures it must have; default: as many as the competition takes.", min=1),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a zip as the competition's scorer would; exit code 1 if it would be rejected.

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
            echo(line)
        verdict = "valid" if report.ok else "would be rejected"
        echo(f"{archive}: {report.count:,} pictures for {slug}: {verdict}")
    raise typer.Exit(0 if report.ok else 1)
