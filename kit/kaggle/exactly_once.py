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
from typing import Generic, TypeVar

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
        KitError: the id is not one that `new_receipt` makes.
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


def new_receipt(client: Client) -> Receipt:
    """A receipt for something that the account is about to send."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Receipt(id=secrets.token_hex(6), account=client.user, when=now)


def same_account(receipt: Receipt, client: Client) -> bool:
    """Whether a receipt is of the account that is signed in."""
    return receipt.account.casefold() == client.user.casefold()


@dataclass(frozen=True, kw_only=True)
class Sending(Generic[R]):
    """How a thing is sent, and looked for."""

    client: Client
    what: str  # names it in messages ("the push of my-dcgan")
    command: str  # does it again ("kit kernel push my-dcgan"); it has a flag `--again`
    save: Callable[[R], None]  # writes its receipt to the disk
    send: Callable[[R], int | None]  # the one call, with `once=True`; Kaggle's number where the answer has one
    look: Callable[[R], int | None]  # searches Kaggle for the receipt's id; its number, or None where it does not show

    def send_once(self, receipt: R) -> R:
        """Sends a thing for which there is no open receipt; returns its new receipt with its `ref`.

        Raises:
            KaggleError: Kaggle refused it; so does the receipt say.
            KitError: it is not clear whether it arrived; the receipt stays open.
        """
        self.save(receipt)
        try:
            ref = self.send(receipt)
        except KaggleError as error:
            if not error.outcome_unknown:
                self.save(dataclasses.replace(receipt, refused=error.problem))
                raise
            log.warning("%s; looking whether %s arrived", error.problem, self.what)
            ref = None
        if ref is None:
            return self.reconcile(receipt)
        receipt = dataclasses.replace(receipt, ref=ref)
        self.save(receipt)
        return receipt

    def reconcile(self, receipt: R, *, again: bool = False) -> R:
        """Finds out what became of an open receipt; one that is closed is returned as it is.

        It is looked for as long as `client.policy.arrival` says, all commands together. What another account has sent
        cannot be seen by this one, and is looked for once. With `again` what cannot be found is given up, so that it
        may be sent once more.

        Returns:
            the receipt: with its `ref` where it arrived, with `refused` where it was given up.

        Raises:
            KitError: it is not clear whether it arrived; the receipt stays open.
        """
        if not receipt.open:
            return receipt
        policy = self.client.policy
        waits, before = policy.polls(), policy.now()
        while True:
            ref = self._look(receipt)
            if ref is not None:
                log.info("%s (%s) arrived: Kaggle has it as %d", self.what, receipt.when, ref)
                receipt = dataclasses.replace(receipt, ref=ref)
                self.save(receipt)
                return receipt
            now = policy.now()
            receipt = dataclasses.replace(receipt, looked_s=receipt.looked_s + now - before)
            self.save(receipt)
            before, left = now, policy.arrival - receipt.looked_s
            if left <= 0 or not same_account(receipt, self.client):
                break
            log.info("%s does not show on Kaggle; looking for %s more", self.what, show_duration(left))
            policy.sleep(min(next(waits), left))
        problem = f"it is not known whether {self.what} ({receipt.when}) arrived: "
        if same_account(receipt, self.client):
            problem += f"it has not shown on Kaggle in {show_duration(receipt.looked_s)}"
        else:
            problem += f"the account {receipt.account} sent it, and you are signed in as {self.client.user}"
        if not again:
            remedy = f"look at your page on Kaggle; where it is not there, `{self.command} --again` sends it"
            raise KitError(problem, remedy)
        log.warning("%s; given up, as --again asks", problem)
        receipt = dataclasses.replace(receipt, refused=f"given up: {problem}")
        self.save(receipt)
        return receipt

    def _look(self, receipt: R) -> int | None:
        try:
            return self.look(receipt)
        except KaggleError as error:
            if not error.transient:
                raise
            raise KitError(
                f"{error.problem}; it is not known whether {self.what} arrived",
                f"run `{self.command}` again: it looks first, and sends only what is not there",
            ) from None
