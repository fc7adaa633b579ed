"""Sending a submission exactly once, the way that its competition takes it, and waiting for its score."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kit import competition as competitions
from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.progress import Progress, no_progress
from kit.generation.validate import Report, check
from kit.kaggle import exactly_once, submissions_api
from kit.kaggle.client import Client
from kit.kaggle.exactly_once import Sending
from kit.kaggle.failures import KaggleError
from kit.kaggle.submissions_api import Entry
from kit.kaggle.versions import Version
from kit.submission import submission_record
from kit.submission.submission_record import IMAGES, Answer, Submission, SubmissionReceipt, locked

log = logging.getLogger(__name__)

SCORE_WAIT_S = 2 * 3600.0  # how long a score is waited for; ten thousand pictures take Kaggle some minutes
LISTED = 200  # submissions of the account that are looked through for a receipt, the newest first

LOCAL = "the competition takes only what a Kaggle kernel has made, and this was made on another machine"
"""Why a zip of `kit train` cannot be sent as it is."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `kit submit` would send."""

    submission: Submission
    competition: Competition
    message: str
    report: Report  # of `kit check`, by the competition's own rules

    @property
    def ok(self) -> bool:
        """Whether the competition's scorer would take the pictures."""
        return self.report.ok

    @property
    def remedy(self) -> str:
        """How a zip that was made on this machine comes to a score where only kernels are taken."""
        return (
            f"`kit submit {self.submission.name} --yes` builds a kernel with the same recipe and seed, pushes it, "
            "watches it train, and submits its version"
        )

    def lines(self) -> list[str]:
        """The plan for a person to read."""
        images, kernel = self.submission.images, self.submission.kernel
        if not self.competition.kernels_only:
            way = f"{IMAGES} would be uploaded as a file"
        elif kernel:
            way = f"code submission: {IMAGES} of the kernel's version {kernel.version}"
        else:
            way = f"none for this zip: {LOCAL}; {self.remedy}"
        return [
            f"competition  {self.competition.slug} ({self.competition.title})",
            f"file         {self.submission.images_zip}, {images.count:,} pictures, {images.bytes:,} bytes",
            f"SHA-256      {images.sha256}",
            f"message      {self.message}",
            f"way          {way}",
            *self.report.lines(),
            "nothing was sent" if self.ok else "nothing was sent, and this would be rejected",
        ]


def make_plan(submission: Submission, *, message: str | None = None, progress: Progress = no_progress) -> Plan:
    """Checks a submission and says what would be sent; nothing leaves the machine.

    Args:
        submission: from `submission_record`.
        message: what Kaggle shows beside the score; None: `default_message`.
        progress: counts pictures.

    Raises:
        KitError: `images.zip` is missing, or is not the one that was packed.
    """
    file = submission.images_zip
    if not file.is_file():
        raise KitError(f"{file}: no such file", "pack its run again with `kit pack` (git does not keep it)")
    digest = sha256(file)
    if digest != submission.images.sha256:
        raise KitError(
            f"{file} is not the file that was packed (SHA-256 {digest[:12]}…, not {submission.images.sha256[:12]}…)",
            "pack its run again with `kit pack`",
        )
    rules = competitions.get(submission.competition)
    report = check(file, competition=rules, progress=progress)
    return Plan(submission=submission, competition=rules, message=message or default_message(submission), report=report)


def default_message(submission: Submission) -> str:
    """One line that finds the run again: name, model, pictures seen, seed and the first digits of the source tree."""
    run = submission.run
    seen = f"{run.pictures:,} pictures seen"
    return f"{submission.name}: {run.recipe.model}, {seen}, seed {run.seed}, source {run.tree[:12]}"


def send(client: Client, plan: Plan, *, again: bool = False, progress: Progress = no_progress) -> Submission:
    """Sends a submission the way its competition takes it, unless it was sent before.

    Args:
        client: from `client.connect`.
        plan: from `make_plan`.
        again: send it once more where an earlier sending may have got lost and cannot be found.
        progress: counts bytes; is not called for a code submission.

    Returns:
        the submission, with the receipt under which Kaggle has it; see `wait_for_score`.

    Raises:
        KitError: the competition would not take it, Kaggle refuses it, or it is not clear whether it arrived.
    """
    with locked(plan.submission.folder):
        sender = _Sender(client, submission_record.load(plan.submission.folder), plan, progress)
        if receipt := sender.submission.sent:
            sender.sending.reconcile(receipt, again=again)
        submission = sender.submission
        if submission.sent:
            log.info("%s was sent %s: not again", submission.name, submission.sent.when)
            return submission
        if not plan.ok:
            raise KitError(
                f"{submission.name} would be rejected: {plan.report.errors[0]}",
                f"see `kit check {submission.images_zip}`",
            )
        version = _require_way(client, plan)
        new = exactly_once.new_receipt(client)
        receipt = SubmissionReceipt(
            id=new.id,
            account=new.account,
            when=new.when,
            message=f"[{new.id}] {plan.message}",  # at the front: Kaggle cuts long messages
            kernel=str(version) if version else None,
        )
        sender.sending.send_once(receipt)
        log.info("sent %s: %s", submission.name, receipt.message)
        return sender.submission


