"""What came of each run of `bench/faults.py`: a line of JSON a run, and the table of many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

STATES = ("starting", "training", "writing a checkpoint", "writing images.zip", "film and page")
"""What a run can be at when something happens to it; what else it writes counts as training."""


@dataclass
class Outcome:
    """One run to which something happened."""

    fault: str
    seed: int
    number: int
    tree: str = ""  # digest of the code that ran
    moment_s: float | None = None  # seconds after the run's start at which it happened
    during: str | None = None  # one of `STATES`
    refused: bool = False  # the machine could not do what was asked for, which was said before anything was done
    zips: list[bool] = field(default_factory=list)  # of those that were there or due: valid?
    checkpoints: list[bool] = field(default_factory=list)  # loadable?
    resumed_from: int | None = None  # pictures
    identical: bool | None = None  # the bytes of the uninterrupted run, or of its replay?
    gone_s: float | None = None  # seconds from SIGTERM to the end, with a zip there
    over_s: float | None = None  # seconds over the budget; below 0: under it
    share: float | None = None  # of the budget that was spent training
    broken: list[str] = field(default_factory=list)  # promises
    wall_s: float = 0.0  # that all this took

    def promise(self, kept: bool, what: str) -> bool:
        """Notes a promise that was not kept."""
        if not kept:
            self.broken.append(what)
        return kept


def append(path: Path, outcome: Outcome) -> None:
    """Adds a line to a log; several benches may write into one."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def read(paths: Iterable[Path]) -> Iterator[Outcome]:
    """The runs of some logs. A bench that was killed can leave half a line, which is passed over."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield Outcome(**json.loads(line))
            except ValueError:
                continue


COLUMNS = ("fault", "runs", "zips valid", "checkpoints load", "same bytes again", "went on above 0")
COLUMNS += ("gone after, s", "over budget, s", "share training", "broken")


def table(outcomes: Iterable[Outcome], names: dict[str, str]) -> str:
    """A row a fault, and below it what the runs were at when it happened.

    Args:
        outcomes: of any number of runs.
        names: of the faults, in their order.
    """
    every = list(outcomes)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for fault, name in names.items():
        if some := [one for one in every if one.fault == fault]:
            lines.append(_row(name, some))
    moments = Counter(one.during for one in every if one.during)
    lines += ["", "It happened while " + ", ".join(f"{state} {moments[state]}" for state in STATES) + "."]
    lines += [f"Trees: {', '.join(sorted({one.tree for one in every}))}."]
    return "\n".join(lines)


def _row(name: str, some: list[Outcome]) -> str:
    refused = sum(one.refused for one in some)
    resumed = [one.resumed_from > 0 for one in some if one.resumed_from is not None]
    gone = [one.gone_s for one in some if one.gone_s is not None]
    over = [one.over_s for one in some if one.over_s is not None]
    shares = sorted(one.share for one in some if one.share is not None)
    cells = [
        name,
        f"{len(some)} ({refused} refused)" if refused else f"{len(some)}",
        _rate(valid for one in some for valid in one.zips),
        _rate(loads for one in some for loads in one.checkpoints),
        _rate(one.identical for one in some if one.identical is not None),
        _rate(resumed),
        f"{max(gone):.1f} at most" if gone else "–",
        f"{max(over):.1f} at most" if over else "–",
        f"{shares[0]:.0%} to {shares[-1]:.0%}" if shares else "–",
        f"{sum(bool(one.broken) for one in some)}",
    ]
    return f"| {' | '.join(cells)} |"


def _rate(values: Iterable[bool | None]) -> str:
    """A share, with what it is of."""
    every = list(values)
    return f"{sum(map(bool, every))}/{len(every)}" if every else "–"
