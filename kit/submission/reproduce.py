"""`kit reproduce`: the same bytes again, from the submission's own code, recipe and data."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kit.core import provenance
from kit.core.errors import KitError
from kit.core.source_zip import read_source
from kit.data.prepared_set import load
from kit.models import custom
from kit.submission import ledger
from kit.submission.ledger import Submission
from kit.training.run_folder import read_run
from kit.training.run_record import RunRecord

REPLAY = """
import sys
from pathlib import Path
from kit.core.clock import Stopwatch
from kit.report.panel import TrainingScreen
from kit.core.errors import KitError
from kit.models import custom
from kit.run import replay
from kit.training.run_record import RunRecord
record, data, out = (Path(argument) for argument in sys.argv[1:])
clock = Stopwatch()
try:
    with TrainingScreen(clock) as screen:
        run = RunRecord.load(record)
        custom.require_trust(run.recipe.model, run.recipe.source, trust=True, where=record)
        replay(run, data=data, out=out, clock=clock, callback=screen)
except KitError as error:
    sys.exit(f"error: {error}")
"""
"""Run by the stored kit, not by this one. It relies on nothing else of the stored kit than `replay`."""

CHAIN = (("weights", "weights_sha256"), ("pixels", "pixels_sha256"), ("zip", "sha256"))
"""The links from the prepared set to the zip, in the order in which one decides the next."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far a reproduction agrees with the original."""

    identical: bool
    lines: tuple[str, ...]  # a line a link, then what differs between the machines where anything does


def reproduce(
    submission: Submission,
    *,
    data: Path | None = None,
    keep: Path | None = None,
    trust: bool = False,
    say: Callable[[str], None],
) -> Verdict:
    """Trains and generates again with the code in `source.zip`, and compares link by link.

    Args:
        submission: what to make again.
        data: the prepared set; None: where the run found it.
        keep: a new folder for the run that is made; None: a temporary one.
        trust: whether the code of a model file that made the run may be run.
        say: is told, in a line, what happens.

    Raises:
        KitError: the set is missing or another one, the stored code is damaged, or it does not run.
    """
    record = submission.run
    custom.require_trust(record.recipe.model, record.recipe.source, trust=trust, where=submission.folder)
    prepared = load(data or Path(record.data.path))
    if prepared.digest != record.data.digest:
        links = [("data", record.data.sources or None, prepared.sources_digest)]
        links += [("set", record.data.digest, prepared.digest)]
        lines = (*(_line(*link) for link in links), "prepare the same set with `kit data`, and name it with --data")
        return Verdict(identical=False, lines=lines)
    files = read_source(submission.folder / ledger.SOURCE)
    if provenance.tree_digest(files) != submission.source.tree:
        raise KitError(f"{submission.folder / ledger.SOURCE}: damaged (not the code that ran)", "restore it from git")
    if keep and keep.exists():
        raise KitError(f"{keep} exists already", "choose another folder")
    processes = _processes(record)
    seen = record.result.pictures if record.result else 0
    say(f"training on {seen:,} pictures again, with the code that ran")
    with tempfile.TemporaryDirectory(prefix="kit-reproduce-") as name:
        folder = Path(name)
        for path, content in files.items():
            target = folder / "source" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        record.save(folder / "run.json")
        out = (keep or folder / "run").absolute()
        (folder / "replay.py").write_text(REPLAY, encoding="utf-8")
        script = [str(folder / name) for name in ("replay.py", "run.json")]
        environment = {**os.environ, "PYTHONPATH": str(folder / "source")}
        launcher: list[str] = []
        if processes > 1:
            from kit.training.distributed import torchrun_options  # with torch, which takes seconds

            options, variables = torchrun_options(processes, folder)
            launcher, environment = ["-m", "torch.distributed.run", *options], environment | variables
        command = [sys.executable, *launcher, *script, str(prepared.path.absolute()), str(out)]
        code = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL).returncode
        if code:
            raise KitError(f"{submission.folder}: the stored code did not come to its end (exit code {code})")
        again = read_run(out)
    return compare(record, again)


def _processes(record: RunRecord) -> int:
    """How many processes shared each batch.

    Raises:
        KitError: it was not the same number all the time; sums in another order have other last bits.
    """
    seen = record.result.pictures if record.result else 0
    counts = {part.processes for part in record.parts if part.start < min(part.stop, seen)}
    if len(counts) > 1:
        numbers = " and ".join(map(str, sorted(counts)))
        raise KitError(f"parts of this run were trained by {numbers} processes", "such a run cannot be made again")
    return max(counts, default=1)


def compare(record: RunRecord, again: RunRecord) -> Verdict:
    """Compares two runs link by link: data, set, weights, pixels, zip.

    The files that a set was made from may be packed in another way; what counts is the set.

    Args:
        record: the first run's `run.json`.
        again: the second's.
    """
    links = [("set", record.data.digest, again.data.digest)]
    links += [(link, getattr(record.result, key, ""), getattr(again.result, key, "")) for link, key in CHAIN]
    identical = all(then == now for _, then, now in links)
    sources = record.data.sources or None, again.data.sources or None
    lines = [_line(*link) for link in [("data", *sources), *links]]
    if not identical:
        before, now = ({"device": asdict(one.device), "versions": one.versions} for one in (record, again))
        for part in before:
            for key, then in before[part].items():
                if now[part].get(key) != then:
                    lines.append(f"{part}: {key} is {now[part].get(key)} here and was {then}")
    lines.append("identical" if identical else "not identical")
    return Verdict(identical=identical, lines=tuple(lines))


def _line(link: str, then: str | None, now: str | None) -> str:
    """What there is to say of a link; None where a digest was not recorded."""
    if then is None or now is None:
        return f"{link:8} not recorded"
    return f"{link:8} identical  {now[:16]}" if then == now else f"{link:8} differs: {now[:16]} now, {then[:16]} then"
