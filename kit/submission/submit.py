"""What `kit submit` would send, and whether the competition would take it; nothing leaves the machine here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kit import competition
from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.progress import Progress, no_progress
from kit.generation.validate import Report, check
from kit.submission import ledger
from kit.submission.ledger import Submission


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `kit submit` would send."""

    submission: Submission
    competition: Competition
    file: Path
    message: str
    report: Report  # of `kit check`, by the competition's own rules

    @property
    def ok(self) -> bool:
        """Whether the competition's scorer would take the pictures."""
        return self.report.ok

    def lines(self) -> list[str]:
        """The plan for a person to read."""
        images = self.submission.images
        return [
            f"competition  {self.competition.slug} ({self.competition.title})",
            f"file         {self.file}, {images.count:,} pictures, {images.bytes:,} bytes",
            f"SHA-256      {images.sha256}",
            f"message      {self.message}",
            f"way          {self._way()}",
            *self.report.lines(),
            "nothing was sent" if self.ok else "nothing was sent, and this would be rejected",
        ]

    def _way(self) -> str:
        if not self.competition.kernels_only:
            return f"{self.file.name} would be uploaded as a file"
        if self.submission.kernel:
            return f"code submission: {ledger.IMAGES} of the kernel's version {self.submission.kernel.version}"
        return f"none for this zip: {LOCAL}; {self.remedy}"

    @property
    def remedy(self) -> str:
        """How a zip that was made on this machine comes to a score where only kernels are taken."""
        return (
            f"`kit submit {self.submission.name} --yes` builds a kernel with the same recipe and seed, pushes it, "
            "watches it train, and submits its version"
        )


LOCAL = "the competition takes only what a Kaggle kernel has made, and this was made on another machine"
"""Why a zip of `kit train` cannot be sent as it is."""


def dry_run(submission: Submission, *, message: str | None = None, progress: Progress = no_progress) -> Plan:
    """Checks a submission and says what would be sent; nothing leaves the machine.

    Args:
        submission: from `ledger.load`, `ledger.newest` or `ledger.find`.
        message: what Kaggle shows beside the score; default: name, model, pictures seen, seed and source.
        progress: called with (pictures checked, pictures in all).

    Raises:
        KitError: `images.zip` is missing, or is not the one that was packed.
    """
    rules = competition.get(submission.competition)
    file = submission.folder / ledger.IMAGES
    if not file.is_file():
        raise KitError(f"{file}: no such file", "pack its run again with `kit pack` (git does not keep it)")
    digest = sha256(file)
    if digest != submission.images.sha256:
        raise KitError(
            f"{file} is not the file that was packed (SHA-256 {digest[:12]}…, not {submission.images.sha256[:12]}…)",
            "pack its run again with `kit pack`",
        )
    report = check(file, competition=rules, progress=progress)
    return Plan(
        submission=submission,
        competition=rules,
        file=file,
        message=message or default_message(submission),
        report=report,
    )


def default_message(submission: Submission) -> str:
    """One line that finds the run again: name, model, pictures seen, seed and the first digits of the source tree."""
    run = submission.run
    seen = f"{run.pictures:,} pictures seen"
    return f"{submission.name}: {run.recipe.model}, {seen}, seed {run.seed}, source {run.tree[:12]}"
