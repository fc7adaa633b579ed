"""`report.html`: everything about a run on one page that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kit import __version__
from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.files import atomic
from kit.data.archives import BadFile
from kit.data.decoding import open_image
from kit.models.custom import shown
from kit.models.recipe import settings
from kit.report import page_pictures
from kit.report.charts import PLOTS, SCORED, chart, time_labels
from kit.report.page_pictures import Gallery, Nearest
from kit.report.run_data import LABELS, RunData, rate, read, timeline
from kit.scoring.score_record import FLAGS, METHODS, SCORER, Details, Score
from kit.training.run_folder import PROGRESS, read_run

REPORT = "report.html"

FILM_BYTES, GRID_BYTES, VIDEO_BYTES, CLASSES_BYTES, NEAREST_BYTES = 3_000_000, 1_700_000, 700_000, 1_000_000, 300_000
"""What the pictures may weigh, before they grow by a third as text: the page stays under 10 MB."""

MARK = b'name="generator" content="kit"'
"""Stands in the head of every page that the kit wrote."""

GAP = 2
"""Pixels between the pictures of a grid (`kit.data.grid.make_grid`)."""

STATES = {
    "finished": "Finished",
    "stopped": "Cut short",
    "failed": "Failed",
    "running": "Still running",
    "silent": "Went silent",
}


def write_report(
    folder: Path,
    *,
    gallery: Gallery | None = None,
    nearest: Nearest | None = None,
    most_frames: int = page_pictures.FRAMES,
    now: datetime | None = None,
) -> Path:
    """Writes `report.html` into a run's folder, whatever state the run is in.

    Args:
        folder: the run's folder.
        gallery: an interpolation and every class; None: the page has neither.
        nearest: neighbours in the training set; None: the page is without.
        most_frames: of the film in the page.
        now: the time it is written; None: the clock's.

    Returns:
        The page: self-contained, under 10 MB.

    Raises:
        KitError: no run there, a damaged `run.json`, or a full disk.
    """
    now = now or datetime.now(UTC)
    run = read(folder, now=now)
    frames = page_pictures.frames(run.grids, most=FILM_BYTES, count=most_frames)
    gallery = gallery or Gallery()
    interpolation = [sheet.uri for sheet in page_pictures.sheets(gallery.interpolation, most=VIDEO_BYTES)]
    strips = page_pictures.sheets(list(gallery.classes.values()), most=CLASSES_BYTES)
    times = timeline(run)
    charts = [chart(plot, [(line, run.ticks) for line in plot.lines]) for plot in PLOTS]
    charts += [chart(plot, [(line, run.scored) for line in plot.lines]) for plot in SCORED]
    page = render(
        "report.html",
        now=now,
        run=run,
        state=STATES[run.state],
        reason=reason(run),
        figures=_figures(run),
        frames=frames,
        film={"frames": [frame.uri for frame in frames], "pictures": [frame.pictures for frame in frames]},
        interpolation={"frames": interpolation},
        classes=dict(zip(gallery.classes, strips, strict=True)),
        nearest=nearest,
        nearest_sheet=page_pictures.sheets([nearest.sheet], most=NEAREST_BYTES)[0] if nearest else None,
        grid=page_pictures.picture(run.grids[-1].path, most=GRID_BYTES) if run.grids else None,
        grid_alt=grid_alt(run),
        charts=[laid for laid in charts if laid],
        score=score_rows(run.score) if run.score else [],
        caveats=caveats(run),
        timeline=times,
        stages=LABELS,
        timeline_labels=time_labels(times.length) if times.segments else None,
        device=[(name, show(value)) for name, value in asdict(run.record.device).items() if value is not False],
        recipe=recipe_rows(run),
        train=train_command(run),
        replay=replay_commands(run),
    )
    path = folder / REPORT
    with atomic(path) as file:
        file.write(page)
    return path


def came_with_its_page(folder: Path) -> bool:
    """Whether a run came out of a kernel with its page, and without the curves and grids that a new one would show.

    Raises:
        KitError: no run, or a damaged `run.json`.
    """
    return read_run(folder).kernel is not None and (folder / REPORT).is_file() and not (folder / PROGRESS).is_file()


def reason(run: RunData) -> str:
    """The state in a sentence: what ended the folder, or how far what is shown reaches."""
    last = f"{run.pictures:,} pictures"
    match run.state:
        case "finished":
            return f"{_sentence(run.record.why)} It ended after {last}."
        case "stopped":
            return f"{_sentence(run.record.why)} It was cut short at {last}, and can go on with kit train … --resume."
        case "failed":
            return f"{_sentence(run.record.why)} It failed at {last}."
        case "running":
            return f"The run goes on. Everything here is right up to its last tick, at {last}."
        case "silent":
            return (
                f"Nothing has been written since {when(run.written)}: the run was probably killed. "
                f"Everything here is right up to its last tick, at {last}."
            )


def require_page(path: Path, *, overwrite: bool) -> None:
    """Makes sure that a page may be written.

    Raises:
        KitError: there is a file that the kit did not write.
    """
    if overwrite or not path.exists():
        return
    if path.is_dir():
        raise KitError(f"{path} is a folder", "name a file")
    with path.open("rb") as file:
        if MARK not in file.read(2000):
            raise KitError(f"{path} exists, and the kit did not make it", "choose another name, or add --overwrite")


def grid_alt(run: RunData) -> str:
    """What a reader is told who cannot see the last grid."""
    if not run.grids:
        return ""
    last, side, amount = run.grids[-1], run.record.data.size + GAP, "Generated pictures"
    try:
        with last.path.open("rb") as file:
            width, height = open_image(file).size
        columns, rows = (width + GAP) / side, (height + GAP) / side
        if columns.is_integer() and rows.is_integer():
            amount = f"{columns * rows:.0f} generated pictures in {columns:.0f} columns"
    except (OSError, BadFile):
        pass
    return f"{amount}, drawn after {last.pictures:,} real pictures had been seen"


def when(moment: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def render(template: str, **values: Any) -> bytes:
    """A page from its template, with the policy that keeps the browser from asking for anything from anywhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("kit.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {
        "count": lambda value: f"{value:,}",
        "duration": show_duration,
        "fixed": lambda value, digits: f"{value:,.{digits}f}",
        "sentence": _sentence,
        "megabytes": lambda value: f"{value / 1e6:,.1f} MB",
        "when": when,
    }
    environment.filters |= filters
    script, _, _ = loader.get_source(environment, "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    text = environment.get_template(template).render(script=script, policy=policy, kit=__version__, **values)
    # A name from the file system may hold half a character, which UTF-8 cannot.
    return text.encode("utf-8", "replace")


def _figures(run: RunData) -> list[tuple[str, str, str]]:
    """The page's first numbers: what, how much, and what to know about it."""
    figures = [("pictures seen", f"{run.pictures:,}", "")]
    speed = rate(run)
    if speed:
        training = show_duration(timeline(run).totals()["training"])
        figures.append(("training", training, f"of {show_duration(run.elapsed_s)} in all"))
        figures.append(("speed", f"{speed:,.0f}", "pictures per second"))
    if run.record.result:
        figures.append(("generated", f"{run.record.result.count:,}", run.record.result.file))
    if run.score:
        name = f"on {run.score.features.name} features"
        if run.score.mifid is not None:
            figures.append(("MiFID", f"{run.score.mifid:.2f}", name))
        figures.append(("FID", f"{run.score.fid:.2f}", name))
    return figures


def _sentence(text: str) -> str:
    text = text.strip() or "no reason was given"
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


# ---- the recipe, and the commands that make the run again


class Setting(NamedTuple):
    """A line of the recipe."""

    key: str
    value: str
    default: str  # of the model; empty where it is not known
    changed: bool
    unit: str
    about: str


def recipe_rows(run: RunData) -> list[Setting]:
    """What the run's model could be set to, with what it was set to; a model from elsewhere has no defaults."""
    from kit.models.registry import MODELS

    recipe = run.record.recipe
    entry = None if recipe.source else MODELS.get(recipe.model)
    known, values = settings(), asdict(recipe)
    rows = []
    for key in entry.settings() if entry else [key for key in values if key != "model"]:
        meta = known[key].metadata if key in known else {}
        default = getattr(entry.recipe, key) if entry else values[key]
        rows.append(
            Setting(
                key=key,
                value=show(values[key]),
                default=show(default) if entry else "",
                changed=values[key] != default,
                unit=meta.get("unit", ""),
                about=meta.get("about", ""),
            )
        )
    return rows


def train_command(run: RunData) -> str:
    """The `kit train` that began this run."""
    record, budget_s = run.record, run.record.budget_s
    words = ["kit", "train", "--model", f"{record.recipe.model}.py" if record.recipe.source else record.recipe.model]
    if budget_s is None:
        words += ["--images", str(record.images)]
    else:
        words += ["--budget", show_duration(budget_s) if budget_s == round(budget_s) else f"{budget_s:g}s"]
    words += ["--data", record.data.path] if record.data.path else []
    words += ["--seed", str(record.seed), "--count", str(record.count)]
    for setting in recipe_rows(run):
        if setting.changed or (record.width and setting.key == "width"):
            words += ["--set", f"{setting.key}={setting.value}"]
    return shlex.join(words)


def replay_commands(run: RunData) -> list[str]:
    """The two commands that make the run's `images.zip` again, byte for byte; none where there is no zip yet."""
    if not run.record.result:
        return []
    submission = f"submissions/{run.path.name}"
    return [shlex.join(["kit", "pack", str(run.path)]), shlex.join(["kit", "reproduce", submission])]


def show(value: Any) -> str:
    """A setting's value as `--set` takes it; a model file's text by its digest."""
    return str(value).lower() if isinstance(value, bool) else shown(value)


# ---- the score: every number with what it is, and what to know before it is believed


def caveats(run: RunData) -> list[str]:
    """What to know before a run's score is believed."""
    score = run.score
    if not score:
        return []
    said = [FLAGS[flag] for flag in score.flags]
    if run.stale_score:
        said.insert(0, "this is the score of another images.zip than the one in the folder now")
    if score.too_near:
        said.append("the pictures lie too near to the training set to be sent, or below its threshold")
    if score.features.name != SCORER:
        said.append("no leaderboard number: those are taken on the competition's own network")
    return said


def score_rows(score: Score) -> list[tuple[str, str, str]]:
    """A score's numbers, their intervals, and everything that they are numbers of: name, number, what it is."""
    against, features = score.reference, score.features
    real = "whole pictures" if against.kind == "whole" else "crops"
    split = {"all": "all of them", "train": "those trained on", "holdout": "those held out"}[against.split]
    side = features.input_size
    method = "" if score.method == "symmetric" else f"; {METHODS[score.method]}"
    threshold = f"ε: {score.epsilon_origin}"
    if score.epsilon is not None and score.margin is not None:
        where = "above" if score.margin >= 0 else "below"
        threshold = f"{abs(score.margin):.0%} {where} ε = {score.epsilon:.4g} ({score.epsilon_origin})"
    return [
        ("MiFID", "none" if score.mifid is None else f"{score.mifid:.4f}", "FID divided by the distance, if below ε"),
        ("FID", f"{score.fid:.4f}", f"Fréchet distance between the two sets' features; lower is better{method}"),
        *(_details(score.details) if score.details else []),
        ("Memorization distance", f"{score.distance:.4f}", f"generated to nearest real, 0 to 1; {threshold}"),
        ("Generated pictures", f"{score.count:,}", f"{score.size} × {score.size} pixels"),
        ("Real pictures", f"{against.count:,}", f"{real} of {against.name}, {split}; set {against.digest[:12]}"),
        ("Features", str(features), f"weights {features.weights[:12]}"),
        ("Input", f"{side} × {side}", f"pixels, resized by {features.resize}, computed in {features.dtype}"),
    ]


def _details(details: Details) -> list[tuple[str, str, str]]:
    """What stands beside the FID; intervals are missing where there are too few pictures for them."""
    intervals = [("MiFID", details.mifid_interval), ("FID", details.fid_interval)]
    found = [
        (f"{name}, interval", f"{i.low:.2f} to {i.high:.2f}", f"for N → ∞, {i.level:.0%}, {i.method}")
        for name, i in intervals
        if i
    ]
    if details.fid_infinity is not None:
        found.append(("FID∞", f"{details.fid_infinity:.4f}", "for N → ∞, by extrapolation"))
    most = f"at most {details.prdc_count:,} pictures a side"
    return [
        *found,
        ("KID", f"{details.kid:.5f} ± {details.kid_std:.5f}", f"over subsets of {details.kid_subset:,} pictures"),
        ("Precision", f"{details.precision:.3f}", f"quality: generated ones as near to real ones as those are; {most}"),
        ("Recall", f"{details.recall:.3f}", "variety: real ones as near to generated ones as those are"),
        ("Density", f"{details.density:.3f}", "quality, moved less by outliers; may exceed 1"),
        ("Coverage", f"{details.coverage:.3f}", "variety, moved less by outliers: real ones with a generated one near"),
    ]
