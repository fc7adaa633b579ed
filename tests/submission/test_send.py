"""A submission is sent once and the way its competition takes it, whatever happens between sending and the answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kaggle_answers import Answer
from kaggle_desk import Run, Version
from kaggle_server import KEY, USER, Cut, Fault, Hang, KaggleServer, Lost

from kit.competition import COMPETITIONS, DEFAULT, Competition
from kit.core.errors import KitError
from kit.kaggle import submissions_api
from kit.kaggle.client import Client, RetryPolicy, connect
from kit.submission.make_submission import make_submission
from kit.submission.send import SCORE_WAIT_S, make_plan, refresh, send, wait_for_score
from kit.submission.submission_record import KernelVersion, Submission, load

KERNEL = KernelVersion(
    version=f"{USER}/little-dogs/1",
    receipt="0123456789ab",
    pushed="2026-01-01T00:00:00+00:00",
    code="little-dogs.py",
    code_sha256="c" * 64,
    recipe='model = "dcgan"\n',
    status="COMPLETE",
)


@pytest.fixture
def packed(
    make_run: Callable[..., Path], server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Submission]:
    """Packs a run of 12 pictures for a competition that takes 12: `packed(kernels_only=False)`."""

    def make(*, kernels_only: bool, takes: int = 12) -> Submission:
        rules = dataclasses.replace(COMPETITIONS[DEFAULT], count_min=takes, count_max=takes, kernels_only=kernels_only)
        monkeypatch.setitem(COMPETITIONS, DEFAULT, rules)
        server.submissions.kernels_only = kernels_only
        server.kernels.versions["little-dogs"] = [Version({}, Run(states=["COMPLETE"]))]
        kernel = KERNEL if kernels_only else None
        return make_submission(make_run(), root=tmp_path / "submissions", kernel=kernel)

    return make


@pytest.fixture
def submission(request: pytest.FixtureRequest, packed: Callable[..., Submission]) -> Submission:
    """A file, or with the mark BOTH_WAYS also a kernel's version."""
    return packed(kernels_only=getattr(request, "param", False))


BOTH_WAYS = pytest.mark.parametrize("submission", [True, False], ids=["kernels only", "files"], indirect=True)


def creates(server: KaggleServer) -> int:
    """How often a submission was asked for."""
    return sum(call in ("CreateSubmission", "CreateCodeSubmission") for call in server.calls)


def the_call(submission: Submission) -> str:
    return "CreateCodeSubmission" if submission.kernel else "CreateSubmission"


def send_it(submission: Submission, policy: RetryPolicy, *, again: bool = False) -> Submission:
    return send(connect(policy=policy), make_plan(submission), again=again)


def score_it(submission: Submission, policy: RetryPolicy) -> Submission:
    return wait_for_score(connect(policy=policy), submission)


def look_again(policy: RetryPolicy, submission: Submission) -> Submission:
    [found] = refresh(connect(policy=policy), [submission])
    return found


