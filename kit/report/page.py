"""`report.html`: everything about a run on one page that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from kit import __version__
from kit.core.clock import show_duration
from kit.core.files import atomic
from kit.report import command, embed, scores
from kit.report.charts import PLOTS, SCORED, chart, time_labels
from kit.report.gallery import Gallery
from kit.report.nearest import Nearest
from kit.report.pictures import Grid
from kit.report.run_data import Facts, read
from kit.report.table import STATES
from kit.report.timeline import rate, timeline
from kit.training.run_folder import PROGRESS, read_run

REPORT = "report.html"

FILM_BYTES, GRID_BYTES, WALK_BYTES, BREEDS_BYTES, NEAREST_BYTES = 3_000_000, 1_700_000, 700_000, 1_000_000, 300_000
"""What the pictures may weigh, before they grow by a third as text: the page stays under 10 MB."""

GAP = 2
"""Pixels between the pictures of a grid (`kit.data.grid.mosaic`)."""


def write_report(
    run: Path,
    *,
    gallery: Gallery | None = None,
    nearest: Nearest | None = None,
    most_frames: int = embed.FRAMES,
    now: datetime | None = None,
) -> Path:
    """Writes `report.html` into a run's folder, whatever state the run is in.

    Args:
        run: the run's folder.
        gallery: a walk and the breeds, see `kit.report.gallery`; None: the page has neither.
        nearest: neighbours in the training set, see `kit.report.nearest`; None: the page is without.
        most_frames: of the film in the page.
        now: the time it is written; None: the clock's.

    Returns:
        The page: self-contained, under 10 MB.

    Raises:
        KitError: no run there, a damaged `run.json`, or a full disk.
    """
    now = now or datetime.now(UTC)
    facts = read(run, now=now)
    frames = embed.frames(facts.grids, most=FILM_BYTES, count=most_frames)
    gallery = gallery or Gallery()
    walk = [sheet.uri for sheet in embed.sheets(gallery.walk, most=WALK_BYTES)]
    strips = embed.sheets([breed.strip for breed in gallery.breeds], most=BREEDS_BYTES)
    plots = [*((plot, facts.ticks) for plot in PLOTS), *((plot, facts.scored) for plot in SCORED)]
    charts = [laid for plot, ticks in plots if (laid := chart(plot, [(line, ticks) for line in plot.lines]))]
    page = render(
        "report.html",
        now=now,
        facts=facts,
        state=STATES[facts.state],
        reason=reason(facts),
        figures=_figures(facts),
        frames=frames,
        film={"frames": [frame.uri for frame in frames], "pictures": [frame.pictures for frame in frames]},
        walk={"frames": walk},
        breeds=[(breed.name, strip) for breed, strip in zip(gallery.breeds, strips, strict=True)],
        nearest=nearest,
        nearest_sheet=embed.sheets([nearest.sheet], most=NEAREST_BYTES)[0] if nearest else None,
        grid=embed.picture(facts.grids[-1].path, most=GRID_BYTES) if facts.grids else None,
        grid_alt=grid_alt(facts),
        charts=charts,
        score=scores.rows(facts.score) if facts.score else [],
        caveats=scores.caveats(facts),
        timeline=timeline(facts),
        timeline_labels=time_labels(timeline(facts).length) if timeline(facts).segments else None,
        device=[(name, command.show(value)) for name, value in facts.device.items() if value is not False],
        recipe=command.recipe(facts),
        train=command.train_command(facts),
        replay=command.replay_commands(facts),
    )
    path = run / REPORT
    with atomic(path) as file:
        file.write(page)
    return path


def came_with_its_page(run: Path) -> bool:
    """Whether a run came out of a kernel with its page, and without the curves and grids that a new one would show.

    Raises:
        KitError: no run, or a damaged `run.json`.
    """
    return read_run(run).kernel is not None and (run / REPORT).is_file() and not (run / PROGRESS).is_file()


def reason(facts: Facts) -> str:
    """The state in a sentence: what ended the run, or how far what is shown reaches."""
    last = f"{facts.pictures:,} pictures"
    match facts.state:
        case "finished":
            return f"{_sentence(facts.why)} It ended after {last}."
        case "stopped":
            return f"{_sentence(facts.why)} It was cut short at {last}, and can go on with kit train … --resume."
        case "failed":
            return f"{_sentence(facts.why)} It failed at {last}."
        case "running":
            return f"The run goes on. Everything here is right up to its last tick, at {last}."
        case "silent":
            return (
                f"Nothing has been written since {when(facts.written)}: the run was probably killed. "
                f"Everything here is right up to its last tick, at {last}."
            )


def grid_alt(facts: Facts) -> str:
    """What a reader is told who cannot see the last grid."""
    if not facts.grids:
        return ""
    last = facts.grids[-1]
    tiles = _tiles(last, int(facts.data["size"]))
    amount = f"{tiles[0] * tiles[1]} generated pictures in {tiles[0]} columns" if tiles else "Generated pictures"
    return f"{amount}, drawn after {last.pictures:,} real pictures had been seen"


def when(moment: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def render(template: str, **values: Any) -> bytes:
    """A page from its template, with the policy that keeps the browser from asking for anything from anywhere."""
    environment = _environment()
    script, _, _ = environment.loader.get_source(environment, "page.js")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    text = environment.get_template(template).render(script=script, policy=policy, kit=__version__, **values)
    # A name from the file system may hold half a character, which UTF-8 cannot.
    return text.encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
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
    return environment


def _figures(facts: Facts) -> list[tuple[str, str, str]]:
    """The page's first numbers: what, how much, and what to know about it."""
    figures = [("pictures seen", f"{facts.pictures:,}", "")]
    speed = rate(facts)
    if speed:
        training = show_duration(timeline(facts).training)
        figures.append(("training", training, f"of {show_duration(facts.elapsed_s)} in all"))
        figures.append(("speed", f"{speed:,.0f}", "pictures per second"))
    if facts.result:
        figures.append(("generated", f"{int(facts.result['count']):,}", str(facts.result["file"])))
    if facts.score:
        name = f"on {facts.score.features.name} features"
        if facts.score.mifid is not None:
            figures.append(("MiFID", f"{facts.score.mifid:.2f}", name))
        figures.append(("FID", f"{facts.score.fid:.2f}", name))
    return figures


def _tiles(grid: Grid, size: int) -> tuple[int, int] | None:
    """Columns and rows of a grid of pictures with a side of `size` pixels."""
    try:
        with Image.open(grid.path) as opened:
            width, height = opened.size
    except OSError:
        return None
    columns, rows = (width + GAP) / (size + GAP), (height + GAP) / (size + GAP)
    return (int(columns), int(rows)) if columns.is_integer() and rows.is_integer() else None


def _sentence(text: str) -> str:
    text = text.strip() or "no reason was given"
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
