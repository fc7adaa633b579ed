"""The run's folder and record: begun, or taken up where an earlier process left them."""

from __future__ import annotations

from kit.core.errors import KitError
from kit.core.files import set_aside, sweep
from kit.core.records import to_json
from kit.core.source_zip import write_source
from kit.generation import pack
from kit.models.custom import shown
from kit.run import schedules
from kit.run.context import BALLAST, RunContext
from kit.training.run_folder import read_run
from kit.training.run_record import PartRecord, RunRecord

SOURCE = "source.zip"

IDENTITY = ("seed", "images", "count", "competition", "kit")
GROUPS = ("recipe", "versions")
DATA = ("name", "digest", "size", "channels")
"""What of `run.json` decides the bytes of a run, beside the machine."""

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
    record = read_run(out)
    ours, work.run.record = work.run.record, record
    if record.state == "finished":
        work.say(f"{out}: finished already, nothing was changed")
        return True
    _require_same(record, ours)
    record.budget_s, record.device, record.data = ours.budget_s, ours.device, ours.data
    record.commit, record.dirty, record.tree = ours.commit, ours.dirty, ours.tree
    if work.checkpoint.exists():
        work.session.load(work.checkpoint)
        work.say(f"{out}: goes on from {work.state.pictures:,} pictures")
    else:
        work.say(f"{out}: no checkpoint yet, so training starts anew")
    work.run.forget_after(work.state.pictures)
    work.selection.forget_after(work.state.pictures)
    work.used_s = sum(part.seconds for part in record.parts)
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
    record, pictures = work.run.record, work.state.pictures
    if not record.parts:
        write_source(work.run.path / SOURCE)
    record.name, record.state, record.pictures = work.job.out.name, "running", pictures
    record.why, record.signal = "", None
    record.parts.append(PartRecord(start=pictures, stop=pictures, seconds=0.0, processes=work.session.crew.size))
    if work.session.thrift != schedules.thrift(work):
        schedules.note_thrift(work, reached=pictures)
    work.run.save()


def _require_same(theirs: RunRecord, ours: RunRecord) -> None:
    """Refuses to go on with a run that was another one, and shows the difference."""
    before, now = (to_json(record) for record in (theirs, ours))
    pairs = [(key, before[key], now[key]) for key in IDENTITY]
    pairs += [(key, before[group].get(key), now[group].get(key)) for group in GROUPS for key in now[group]]
    pairs += [(f"data {key}", before["data"][key], now["data"][key]) for key in DATA]
    pairs += [("deterministic", theirs.device.deterministic, ours.device.deterministic)]
    different = [f"{name} {_brief(name, old)} → {_brief(name, new)}" for name, old, new in pairs if old != new]
    if different:
        raise KitError(
            f"the run {theirs.name} cannot go on as another run ({', '.join(different)})",
            "give the same flags, data and versions as before, or start a new run",
        )


def _brief(name: str, value: object) -> str:
    """A value for a message: of digests the beginning, as everywhere else."""
    return shown(value)[:12] if name.endswith("digest") else shown(value)
