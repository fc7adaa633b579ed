"""The run's folder and record: begun, or taken up where an earlier process left them."""

from __future__ import annotations

import dataclasses
from typing import Any

from kit import __version__
from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import set_aside, sweep
from kit.core.source_zip import write_source
from kit.generation import pack
from kit.models.custom import shown
from kit.run import schedules
from kit.run.context import BALLAST, RunContext
from kit.training.run_folder import VERSION, read_run

SOURCE = "source.zip"

BEGUN = (BALLAST, SOURCE)
"""What lies in a run's folder before its record."""


def take_up(work: RunContext) -> bool:
    """Goes back to where an earlier process left the run; true if there is nothing left to do.

    Raises:
        KitError: the folder is no run's, or that of another run; the message shows the difference.
    """
    out = work.job.out
    sweep(out)
    if all(path.name in BEGUN for path in out.glob("*")):  # killed before there was a record, or never begun
        work.say(f"{out}: no run there yet, so it starts anew")
        return False
    work.run.record = record = read_run(out)
    if record["state"] == "finished":
        work.say(f"{out}: finished already, nothing was changed")
        return True
    _require_same(work, record)
    if work.checkpoint.exists():
        work.session.load(work.checkpoint)
        work.say(f"{out}: goes on from {work.state.pictures:,} pictures")
    else:
        work.say(f"{out}: no checkpoint yet, so training starts anew")
    work.run.forget_after(work.state.pictures)
    work.selection.forget_after(work.state.pictures)
    work.used_s = sum(part["seconds"] for part in record["parts"])
    work.clock.add(work.used_s)
    work.session.thrift = schedules.thrift(work)
    return False


def begin_part(work: RunContext) -> None:
    """Makes the run's folder, or the next part of one, and sets room aside for its end.

    Raises:
        KitError: there is no room for it.
    """
    weights = sum(p.numel() * p.element_size() for net in (work.state.G, work.state.D) for p in net.parameters())
    work.ballast.unlink(missing_ok=True)  # of a part that was killed
    # The checkpoint holds weights, average and two moments of Adam.
    set_aside(work.ballast, 4 * weights + pack.most_bytes(work.rules, work.count))
    source = provenance.source_tree()
    before = work.run.record
    parts = before.get("parts", [])
    if not parts:
        write_source(work.run.path / SOURCE)
    pictures = work.state.pictures
    part = {"from": pictures, "to": pictures, "seconds": 0.0, "processes": work.session.crew.size}
    work.run.update(
        version=VERSION,
        name=work.job.out.name,
        state="running",
        why="",
        signal=None,
        **_identity(work),
        budget_s=work.job.budget_s,
        device=work.device.record(),
        commit=source.commit,
        dirty=source.dirty,
        tree=source.digest,
        plans=before.get("plans", []),
        rescues=before.get("rescues", []),
        rollbacks=before.get("rollbacks", []),
        memory=before.get("memory", []),
        candidates=before.get("candidates", []),
        pictures=pictures,
        parts=[*parts, part],
        result=before.get("result"),
    )
    work.run.record["data"] |= {"path": str(work.job.data), "sources": work.prepared.sources_digest}
    if work.session.thrift != schedules.thrift(work):
        schedules.note_thrift(work, reached=pictures)


def _require_same(work: RunContext, record: dict[str, Any]) -> None:
    """Refuses to go on with a run that was another one, and shows the difference."""
    for key, ours in {**_identity(work), "device": {"deterministic": work.device.deterministic}}.items():
        theirs = record.get(key)
        if not isinstance(ours, dict):
            ours, theirs = {key: ours}, {key: theirs}
        different = [
            f"{'data ' * (key == 'data')}{name} {_brief(name, _get(theirs, name))} → {_brief(name, value)}"
            for name, value in ours.items()
            if _get(theirs, name) != value
        ]
        if different:
            raise KitError(
                f"{work.job.out} cannot go on as another run ({', '.join(different)})",
                "give the same flags, data and versions as before, or start a new run",
            )


def _identity(work: RunContext) -> dict[str, Any]:
    """What decides the bytes of a run, beside the machine."""
    return {
        "recipe": dataclasses.asdict(work.recipe),
        "seed": work.job.seed,
        "images": work.job.images,
        "count": work.count,
        "competition": work.rules.slug,
        "data": {
            "name": work.prepared.name,
            "digest": work.prepared.digest,
            "size": work.prepared.size,
            "channels": work.prepared.channels,
        },
        "kit": __version__,
        "versions": provenance.versions(),
    }


def _brief(name: str, value: object) -> str:
    """A value for a message: of digests the beginning, as everywhere else."""
    return shown(value)[:12] if name == "digest" else shown(value)


def _get(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None
