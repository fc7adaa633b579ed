"""A kernel is pushed once, whatever happens between the push and its answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from kaggle_answers import Answer
from kaggle_server import KEY, USER, Fault, Hang, KaggleServer, Lost
from kernel_tools import SLUG, build_little

from kit.core.errors import KitError
from kit.kaggle import pushes
from kit.kaggle.client import RetryPolicy, connect
from kit.kaggle.kernel_files import RECEIPT_PLACEHOLDER
from kit.kaggle.kernels import Built, read_kernel
from kit.kaggle.pushes import Push, push


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build_little(tmp_path)


def push_it(built: Built, policy: RetryPolicy, *, again: bool = False) -> Push:
    return push(connect(policy=policy), built, again=again)


def test_what_is_pushed(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    pushed = push_it(built, clock)
    assert str(pushed.version) == f"{USER}/{SLUG}/1"
    sent = server.kernels.versions[SLUG][0].request
    assert sent["slug"] == f"{USER}/{SLUG}"
    assert (sent["enableInternet"], sent["isPrivate"], sent["enableGpu"]) == (False, True, True)
    assert sent["competitionDataSources"] == ["generative-dog-images"]
    assert pushed.receipt.id in sent["text"]
    assert RECEIPT_PLACEHOLDER not in sent["text"]
    assert KEY not in json.dumps(sent)
    assert RECEIPT_PLACEHOLDER in built.code.read_text()  # the placeholders are filled in a copy
    kept = read_kernel(pushed.folder / pushed.code)
    assert (kept.receipt, kept.digest) == (pushed.receipt.id, built.digest)
    assert pushes.load(pushed.folder) == pushed


def test_the_receipt_is_on_the_disk_before_anything_is_sent(
    server: KaggleServer, built: Built, clock: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Push] = []

    def save(request):
        seen.extend(pushes.pushes(built.folder, USER))
        return {"versionNumber": 1, "url": "", "ref": ""}

    monkeypatch.setattr(server.kernels, "save", save)
    push_it(built, clock)
    assert [push.receipt.open for push in seen] == [True]


def test_the_same_kernel_is_pushed_once(
    server: KaggleServer, built: Built, clock: RetryPolicy, said: list[str]
) -> None:
    first = push_it(built, clock)
    assert push_it(built, clock) == first
    assert "going on with dog-lover/little-dogs/1" in said[-1]
    done = first.update(status="COMPLETE", submission="little-dogs-v1")
    assert push_it(built, clock) == done
    assert "is this very kernel" in said[-1]
    assert server.calls.count("SaveKernel") == 1
    assert push_it(built, clock, again=True).version.number == 2


@pytest.mark.parametrize(("status", "number"), [("RUNNING", 1), ("ERROR", 2), ("CANCEL_ACKNOWLEDGED", 2)])
def test_a_failed_version_is_no_hindrance_and_a_running_one_goes_on(
    status: str, number: int, server: KaggleServer, built: Built, clock: RetryPolicy
) -> None:
    push_it(built, clock).update(status=status)
    assert push_it(built, clock).version.number == number


def test_a_changed_kernel(
    server: KaggleServer, built: Built, clock: RetryPolicy, tmp_path: Path, said: list[str]
) -> None:
    first = push_it(built, clock)
    changed = build_little(tmp_path, seed=1)
    assert push_it(changed, clock) == first
    assert any("the kernel has been changed since, which --again would push" in line for line in said)
    first.update(status="COMPLETE")
    assert push_it(changed, clock).version.number == 2


@pytest.mark.parametrize("instead", [Hang(), Answer(502, "Bad gateway", shape="html")])
@pytest.mark.abuse("C12")
def test_an_answer_that_gets_lost_is_read_back(
    instead: Answer | Hang, server: KaggleServer, built: Built, clock: RetryPolicy, said: list[str]
) -> None:
    server.fail("SaveKernel", Lost(instead))
    pushed = push_it(built, dataclasses.replace(clock, read=0.4))
    assert pushed.version.number == 1
    assert server.calls.count("SaveKernel") == 1
    assert any("arrived: Kaggle has it as 1" in line for line in said)


@pytest.mark.abuse("C12")
def test_a_push_that_does_not_show_is_pushed_again_only_by_one_who_says_so(
    server: KaggleServer, built: Built, clock: RetryPolicy, waits: list[float]
) -> None:
    server.fail("SaveKernel", Answer(503, "Backend is sleeping"))
    not_known = r"not known whether the push of little-dogs .* arrived.*not shown on Kaggle in 5m.*--again"
    with pytest.raises(KitError, match=not_known):
        push_it(built, clock)
    assert sum(waits) == clock.arrival
    waits.clear()
    with pytest.raises(KitError, match=not_known):
        push_it(built, clock)
    assert waits == []  # it was looked for long enough: one more look, and no wait
    assert server.calls.count("SaveKernel") == 1
    assert push_it(built, clock, again=True).version.number == 1
    assert [push.receipt.refused is None for push in pushes.pushes(built.folder, USER)] == [True, False]


@pytest.mark.abuse("C12")
def test_the_newest_push_is_kaggles_newest(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    first = push_it(built, clock).update(status="COMPLETE", submission="x")
    second = push_it(built, clock, again=True)
    assert (first.sequence, second.sequence) == (1, 2)
    # The clock was set back between the two, and another checkout counted anew.
    second.update(sequence=1, receipt=dataclasses.replace(second.receipt, when="1999-01-01T00:00:00+00:00"))
    assert pushes.newest(built.folder, USER).version.number == 2


def foreign(push: Push, **changes: object) -> Push:
    """The same push as another account would have made it, in the same folder of kernels."""
    receipt = dataclasses.replace(push.receipt, id="f" * 12, account="colleague", **changes)
    other = dataclasses.replace(push, receipt=receipt, folder=push.folder.parent / receipt.id)
    other.folder.mkdir()
    return other.update(sequence=99)


@pytest.mark.parametrize("ref", [7, None], ids=["running", "answer lost"])
@pytest.mark.abuse("C12")
def test_a_colleagues_push_does_not_count(
    ref: int | None, server: KaggleServer, built: Built, clock: RetryPolicy
) -> None:
    own = push_it(built, clock)
    foreign(own, ref=ref)
    own.folder.joinpath("push.json").unlink()
    pushed = push_it(built, clock)
    assert str(pushed.version) == f"{USER}/{SLUG}/2"
    (built.folder / "kernel.toml").write_text('model = "dcgan"')
    assert pushes.last_kernel(built.folder.parent, USER) == built.folder
    assert pushes.newest(built.folder, USER).version == pushed.version


@pytest.mark.parametrize(
    "change",
    [
        {"code": "../../../elsewhere.py"},
        {"slug": "../elsewhere"},
        {"receipt": {"id": "0" * 12, "account": "a/b", "when": "", "looked_s": 0, "ref": 1, "refused": None}},
        {"sequence": None},
        {"digest": [3]},
        {"version": 1},
        {"surprise": 1},
        {},  # damaged
    ],
    ids=str,
)
@pytest.mark.abuse("D15")
def test_a_hostile_or_old_record_is_refused_in_a_line(
    change: dict[str, object], server: KaggleServer, built: Built, clock: RetryPolicy
) -> None:
    path = push_it(built, clock).folder / "push.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else "{")
    with pytest.raises(KitError, match=r"push\.json") as caught:
        push_it(built, clock)
    assert "\n" not in str(caught.value)
    assert server.calls.count("SaveKernel") == 1


@pytest.mark.abuse("F32")
def test_a_damaged_kernel_beside_it_is_a_line(
    server: KaggleServer, built: Built, clock: RetryPolicy, said: list[str]
) -> None:
    folder = built.folder.parent / "broken-one" / "pushes" / ("0" * 12)
    folder.mkdir(parents=True)
    (built.folder.parent / "broken-one" / "kernel.toml").write_text("model = 3")
    (built.folder / "kernel.toml").write_text('model = "dcgan"')
    (folder / "push.json").write_text("{")
    assert push_it(built, clock).version.number == 1
    assert pushes.last_kernel(built.folder.parent, USER) == built.folder
    assert any("broken-one" in line and "damaged" in line for line in said)


def test_the_session_limit_is_waited_out(
    server: KaggleServer, built: Built, clock: RetryPolicy, waits: list[float], said: list[str]
) -> None:
    server.kernels.full = 3
    assert push_it(built, clock).version.number == 1
    assert said[0] == "Kaggle: Maximum batch GPU session count of 2 reached; trying again in 25s"
    assert len(waits) == 3
    assert waits == sorted(waits)
    assert len(pushes.pushes(built.folder, USER)) == 1


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("Notebook not found", "mend what it names"),
        ("Your weekly GPU quota of 30 hours is used up", "the GPU hours come back weekly"),
    ],
)
def test_an_error_in_band_is_told_in_kaggles_words(
    words: str, step: str, server: KaggleServer, built: Built, clock: RetryPolicy
) -> None:
    server.kernels.error = words
    with pytest.raises(KitError) as caught:
        push_it(built, clock)
    assert words in caught.value.problem
    assert step in caught.value.remedy
    assert [words in (push.receipt.refused or "") for push in pushes.pushes(built.folder, USER)] == [True]
    assert push_it(built, clock).version.number == 1


def test_an_input_that_kaggle_does_not_know(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    server.kernels.known = set()
    with pytest.raises(KitError) as caught:
        push_it(built, clock)
    assert "dog-lover/little-dogs/1 was pushed" in caught.value.problem
    assert "generative-dog-images" in caught.value.problem
    assert "https://www.kaggle.com/code/dog-lover/little-dogs" in caught.value.remedy
    server.kernels.known = {"generative-dog-images"}
    assert push_it(built, clock).version.number == 2  # the first has nothing to train on


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answer(403, "Permission 'kernels.update' was denied"), "Permission 'kernels.update' was denied"),
        (Answer(409, "The title is already in use"), "The title is already in use.*another --slug"),
        (Answer(400, "Kernel source is too large", shape="message"), "Kernel source is too large"),
    ],
)
def test_a_refusal_is_told_and_is_no_push(
    fault: Fault, words: str, server: KaggleServer, built: Built, clock: RetryPolicy
) -> None:
    server.fail("SaveKernel", fault)
    with pytest.raises(KitError, match=words):
        push_it(built, clock)
    assert server.calls == ["SaveKernel"]
    assert [push.receipt.open for push in pushes.pushes(built.folder, USER)] == [False]
    assert push_it(built, clock).version.number == 1


@pytest.mark.abuse("B8")
def test_two_commands_at_once(server: KaggleServer, built: Built, clock: RetryPolicy) -> None:
    tried: list[str] = []

    def meanwhile(seconds: float) -> None:
        with pytest.raises(KitError, match=r"in use by .*another command is pushing it"):
            push_it(built, clock)
        tried.append("once")

    server.fail("SaveKernel", Answer(429, "Slow down"))
    push_it(built, dataclasses.replace(clock, sleep=meanwhile))
    assert tried == ["once"]
    assert len(server.kernels.versions[SLUG]) == 1
