"""`kit reproduce`: the same bytes again, from the submission's own code, recipe and data."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kit.core import trust as trusting
from kit.core.errors import KitError
from kit.core.provenance import read_source
from kit.core.records import to_json
from kit.data.prepared_set import load as load_set
from kit.kaggle.kernel_spec import RECIPE, parse_spec
from kit.kaggle.kernels import Built, read_kernel
from kit.models import custom
from kit.submission.submission_record import SOURCE, Submission
from kit.training import run_folder
from kit.training.run_record import ResultRecord, RunRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far a reproduction agrees with the original."""

    identical: bool
    lines: tuple[str, ...]  # a line a link, then what differs between the machines where anything does


def reproduce(
    submission: Submission, *, data: Path | None = None, keep: Path | None = None, trust: bool = False
) -> Verdict:
    """Trains and generates again with the code in `source.zip`, and compares link by link.

    Args:
        submission: what to make again.
        data: the prepared set; None: where the run found it.
        keep: a new folder for the run that is made; None: a temporary one.
        trust: whether stored code that is not the installed kit's, and a model file, may be run.

    Raises:
        KitError: the set is missing, the stored code is damaged or not trusted, or it does not run to its end.
    """
    record = submission.run
    prepared = load_set(data or Path(record.data.path))
    if prepared.digest != record.data.digest:
        links = [("data", record.data.sources, prepared.sources_digest)]
        links += [("set", record.data.digest, prepared.digest)]
        lines = (*(_line(*link) for link in links), "prepare the same set with `kit data`, and name it with --data")
        return Verdict(identical=False, lines=lines)
    files = _stored_kit(submission, trust=trust)
    custom.check_trust(record.recipe.model, record.recipe.source, trust=trust, where=submission.folder)
    if keep and keep.exists():
        raise KitError(f"{keep} exists already", "choose another folder")
    count = _processes(record, submission.result)
    pictures = submission.result.pictures
    log.info("training on %s pictures again, with the code that ran", f"{pictures:,}")
    with tempfile.TemporaryDirectory(prefix="kit-reproduce-") as name:
        out = (keep or Path(name) / "run").absolute()
        record.save(Path(name) / run_folder.RECORD)
        arguments = ["replay", str(Path(name) / run_folder.RECORD), "--data", str(prepared.path.absolute())]
        arguments += ["--out", str(out), "--processes", str(count), *(["--trust"] if trust else [])]
        try:
            _run_stored(submission, files, arguments)
            again = run_folder.read_run(out)
        except BaseException:
            if keep:
                shutil.rmtree(keep, ignore_errors=True)
            raise
    return compare(record, again)


def rebuild_kernel(submission: Submission, root: Path, *, trust: bool = False) -> tuple[Verdict, Built]:
    """Writes a kernel submission's code again, into `root`, from its stored kit and recipe, and compares it.

    Raises:
        KitError: the stored code is damaged or not trusted, or does not write the kernel.
    """
    kernel = submission.kernel
    if kernel is None:
        raise KitError(f"{submission.name} was not made by a kernel", f"run `kit reproduce {submission.name}`")
    slug = kernel.parsed().slug
    spec = parse_spec(kernel.recipe, slug=slug)
    files = _stored_kit(submission, trust=trust)
    custom.check_trust(spec.model, spec.source, trust=trust, where=submission.folder)
    stored = submission.source
    with tempfile.TemporaryDirectory(prefix="kit-reproduce-") as name:
        recipe = Path(name) / RECIPE
        recipe.write_text(kernel.recipe, encoding="utf-8")
        arguments = ["rebuild-kernel", str(recipe), "--slug", slug, "--out", str(root.absolute())]
        arguments += ["--commit", stored.commit] if stored.commit else []
        arguments += [*(["--dirty"] if stored.dirty else []), *(["--trust"] if trust else [])]
        _run_stored(submission, files, arguments)
    code = root / slug / f"{slug}.{'ipynb' if spec.notebook else 'py'}"
    made = read_kernel(code)
    lines = (f"{'kit':8} {stored.tree[:16]}", _line("kernel", kernel.code_sha256, made.digest))
    built = Built(spec=spec, code=code, source=made.source, digest=made.digest)
    return Verdict(identical=made.digest == kernel.code_sha256, lines=lines), built


def compare(record: RunRecord, again: RunRecord) -> Verdict:
    """Compares two runs link by link: data, set, weights, pixels, zip; raises where one of them made no pictures.

    The files that a set was made from may be packed in another way; what counts is the set.
    """
    then, now = record.result, again.result
    if then is None or now is None:
        raise KitError("a run without images.zip cannot be compared")
    links = [
        ("set", record.data.digest, again.data.digest),
        ("weights", then.weights_sha256, now.weights_sha256),
        ("pixels", then.pixels_sha256, now.pixels_sha256),
        ("zip", then.sha256, now.sha256),
    ]
    identical = all(before == after for _, before, after in links)
    lines = [_line(*link) for link in [("data", record.data.sources, again.data.sources), *links]]
    if not identical:
        machines = (
            ("device", to_json(record.device), to_json(again.device)),
            ("versions", record.versions, again.versions),
        )
        for part, before, after in machines:
            for key, value in before.items():
                if after.get(key) != value:
                    lines.append(f"{part}: {key} is {after.get(key)} here and was {value}")
    lines.append("identical" if identical else "not identical")
    return Verdict(identical=identical, lines=tuple(lines))


def _stored_kit(submission: Submission, *, trust: bool) -> dict[str, bytes]:
    """The files of `source.zip`, checked, and trusted where they are not the installed kit's."""
    path = submission.folder / SOURCE
    files = read_source(path, expected=submission.source)
    tree = submission.source.tree
    if not trusting.is_installed_kit(tree):
        trusting.require_trust("the stored kit", tree, trust=trust, where=path)
    return files


def _run_stored(submission: Submission, files: dict[str, bytes], arguments: list[str]) -> None:
    """Runs a command of the stored kit; where it fails it has said why on stderr."""
    done = trusting.run_kit(files, arguments, where=submission.folder / SOURCE)
    if done.returncode:
        raise KitError(f"{submission.folder}: the stored kit did not come to its end (exit code {done.returncode})")


def _processes(record: RunRecord, result: ResultRecord) -> int:
    """How many processes shared each batch; raises where that changed: sums in another order have other last bits."""
    counts = {part.processes for part in record.parts if part.start < min(part.stop, result.pictures)}
    if len(counts) > 1:
        numbers = " and ".join(map(str, sorted(counts)))
        raise KitError(f"parts of this run were trained by {numbers} processes", "such a run cannot be made again")
    return max(counts, default=1)


def _line(link: str, then: str, now: str) -> str:
    """What there is to say of a link; an empty digest was not recorded."""
    if not then or not now:
        return f"{link:8} not recorded"
    return f"{link:8} identical  {now[:16]}" if then == now else f"{link:8} differs: {now[:16]} now, {then[:16]} then"
