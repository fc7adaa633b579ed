"""Doing a thing exactly once with a server whose answer may get lost: write a receipt, send, look.

The receipt is on the disk before anything is sent, and its id travels with what is sent. Where no answer came, Kaggle
is searched for the id. What cannot be found may still be on its way, so it is sent a second time only where the user
says so. Nothing here is decided by the date: clocks are set, and machines differ.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.kaggle.client import Client
from kit.kaggle.failures import KaggleError

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One sending of one thing, from before it is sent. Records of what was sent may derive from it.

    Raises:
        KitError: the id is not one that `new_id` makes.
    """

    id: str  # travels with what is sent; 12 hexadecimal digits
    account: str  # name of the Kaggle account that sent it
    when: str  # ISO 8601, UTC; for people, nothing is decided by it
    looked_s: float = 0.0  # seconds for which it was looked for in vain, over all commands
    ref: int | None = None  # Kaggle's number of what arrived
    refused: str | None = None  # why it came to nothing

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise KitError(f"id is {self.id!r}, not 12 hexadecimal digits")

    @property
    def open(self) -> bool:
        """Whether it is not known if it arrived."""
        return self.ref is None and self.refused is None


R = TypeVar("R", bound=Receipt)


def new_id() -> str:
    """An id that no other receipt has."""
    return secrets.token_hex(6)


def utc_now() -> str:
    """The time for a receipt: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def same_account(receipt: Receipt, client: Client) -> bool:
    """Whether a receipt is of the account that is signed in."""
    return receipt.account.casefold() == client.user.casefold()


def send_once(
    client: Client,
    receipt: R,
    *,
    what: str,
    command: str,
    save: Callable[[R], None],
    send: Callable[[R], int | None],
    look: Callable[[R], int | None],
) -> R:
    """Sends a thing for which there is no open receipt.

    Args:
        client: from `client.connect`.
        receipt: a new one.
        what: names the thing in messages ("the push of my-dcgan").
        command: does it again ("kit kernel push my-dcgan"); it has a flag `--again`.
        save: writes a receipt to the disk.
        send: makes the one call, `client.call(…, once=True)`, and returns Kaggle's number where the answer has one.
        look: searches Kaggle for the receipt's id; its number, or None where it does not show.

    Returns:
        the receipt with its `ref`.

    Raises:
        KaggleError: Kaggle refused it; so does the receipt say.
        KitError: it is not clear whether it arrived; the receipt stays open.
    """
    save(receipt)
    try:
        ref = send(receipt)
    except KaggleError as error:
        if not error.outcome_unknown:
            save(dataclasses.replace(receipt, refused=error.problem))
            raise
        log.warning("%s; looking whether %s arrived", error.problem, what)
        ref = None
    if ref is None:
        return reconcile(client, receipt, what=what, command=command, save=save, look=look)
    receipt = dataclasses.replace(receipt, ref=ref)
    save(receipt)
    return receipt


def reconcile(
    client: Client,
    receipt: R,
    *,
    what: str,
    command: str,
    save: Callable[[R], None],
    look: Callable[[R], int | None],
    again: bool = False,
) -> R:
    """Finds out what became of an open receipt; one that is closed is returned as it is.

    It is looked for as long as `client.policy.arrival` says, all commands together. What another account has sent
    cannot be seen by this one, and is looked for once.

    Args:
        client: from `client.connect`.
        receipt: the receipt.
        what: see `send_once`.
        command: see `send_once`.
        save: see `send_once`.
        look: see `send_once`.
        again: give it up where it cannot be found, so that the thing may be sent once more.

    Returns:
        the receipt: with its `ref` where it arrived, with `refused` where it was given up.

    Raises:
        KitError: it is not clear whether it arrived; the receipt stays open.
    """
    if not receipt.open:
        return receipt
    policy = client.policy
    waits, before = policy.polls(), policy.now()
    while True:
        ref = _look(receipt, look, what, command)
        if ref is not None:
            log.info("%s (%s) arrived: Kaggle has it as %d", what, receipt.when, ref)
            receipt = dataclasses.replace(receipt, ref=ref)
            save(receipt)
            return receipt
        now = policy.now()
        receipt = dataclasses.replace(receipt, looked_s=receipt.looked_s + now - before)
        save(receipt)
        before, left = now, policy.arrival - receipt.looked_s
        if left <= 0 or not same_account(receipt, client):
            break
        wait = min(next(waits), left)
        log.info("%s does not show on Kaggle; looking for %s more", what, show_duration(left))
        policy.sleep(wait)
    problem = f"it is not known whether {what} ({receipt.when}) arrived: "
    if same_account(receipt, client):
        problem += f"it has not shown on Kaggle in {show_duration(receipt.looked_s)}"
    else:
        problem += f"the account {receipt.account} sent it, and you are signed in as {client.user}"
    if not again:
        raise KitError(problem, f"look at your page on Kaggle; where it is not there, `{command} --again` sends it")
    log.warning("%s; given up, as --again asks", problem)
    receipt = dataclasses.replace(receipt, refused=f"given up: {problem}")
    save(receipt)
    return receipt


def _look(receipt: R, look: Callable[[R], int | None], what: str, command: str) -> int | None:
    try:
        return look(receipt)
    except KaggleError as error:
        if not error.transient:
            raise
        raise KitError(
            f"{error.problem}; it is not known whether {what} arrived",
            f"run `{command}` again: it looks first, and sends only what is not there",
        ) from None