@BOTH_WAYS
def test_from_the_receipt_to_the_score(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    sent = send_it(submission, clock)
    assert sent.state == "sent"
    [taken] = server.submissions.taken
    [receipt] = sent.receipts
    assert taken.request["submissionDescription"] == receipt.message
    assert receipt.message == f"[{receipt.id}] {make_plan(submission).message}"
    assert receipt.kernel == (KERNEL.version if submission.kernel else None)
    if submission.kernel:
        assert taken.request["kernelOwner"] == USER
        assert (taken.request["kernelSlug"], taken.request["kernelVersion"]) == ("little-dogs", 1)
        assert taken.request["fileName"] == "images.zip"
        assert "upload" not in server.calls
    else:
        uploaded = server.submissions.uploads[taken.request["blobFileTokens"]]
        assert uploaded == (submission.folder / "images.zip").read_bytes()
    scored = score_it(sent, clock)
    assert scored.answer
    assert (scored.answer.public, scored.answer.private) == (61.25, 98.5)
    assert load(submission.folder) == scored
    assert scored.state == "scored"
    assert KEY not in (submission.folder / "submission.json").read_text()


@BOTH_WAYS
def test_the_receipt_is_on_the_disk_before_anything_is_sent(
    submission: Submission, server: KaggleServer, clock: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(request):
        seen.append(len(load(submission.folder).receipts))
        return Answer(400, "No")

    for name in ("start_upload", "create_code"):
        monkeypatch.setattr(server.submissions, name, note)
    with pytest.raises(KitError, match="No"):
        send_it(submission, clock)
    assert seen == [1]


@BOTH_WAYS
@pytest.mark.abuse("C12")
def test_nothing_is_sent_twice(
    submission: Submission, server: KaggleServer, clock: RetryPolicy, said: list[str]
) -> None:
    send_it(submission, clock)
    again = send_it(submission, clock)  # with the record of before the first time
    assert "not again" in said[-1]
    assert creates(server) == 1
    assert score_it(again, clock).state == "scored"
    assert send_it(load(submission.folder), clock).state == "scored"
    assert creates(server) == 1


@BOTH_WAYS
@pytest.mark.parametrize("instead", [Hang(), Answer(502, "Bad gateway", shape="html")])
@pytest.mark.abuse("C12")
def test_an_answer_that_gets_lost_is_read_back(
    instead: Answer | Hang, submission: Submission, server: KaggleServer, clock: RetryPolicy, said: list[str]
) -> None:
    server.fail(the_call(submission), Lost(instead))
    sent = send_it(submission, dataclasses.replace(clock, read=0.4))
    assert sent.answer
    assert sent.answer.ref == server.submissions.taken[0].ref
    assert creates(server) == 1
    assert any("looking whether the submission dcgan-demo-1 arrived" in line for line in said)


@pytest.mark.abuse("C12")
def test_one_that_cannot_be_found_is_sent_once_more_only_when_asked(
    submission: Submission, server: KaggleServer, clock: RetryPolicy, waits: list[float]
) -> None:
    server.fail(the_call(submission), Answer(503, "Backend is sleeping"))
    with pytest.raises(
        KitError, match=r"not known whether the submission dcgan-demo-1 .* arrived.*dcgan-demo-1 --again"
    ):
        send_it(submission, clock)
    assert sum(waits) >= clock.arrival
    kept = load(submission.folder)
    assert (kept.state, creates(server)) == ("sent", 1)
    with pytest.raises(KitError, match="--again"):
        send_it(submission, clock)
    assert creates(server) == 1
    assert send_it(submission, clock, again=True).state == "sent"
    assert len(server.submissions.taken) == 1
    assert [bool(receipt.refused) for receipt in load(submission.folder).receipts] == [True, False]


@pytest.mark.abuse("C12")
def test_one_that_shows_late_is_found_and_not_sent_again(
    submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    """Kaggle's list shows it only minutes later: after the first command has given up."""
    server.fail(the_call(submission), Lost(Answer(500, "Oops")))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server.submissions, "taken", Hidden(server.submissions.taken))
        with pytest.raises(KitError, match="not known whether"):
            send_it(submission, clock)
        taken = list.copy(server.submissions.taken)
    server.submissions.taken.extend(taken)
    found = send_it(submission, clock, again=True)
    assert found.answer
    assert found.answer.ref == taken[0].ref
    assert creates(server) == 1


class Hidden(list[object]):
    """A list that takes things and shows nothing."""

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __reversed__(self) -> Iterator[object]:
        return iter(())

    def __getitem__(self, index: object) -> object:
        return [] if isinstance(index, slice) else super().__getitem__(index)  # type: ignore[index]


@pytest.mark.abuse("C12")
@pytest.mark.parametrize("when", ["2099-01-01T00:00:00+00:00", "yesterday"])
def test_no_date_decides_anything(
    when: str, submission: Submission, server: KaggleServer, clock: RetryPolicy, waits: list[float]
) -> None:
    """A receipt from a machine whose clock was wrong: it is looked for as long as any other."""
    server.fail(the_call(submission), Lost(Answer(500, "Oops")))
    server.fail("ListSubmissions", *[Answer(500, "Oops")] * clock.tries)
    with pytest.raises(KitError, match="not known whether"):
        send_it(submission, clock)
    kept = load(submission.folder)
    kept.update(receipts=[dataclasses.replace(kept.receipts[0], when=when)])
    assert send_it(submission, clock).answer
    assert creates(server) == 1
    assert sum(waits) < 2 * clock.arrival


@pytest.mark.abuse("C12")
def test_a_message_that_kaggle_cuts_still_tells_the_receipt(
    submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    server.fail(the_call(submission), Lost(Answer(500, "Oops")))
    with pytest.MonkeyPatch.context() as patched:
        long = make_plan(submission, message="very long " * 500)
        looked = submissions_api.entries

        def cut(client: Client, rules: Competition) -> Iterator[submissions_api.Entry]:
            return (dataclasses.replace(entry, message=entry.message[:100]) for entry in looked(client, rules))

        patched.setattr(submissions_api, "entries", cut)
        sent = send(connect(policy=clock), long)
    assert sent.answer
    assert creates(server) == 1


@pytest.mark.abuse("C12")
def test_what_another_account_sent_is_not_sent_again_by_this_one(
    submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    server.fail(the_call(submission), Lost(Answer(500, "Oops")))
    server.fail("ListSubmissions", *[Answer(500, "Oops")] * clock.tries)
    with pytest.raises(KitError, match="not known whether"):
        send_it(submission, clock)
    kept = load(submission.folder)
    kept.update(receipts=[dataclasses.replace(kept.receipts[0], account="somebody", id="f" * 12)])
    with pytest.raises(KitError, match=r"the account somebody sent it, and you are signed in as"):
        send_it(submission, clock)
    assert creates(server) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answer(403, "You cannot submit until you accept the competition rules"), "accept the rules at https"),
        (Answer(400, "Submission not allowed: the competition is over"), "the competition is over"),
    ],
)
def test_a_refusal_is_told_and_is_no_submission(
    fault: Fault, words: str, submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    server.fail(the_call(submission), fault)
    with pytest.raises(KitError, match=words):
        send_it(submission, clock)
    kept = load(submission.folder)
    assert kept.state == "packed"
    assert kept.receipts[0].refused
    assert send_it(kept, clock).state == "sent"
    assert len(server.submissions.taken) == 1


def test_a_refusal_in_band(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    server.submissions.refusal = "Could not submit to competition"
    with pytest.raises(KitError, match=r"did not take the submission .Could not submit to competition."):
        send_it(submission, clock)
    assert load(submission.folder).state == "packed"


@pytest.mark.parametrize(
    ("faults", "uploads"), [([Cut(1000)], 2), ([Answer(503, "Busy")], 2), ([Answer(403, "Expired")], None)]
)
def test_an_upload_that_is_cut_is_made_again_and_a_refused_one_told(
    faults: list[Fault],
    uploads: int | None,
    packed: Callable[..., Submission],
    server: KaggleServer,
    clock: RetryPolicy,
) -> None:
    submission = packed(kernels_only=False)
    server.fail("upload", *faults)
    if uploads:
        assert send_it(submission, clock).state == "sent"
        assert server.calls.count("upload") == server.calls.count("StartSubmissionUpload") == uploads
    else:
        with pytest.raises(KitError, match=r"images\.zip was not uploaded: Kaggle's storage answers 403.*Expired"):
            send_it(submission, clock)
        assert load(submission.folder).state == "packed"
        assert creates(server) == 0


@pytest.mark.parametrize("call", ["GetCompetition", "upload"])
def test_a_server_that_hangs_is_left(
    call: str, packed: Callable[..., Submission], server: KaggleServer, clock: RetryPolicy
) -> None:
    submission = packed(kernels_only=False)
    server.fail_always(call, Hang())
    with pytest.raises(KitError, match="does not answer in time"):
        send_it(submission, dataclasses.replace(clock, read=0.2, tries=2))
    assert load(submission.folder).state == "packed"


def test_the_rules_come_first(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    server.submissions.entered = False
    with pytest.raises(KitError, match=f"not accepted the rules of {DEFAULT}; accept them at https://www.kaggle.com"):
        send_it(submission, clock)
    assert load(submission.folder).receipts == []


def test_the_daily_limit(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    server.submissions.left = 0
    with pytest.raises(KitError, match=r"5 submissions were sent today, and Kaggle allows none now.*midnight UTC"):
        send_it(submission, clock)
    assert load(submission.folder).receipts == []
    assert creates(server) == 0


def test_a_passed_deadline_is_a_warning(
    submission: Submission, server: KaggleServer, clock: RetryPolicy, said: list[str]
) -> None:
    server.submissions.deadline = "2019-08-12T23:59:00Z"
    assert send_it(submission, clock).state == "sent"
    assert any("the deadline" in line and "2019-08-12" in line for line in said)


def test_pictures_that_would_be_rejected_are_not_sent(
    packed: Callable[..., Submission], server: KaggleServer, clock: RetryPolicy
) -> None:
    with pytest.raises(KitError, match=r"would be rejected: images\.zip: 12 pictures.*kit check"):
        send_it(packed(kernels_only=True, takes=10_000), clock)
    assert creates(server) == 0


def test_a_local_zip_where_kaggle_takes_only_kernels(
    packed: Callable[..., Submission], server: KaggleServer, clock: RetryPolicy
) -> None:
    submission = packed(kernels_only=False)
    server.submissions.kernels_only = True  # whatever the kit believes
    with pytest.raises(KitError, match=r"only what a Kaggle kernel has made.*kit submit dcgan-demo-1 --yes"):
        send_it(submission, clock)
    assert server.calls == ["GetCompetition"]


def test_a_score_that_is_an_error(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    server.submissions.error = "Only PNG images should be submitted."
    sent = send_it(submission, clock)
    with pytest.raises(KitError, match=r"could not score dcgan-demo-1.*Only PNG images should be submitted\."):
        score_it(sent, clock)
    kept = load(submission.folder)
    assert kept.state == "rejected"
    assert kept.answer
    assert kept.answer.error == "Only PNG images should be submitted."


def test_a_score_that_does_not_come(
    submission: Submission, server: KaggleServer, clock: RetryPolicy, waits: list[float]
) -> None:
    server.submissions.pending = 10_000
    sent = send_it(submission, clock)
    with pytest.raises(KitError, match=r"no score yet after 2 h.*kit submissions --refresh"):
        score_it(sent, dataclasses.replace(clock, first_poll=1200.0, longest_poll=1200.0))
    assert SCORE_WAIT_S <= sum(waits) < SCORE_WAIT_S + 1300
    server.submissions.pending = 0
    assert look_again(clock, sent).state == "scored"


def test_an_outage_while_the_score_is_awaited(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    sent = send_it(submission, clock)
    server.fail("ListSubmissions", *[Answer(502, "Bad gateway")] * 9)
    assert score_it(sent, clock).state == "scored"


@pytest.mark.abuse("B8")
def test_two_commands_at_once(submission: Submission, server: KaggleServer, clock: RetryPolicy) -> None:
    tried: list[str] = []

    def meanwhile(seconds: float) -> None:
        with pytest.raises(KitError, match="in use by process"):
            send_it(submission, clock)
        tried.append("once")

    server.fail(the_call(submission), Answer(429, "Slow down"))
    send_it(submission, dataclasses.replace(clock, sleep=meanwhile))
    assert tried == ["once"]
    assert len(server.submissions.taken) == 1


@pytest.mark.abuse("B8")
def test_a_score_that_comes_while_it_is_packed_again_loses_nothing(
    submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    """What the waiting command has in its hand is older than what lies on the disk."""
    sent = send_it(submission, clock)
    load(sent.folder).update(warnings=["packed again meanwhile"])
    scored = score_it(sent, clock)
    assert load(sent.folder) == scored
    assert (scored.state, scored.warnings) == ("scored", ["packed again meanwhile"])


@pytest.mark.abuse("C13")
def test_no_secret_in_what_is_asked_but_in_its_header(
    submission: Submission, server: KaggleServer, clock: RetryPolicy
) -> None:
    send_it(submission, clock)
    assert KEY not in json.dumps([request.json for request in server.seen])


# ---- the plan: what would be sent, without a network


def test_the_plan_says_all_that_would_be_sent_and_sends_nothing(submission: Submission, server: KaggleServer) -> None:
    plan = make_plan(submission)
    text = "\n".join(plan.lines())
    assert plan.ok
    assert DEFAULT in text
    assert str(submission.images_zip) in text
    assert f"12 pictures, {submission.images_zip.stat().st_size:,} bytes" in text
    assert submission.images.sha256 in text
    tree = submission.run.tree[:12]
    assert plan.message == f"dcgan-demo-1: dcgan, 12,800 pictures seen, seed 0, source {tree}"
    assert plan.message in text
    assert text.endswith("nothing was sent")
    assert make_plan(submission, message="wider").message == "wider"
    assert server.calls == []


@pytest.mark.parametrize(
    ("kernels_only", "words", "others"),
    [(True, "dcgan-demo-1 --yes", "uploaded as a file"), (False, "uploaded as a file", "kernel")],
)
def test_the_way_is_the_competitions(
    packed: Callable[..., Submission], kernels_only: bool, words: str, others: str
) -> None:
    submission = dataclasses.replace(packed(kernels_only=kernels_only), kernel=None)
    text = "\n".join(make_plan(submission).lines())
    assert words in text
    assert others not in text


def test_a_trial_would_be_rejected(packed: Callable[..., Submission]) -> None:
    plan = make_plan(packed(kernels_only=False, takes=10_000))
    assert not plan.ok
    assert f"error: images.zip: 12 pictures, and {DEFAULT} asks for exactly 10,000" in plan.lines()
    assert plan.lines()[-1] == "nothing was sent, and this would be rejected"


def test_a_changed_zip_is_noticed(submission: Submission) -> None:
    file = submission.images_zip
    data = file.read_bytes()
    file.unlink()
    with pytest.raises(KitError, match=r"images\.zip: no such file.*kit pack"):
        make_plan(submission)
    file.write_bytes(data + b"\0")
    with pytest.raises(KitError, match=r"images\.zip is not the file that was packed"):
        make_plan(submission)