def refresh(client: Client, submissions: Sequence[Submission]) -> list[Submission]:
    """The submissions with what Kaggle says of them now, which is on the disk. Only those of the account are asked for.

    Raises:
        KitError: Kaggle cannot be asked.
    """
    listed: dict[str, list[Entry]] = {}
    found = []
    for submission in submissions:
        receipt = submission.sent
        if receipt and exactly_once.same_account(receipt, client):
            slug = submission.competition
            if slug not in listed:
                listed[slug] = list(_entries(client, competitions.get(slug)))
            submission = _note(submission, next((each for each in listed[slug] if _is_of(each, receipt)), None))
        found.append(submission)
    return found


def wait_for_score(client: Client, submission: Submission) -> Submission:
    """Waits until Kaggle has scored a submission; each word of Kaggle's is on the disk as soon as it is there.

    Raises:
        KitError: it was not scored, with Kaggle's reason; or there is no score yet when the time is up.
    """
    policy = client.policy
    began = reached = policy.now()
    for look, wait in enumerate(policy.polls()):
        try:
            [submission] = refresh(client, [submission])
            reached = policy.now()
        except KaggleError as error:
            if not error.transient or policy.now() - reached > policy.outage:
                raise
            log.warning("%s; asking again", error.problem)
        answer = submission.answer
        if answer and answer.status == "ERROR":
            raise KitError(
                f"Kaggle could not score {submission.name} (submission {answer.ref}): {answer.error or 'no reason'}",
                f"see `kit check {submission.images_zip}`, and the log of the submission at "
                f"https://www.kaggle.com/competitions/{submission.competition}/submissions",
            )
        if answer and answer.status == "COMPLETE":
            return submission
        if policy.now() - began > SCORE_WAIT_S:
            break
        if look == 0:
            log.info("waiting for the score of %s", submission.name)
        policy.sleep(wait)
    raise KitError(
        f"{submission.name}: no score yet after {SCORE_WAIT_S / 3600:.0f} h",
        "`kit submissions --refresh` reads it when it is there",
    )


class _Sender:
    """A submission on its way: what `exactly_once` has to know of it. Its folder's lock is held."""

    def __init__(self, client: Client, submission: Submission, plan: Plan, progress: Progress) -> None:
        self.submission = submission
        self._client, self._plan, self._progress = client, plan, progress
        self.sending = Sending(
            client=client,
            what=f"the submission {submission.name}",
            command=f"kit submit {submission.name}",
            save=self._save,
            send=self._send,
            look=self._look,
        )

    def _save(self, receipt: SubmissionReceipt) -> None:
        receipts = [each for each in self.submission.receipts if each.id != receipt.id]
        answer = self.submission.answer
        if answer is None and receipt.ref is not None:
            answer = Answer(ref=receipt.ref, status="PENDING", public=None, private=None, error=None)
        self.submission = self.submission.update(receipts=[*receipts, receipt], answer=answer)

    def _send(self, receipt: SubmissionReceipt) -> int | None:
        client, rules, message = self._client, self._plan.competition, receipt.message
        if receipt.kernel and self.submission.kernel:
            version = self.submission.kernel.parsed()
            return submissions_api.submit_version(client, rules, version, file_name=IMAGES, message=message)
        file = self.submission.images_zip
        return submissions_api.submit_file(client, rules, file, message=message, progress=self._progress)

    def _look(self, receipt: SubmissionReceipt) -> int | None:
        entries = _entries(self._client, self._plan.competition)
        return next((entry.ref for entry in entries if _is_of(entry, receipt)), None)


def _require_way(client: Client, plan: Plan) -> Version | None:
    """The kernel version to submit, or None for a file, once Kaggle's own terms allow it.

    Raises:
        KitError: they do not.
    """
    competition, kernel = plan.competition, plan.submission.kernel
    terms = submissions_api.terms(client, competition)
    if not terms.entered:
        raise KitError(
            f"this account has not accepted the rules of {competition.slug}", f"accept them at {competition.rules_url}"
        )
    if terms.kernels_only and kernel is None:
        raise KitError(f"{plan.submission.name}: {LOCAL}", plan.remedy)
    if terms.closed:
        log.warning("Kaggle says that %s takes no submissions", competition.slug)
    if terms.deadline and terms.deadline < datetime.now(UTC):
        log.warning(
            "the deadline of %s passed on %s: a late submission is scored, where Kaggle still takes it, but not ranked",
            competition.slug,
            f"{terms.deadline:%Y-%m-%d}",
        )
    limits = submissions_api.limits(client, competition)
    if limits.reached:
        when = "no more are allowed in this competition" if limits.for_good else "more are allowed after midnight UTC"
        raise KitError(f"{limits.today} submissions were sent today, and Kaggle allows none now", when)
    return kernel.parsed() if kernel and (terms.kernels_only or competition.kernels_only) else None


def _entries(client: Client, competition: Competition) -> list[Entry]:
    """The account's newest submissions."""
    return list(itertools.islice(submissions_api.entries(client, competition), LISTED))


def _is_of(entry: Entry, receipt: SubmissionReceipt) -> bool:
    return entry.ref == receipt.ref or receipt.id in entry.message


def _note(submission: Submission, entry: Entry | None) -> Submission:
    """Records what Kaggle says of a submission, if it is news."""
    if entry is None:
        return submission
    answer = Answer(
        ref=entry.ref, status=entry.status, public=entry.public, private=entry.private, error=entry.error or None
    )
    if answer == submission.answer:
        return submission
    try:
        with locked(submission.folder):
            return submission_record.load(submission.folder).update(answer=answer)
    except KitError as error:
        log.info("%s; its score is recorded at the next look", error.problem)
        return submission
