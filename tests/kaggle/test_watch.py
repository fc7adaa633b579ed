"""A version is watched to its end through all that can happen in hours, and its log is shown."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path

import pytest
from kaggle_answers import Answer
from kaggle_desk import Run
from kaggle_server import USER, Cut, Hang, KaggleServer
from kernel_tools import SLUG, build_little

from kit.core.errors import KitError
from kit.kaggle.client import RetryPolicy, connect
from kit.kaggle.kernel_log import Follower
from kit.kaggle.kernels import Built
from kit.kaggle.pushes import push
from kit.kaggle.versions import Status, Version
from kit.kaggle.watch import GRACE_S, End, watch

HOURS = 9.0


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build_little(tmp_path)


@pytest.fixture
def shown() -> list[str]:
    """The lines of the kernel's log that the user sees."""
    return []


def watch_it(built: Built, policy: RetryPolicy, shown: list[str], changes: list[Status] | None = None) -> End:
    client = connect(policy=policy)
    pushed = push(client, built)
    tell = (lambda status: None) if changes is None else changes.append
    return watch(client, pushed.version, hours=HOURS, show=shown.append, changed=tell)


def test_from_the_queue_to_the_end(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], said: list[str], waits: list[float]
) -> None:
    server.kernels.next_run = Run(states=["QUEUED"] * 3 + ["RUNNING"] * 12 + ["COMPLETE"])
    changes: list[Status] = []
    end = watch_it(built, clock, shown, changes)
    assert end.ok
    assert [status.name for status in changes] == ["QUEUED", "RUNNING", "COMPLETE"]
    assert waits[:3] == [5, 7.5, 11.25]
    assert waits[3:7] == [5, 7.5, 11.25, 16.875]  # what has just begun is looked at more often again
    assert max(waits) == 60
    assert all(request.json["versionLabel"] == "1" for request in server.seen if request.name.endswith("SessionStatus"))
    words = ("is queued", "is running", "has come to its end")
    assert said[1:] == [f"{USER}/{SLUG}/1 {said}" for said in words]


def test_the_log_is_shown_once_and_in_order(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str]
) -> None:
    log = ["it begins\n", "[10s] 64 pict", "ures  6/s  D 1.0\n", "40%\r80%\r100%\n", "the end"]
    expected = ["it begins", "[10s] 64 pictures  6/s  D 1.0", "40%", "80%", "100%", "the end"]
    server.kernels.next_run = Run(states=["QUEUED", *["RUNNING"] * 3, "COMPLETE"], log=log)
    server.fail("log", Cut(30), Answer(500, "Oops"))
    followed = threading.Event()

    def wait(seconds: float) -> None:
        clock.sleep(seconds)
        followed.wait(0.2)

    end = watch_it(built, dataclasses.replace(clock, sleep=wait, first_poll=0.01), shown)
    assert shown == expected
    assert end.log == expected


def test_a_log_that_cannot_be_had_is_no_failure(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], said: list[str]
) -> None:
    server.fail_always("log", Answer(500, "Oops"))
    server.fail_always("ListKernelSessionOutput", Answer(500, "Oops"))
    assert watch_it(built, clock, shown).ok
    assert "no log: Kaggle answers 500" in said[-1]


def test_a_follower_stops_when_it_is_closed(server: KaggleServer, built: Built, policy: RetryPolicy) -> None:
    server.fail_always("log", Hang())
    shown: list[str] = []
    before = threading.active_count()
    follower = Follower(connect(policy=policy), Version(USER, SLUG, 1), shown.append)
    follower.close(["a", "b"])
    assert shown == ["a", "b"]
    server.closing.set()
    deadline = itertools.count()
    while threading.active_count() > before and next(deadline) < 100:
        threading.Event().wait(0.05)
    assert threading.active_count() <= before


def test_a_version_may_be_unknown_for_a_moment(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], said: list[str]
) -> None:
    server.kernels.hidden = 4  # each question about a number is followed by one without
    assert watch_it(built, clock, shown).ok
    assert "Kaggle does not show it yet" in said


def test_but_not_for_long(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], waits: list[float]
) -> None:
    server.fail_always("GetKernelSessionStatus", Answer(403, "Not found"))
    with pytest.raises(KitError, match="Not found"):
        watch_it(built, clock, shown)
    assert GRACE_S <= sum(waits) < GRACE_S + 61


def test_where_kaggle_takes_no_numbers_the_newest_is_asked_for_and_no_other_taken_for_it(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str]
) -> None:
    server.kernels.labels = False
    client = connect(policy=clock)
    first = push(client, built)
    assert watch(client, first.version, hours=HOURS, show=shown.append, changed=lambda status: None).ok
    push(client, build_little(built.folder.parent.parent, seed=1), again=True)
    with pytest.raises(KitError, match=r"nothing of version 1 of dog-lover/little-dogs, and its newest is 2"):
        watch(client, first.version, hours=HOURS, show=shown.append, changed=lambda status: None)


def test_an_outage_is_waited_out(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], said: list[str], waits: list[float]
) -> None:
    server.fail("GetKernelSessionStatus", None, None, *[Answer(502, "Bad gateway")] * 40)
    assert watch_it(built, clock, shown).ok
    assert sum(waits) > 300
    assert any("502" in line and "watching on" in line for line in said)


def test_but_not_for_ever(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], waits: list[float]
) -> None:
    server.fail_always("GetKernelSessionStatus", Answer(502, "Bad gateway"))
    with pytest.raises(KitError, match="Bad gateway"):
        watch_it(built, clock, shown)
    assert clock.outage <= sum(waits) < clock.outage + 120


def test_a_server_that_hangs(server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str]) -> None:
    server.fail("GetKernelSessionStatus", *[Hang()] * 3)
    assert watch_it(built, dataclasses.replace(clock, read=0.2), shown).ok


def test_credentials_that_end_meanwhile_are_told_at_once(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], waits: list[float]
) -> None:
    server.fail("GetKernelSessionStatus", None, Answer(401, "Unauthenticated"))
    with pytest.raises(KitError, match="does not accept the key"):
        watch_it(built, clock, shown)
    assert waits == [5]


def test_there_is_a_deadline(
    server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str], waits: list[float]
) -> None:
    server.kernels.next_run = Run(states=["RUNNING"])
    with pytest.raises(KitError, match=r"has not come to its end in 15h\d+m.*kit kernel run little-dogs. watches on"):
        watch_it(built, dataclasses.replace(clock, first_poll=1700.0, longest_poll=1700.0), shown)
    assert 15 * 3600 <= sum(waits) < 16 * 3600


@pytest.mark.parametrize(
    ("state", "words"), [("ERROR", "failed: Kaggle says ERROR"), ("CANCEL_ACKNOWLEDGED", "ran out of its time")]
)
def test_a_bad_end_is_told_with_the_log(
    state: str, words: str, server: KaggleServer, built: Built, clock: RetryPolicy, shown: list[str]
) -> None:
    log = [f"line {number}\n" for number in range(100)]
    server.kernels.next_run = Run(states=[state], failure="Out of memory", log=log)
    end = watch_it(built, clock, shown)
    assert not end.ok
    assert words in end.explain(Version(USER, SLUG, 1)).problem
    assert shown == [f"line {number}" for number in range(80, 100)]
    if state == "ERROR":
        assert "(Out of memory)" in end.explain(Version(USER, SLUG, 1)).problem
