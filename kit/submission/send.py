"""Sending a submission once: the receipt is written first, and after a doubt Kaggle's own list is read."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from kit.competition import Competition
from kit.core.errors import KitError
from kit.kaggle import submissions_api
from kit.kaggle.client import Client
from kit.kaggle.exactly_once import new_id
from kit.kaggle.failures import KaggleError
from kit.kaggle.submissions_api import Entry
from kit.kaggle.versions import Version
from kit.submission import ledger
from kit.submission.ledger import Answer, Receipt, Submission
from kit.submission.submit import LOCAL, Plan

SCORE_WAIT_S = 2 * 3600.0
"""How long a score is waited for; Kaggle scores ten thousand pictures in some minutes."""

LISTED = 200
"""Submissions of the account that are looked through for a receipt, the newest first."""


def send(client: Client, plan: Plan, *, say: Callable[[str], None], progress: Callable[[int, int], None]) -> Submission:
    """Sends a submission the way its competition takes it, unless it was sent before.

    Args:
        client: from `client.connect`.
        plan: from `submit.dry_run`.
        say: is told, in a line, what happens.
        progress: bytes uploaded, bytes in all; stays silent for a code submission.

    Returns:
        the submission, with the receipt under which Kaggle has it; see `follow` for the score.

    Raises:
        KitError: the competition would not take it, Kaggle refuses it, or it is not clear whether it arrived.
    """
    with _alone_in(plan.submission):
        submission = settle(client, ledger.load(plan.submission.folder), plan.competition, say=say)
        if submission.sent:
            say(f"{submission.name} was sent {submission.sent.when[:16].replace('T', ' ')} UTC: not again")
            return submission
        if not plan.ok:
            raise KitError(
                f"{submission.name} would be rejected: {plan.report.errors[0]}", f"see `kit check {plan.file}`"
            )
        version = _require_way(client, plan, say=say)
        receipt = Receipt(
            id=new_id(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            message="",
            kernel=str(version) if version else None,
        )
        receipt = dataclasses.replace(receipt, message=f"{plan.message} [{receipt.id}]")
        submission = _with(submission, receipts=[*submission.receipts, receipt])  # from here on it may have been sent
        try:
            if version:
                ref = submissions_api.submit_version(
                    client, plan.competition, version, file_name=ledger.IMAGES, message=receipt.message
                )
            else:
                ref = submissions_api.submit_file(
                    client, plan.competition, plan.file, message=receipt.message, progress=progress
                )
        except KaggleError as error:
            if not error.outcome_unknown:
                _refuse(submission, receipt, error.problem)
                raise
            say(f"{error.problem}; looking whether the submission arrived")
            submission = _doubt(client, submission, plan.competition, error, say=say)
            ref = submission.answer.ref if submission.answer else None
        if ref is None:
            return settle(client, submission, plan.competition, say=say)
        say(f"sent {submission.name} as submission {ref}: {receipt.message}")
        if submission.answer is None:
            pending = Answer(ref=ref, status="PENDING", public=None, private=None, error=None)
            submission = _with(submission, answer=pending)
        return submission


def settle(
    client: Client, submission: Submission, competition: Competition, *, say: Callable[[str], None]
) -> Submission:
    """Finds out what became of a receipt that Kaggle has not answered, and records it.

    Raises:
        KitError: Kaggle cannot be asked.
    """
    receipt = submission.sent
    if receipt is None or submission.answer is not None:
        return submission
    policy = client.policy
    began = policy.now()
    while True:
        entry = _find(client, competition, receipt)
        if entry is not None:
            say(f"{submission.name} arrived as submission {entry.ref}")
            return _with(submission, answer=_answer(entry))
        wait = began + policy.arrival - policy.now()
        if wait <= 0:
            say(f"{submission.name}: what was begun at {receipt.when[:16].replace('T', ' ')} UTC never arrived")
            return _refuse(submission, receipt, "it never arrived")
        say(f"looking whether {submission.name} arrived; once more in {wait:.0f} s")
        policy.sleep(wait)


def refresh(client: Client, submission: Submission, competition: Competition) -> Submission:
    """Reads what Kaggle says of a submission now, and records it.

    Raises:
        KitError: Kaggle cannot be asked.
    """
    receipt = submission.sent
    entry = _find(client, competition, receipt) if receipt else None
    if entry is None or _answer(entry) == submission.answer:
        return submission
    return _with(submission, answer=_answer(entry))


def follow(
    client: Client, submission: Submission, competition: Competition, *, say: Callable[[str], None]
) -> Submission:
    """Waits until Kaggle has scored a submission; each word of Kaggle's is in the ledger as soon as it is there.

    Raises:
        KitError: it was not scored, with Kaggle's reason; or there is no score yet when the time is up.
    """
    policy = client.policy
    began = reached = policy.now()
    for look, wait in enumerate(policy.polls()):
        try:
            submission = refresh(client, submission, competition)
            reached = policy.now()
        except KaggleError as error:
            if not error.transient or policy.now() - reached > policy.outage:
                raise
            say(f"{error.problem}; watching on")
        answer = submission.answer
        if answer and answer.status == "ERROR":
            raise KitError(
                f"Kaggle could not score {submission.name} (submission {answer.ref}): {answer.error or 'no reason'}",
                f"see `kit check {submission.folder / ledger.IMAGES}`, and the log of the submission at "
                f"https://www.kaggle.com/competitions/{competition.slug}/submissions",
            )
        if answer and answer.status == "COMPLETE":
            return submission
        if policy.now() - began > SCORE_WAIT_S:
            break
        if look == 0:
            say(f"waiting for the score of {submission.name}")
        policy.sleep(wait)
    raise KitError(
        f"{submission.name}: no score yet after {SCORE_WAIT_S / 3600:.0f} h",
        "`kit submissions --refresh` reads it when it is there",
    )


def _require_way(client: Client, plan: Plan, *, say: Callable[[str], None]) -> Version | None:
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
        say(f"warning: Kaggle says that {competition.slug} takes no submissions")
    if terms.deadline and terms.deadline < datetime.now(UTC):
        say(
            f"warning: the deadline of {competition.slug} passed on {terms.deadline:%Y-%m-%d}: a late submission is "
            "scored, where Kaggle still takes it, but not ranked"
        )
    limits = submissions_api.limits(client, competition)
    if limits.reached:
        when = "no more are allowed in this competition" if limits.for_good else "more are allowed after midnight UTC"
        raise KitError(f"{limits.today} submissions were sent today, and Kaggle allows none now", when)
    return _version(kernel.version) if kernel and (terms.kernels_only or competition.kernels_only) else None


def _version(text: str) -> Version:
    owner, slug, number = text.split("/")
    return Version(owner, slug, int(number))


def _doubt(
    client: Client,
    submission: Submission,
    competition: Competition,
    error: KaggleError,
    *,
    say: Callable[[str], None],
) -> Submission:
    """What became of a submission whose answer got lost."""
    try:
        submission = settle(client, submission, competition, say=say)
    except KaggleError:
        raise KitError(
            f"{error.problem}; it is not known whether {submission.name} arrived",
            f"run `kit submit {submission.name}` again: it looks first, and sends only what is not there",
        ) from None
    if submission.sent is None:
        raise KitError(error.problem, f"nothing was submitted; {error.remedy}")
    return submission


def _find(client: Client, competition: Competition, receipt: Receipt) -> Entry | None:
    """The submission that carries a receipt in its message."""
    for number, entry in enumerate(submissions_api.entries(client, competition)):
        if receipt.id in entry.message:
            return entry
        if number + 1 >= LISTED:
            break
    return None


def _answer(entry: Entry) -> Answer:
    return Answer(
        ref=entry.ref,
        status=entry.status,
        public=entry.public,
        private=entry.private,
        error=entry.error or None,
    )


def _refuse(submission: Submission, receipt: Receipt, words: str) -> Submission:
    refused = [
        dataclasses.replace(each, refused=words) if each.id == receipt.id else each for each in submission.receipts
    ]
    return _with(submission, receipts=refused)


def _with(submission: Submission, *, receipts: list[Receipt] | None = None, answer: Answer | None = None) -> Submission:
    """The submission with these, which are on the disk before it is returned."""
    changed = dataclasses.replace(
        submission,
        receipts=submission.receipts if receipts is None else receipts,
        answer=submission.answer if answer is None else answer,
    )
    changed.save()
    return changed


@contextlib.contextmanager
def _alone_in(submission: Submission) -> Iterator[None]:
    """Keeps two commands from sending the same submission at once; the system ends it with the process.

    Raises:
        KitError: another command is at it.
    """
    lock = FileLock(submission.folder / ".send.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise KitError(f"{submission.folder}: another command is sending it", "wait until that one is done") from None
    try:
        yield
    finally:
        lock.release()
