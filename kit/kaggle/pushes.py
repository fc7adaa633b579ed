"""Pushing a kernel exactly once, and the record of it: `kernels/SLUG/pushes/RECEIPT/push.json`.

Beside the record lies the code as it was pushed, and what came back of it. Only pushes of the account that is signed in
count: a record may come from somebody else through git.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.lock import folder_lock
from kit.core.records import Record
from kit.kaggle import exactly_once, versions
from kit.kaggle.client import Client
from kit.kaggle.exactly_once import Receipt, Sending
from kit.kaggle.failures import KaggleError
from kit.kaggle.kernel_spec import RECIPE, SLUG
from kit.kaggle.kernels import Built, fill
from kit.kaggle.versions import ENDED, Version

log = logging.getLogger(__name__)

FOLDER = "pushes"  # in a kernel's folder
RECORD = "push.json"

FULL = "session count"
"""In Kaggle's words when as many GPU sessions run as an account may have ("Maximum batch GPU session count of 2 …")."""

FULL_WAIT_S = 12 * 3600.0
"""A session lasts that long at most, so one ends before."""


@dataclass(frozen=True, kw_only=True)
class Push(Record):
    """One push of a kernel, from before it was sent to its end.

    Raises:
        KitError: a name that is no kernel's, or a file elsewhere.
    """

    FORMAT: ClassVar[str] = "kit-push"
    VERSION: ClassVar[int] = 2

    receipt: Receipt  # stands in the code's head, so that Kaggle's copy tells whose it is; its `ref` is the version
    slug: str
    code: str  # name of the code file in the folder, as pushed
    digest: str  # SHA-256 of the code with its placeholders: the same recipe and kit have the same
    sequence: int  # of the pushes of all kernels beside this one, from 1
    unknown: tuple[str, ...] = ()  # inputs that Kaggle did not know, and left out
    status: str = ""  # the last one seen
    failure: str = ""  # in Kaggle's words
    submission: str | None = None  # the folder of `submissions/` that was made of its output
    folder: Path = field(default=Path(), metadata={"json": False})

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.slug) or self.code not in (f"{self.slug}.py", f"{self.slug}.ipynb"):
            raise KitError(f"the code {self.code!r} of a kernel {self.slug!r}")
        if not re.fullmatch(r"[\w-]+", self.receipt.account):
            raise KitError(f"the account is {self.receipt.account!r}")

    @property
    def number(self) -> int | None:
        """Of the version; None until Kaggle has said it."""
        return self.receipt.ref

    @property
    def version(self) -> Version:
        """What Kaggle runs.

        Raises:
            KitError: there is none, as far as is known here.
        """
        if self.number is None:
            why = self.receipt.refused or "it was cut off"
            raise KitError(f"{self.folder}: no version came of this push ({why})", f"run `kit kernel push {self.slug}`")
        return Version(self.receipt.account, self.slug, self.number)

    @property
    def running(self) -> bool:
        return self.number is not None and self.status not in ENDED

    @property
    def unfinished(self) -> bool:
        """Whether it runs, or has come to a good end and waits to be fetched."""
        return self.running or (self.status == "COMPLETE" and self.submission is None)

    @property
    def failed(self) -> bool:
        """Whether it has ended and is no submission."""
        return self.status in ENDED and self.status != "COMPLETE"

    @property
    def output(self) -> Path:
        """The folder of what it left."""
        return self.folder / "output"

    def update(self, **changes: Any) -> Push:
        """Another record with these fields changed, which is on the disk before it is returned."""
        changed = dataclasses.replace(self, **changes)
        changed.save(changed.folder / RECORD)
        return changed


def load(folder: Path) -> Push:
    """Reads a push's record; raises where there is none, or one that is damaged, or of another version."""
    path = folder / RECORD
    push = Push.load(path, remedy="look at Kaggle whether it was pushed, then restore it from git or remove it")
    if (push.receipt.id, push.slug) != (folder.name, folder.resolve().parent.parent.name):
        raise KitError(f"{path}: the record of another push ({push.slug}, {push.receipt.id})", "move it back")
    return dataclasses.replace(push, folder=folder)


def pushes(kernel: Path, account: str) -> list[Push]:
    """An account's pushes of a kernel: those that may be on their way, then the versions, the newest first.

    Raises:
        KitError: a record cannot be read: whether something was sent must not be guessed.
    """
    found = [load(path.parent) for path in kernel.glob(f"{FOLDER}/*/{RECORD}")]
    own = [push for push in found if push.receipt.account.casefold() == account.casefold()]
    return sorted(own, key=lambda push: (push.receipt.open, push.number or 0, push.sequence), reverse=True)


def newest(kernel: Path, account: str) -> Push:
    """An account's newest version of a kernel, by Kaggle's numbers; raises where there is none."""
    for push in pushes(kernel, account):
        if push.number is not None:
            return push
    raise KitError(f"{kernel}: never pushed by {account}", f"run `kit kernel push {kernel.name}`")


def last_kernel(root: Path, account: str) -> Path:
    """The folder of the kernel that an account pushed last; where it pushed none, the only kernel there is.

    Raises:
        KitError: no kernel was pushed, and there is none or more than one.
    """
    folders = sorted(path.parent for path in root.glob(f"*/{RECIPE}"))
    last: dict[int, Path] = {}
    for folder in folders:
        try:
            last |= {push.sequence: folder for push in pushes(folder, account)}
        except KitError as error:  # of another kernel, perhaps
            log.warning("%s", error)
    if last:
        return last[max(last)]
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise KitError(f"{root}: no kernel there", "make one: `kit kernel build --model dcgan`")
    names = ", ".join(folder.name for folder in folders)
    raise KitError(f"{root}: no kernel has been pushed yet", f"name the one you mean, of {names}")


def push(client: Client, built: Built, *, again: bool = False) -> Push:
    """Pushes a kernel, unless this very one was pushed already; after a crash it finds out what became of the push.

    With `again` it is pushed although this very one has come to its end, another one is still running, or an earlier
    push whose answer got lost cannot be found.

    Returns:
        the push, with its version: the new one, or the one that goes on.

    Raises:
        KitError: Kaggle refuses it, or does not know what it is to read; or it is not clear whether it arrived.
    """
    with folder_lock(built.folder, remedy="another command is pushing it: wait until that one is done"):
        return _standing(client, built, again=again) or _send(client, built)


def _standing(client: Client, built: Built, *, again: bool) -> Push | None:
    """The earlier push that this one would repeat or get in the way of."""
    for before in pushes(built.folder, client.user):
        if before.receipt.open:
            _Pushing(client, before).sending.reconcile(before.receipt, again=again)
    # Only the newest version can be in the way.
    push = next((before for before in pushes(built.folder, client.user) if before.number is not None), None)
    if push is None or push.unknown:
        return None
    same = push.digest == built.digest
    when = push.receipt.when
    if (push.unfinished and same) or (push.running and not again):
        differs = "" if same else "; the kernel has been changed since, which --again would push"
        log.info("going on with %s, pushed %s%s", push.version, when, differs)
        return push
    if same and not again and not push.failed:
        log.info("%s is this very kernel, pushed %s; --again would run it once more", push.version, when)
        return push
    return None


def _send(client: Client, built: Built) -> Push:
    receipt = exactly_once.new_receipt(client)
    push = Push(
        receipt=receipt,
        slug=built.slug,
        code=built.code.name,
        digest=built.digest,
        sequence=_next_sequence(built.folder.parent),
        folder=built.folder / FOLDER / receipt.id,
    )
    with tempfile.TemporaryDirectory(prefix="kit-push-") as name:
        copy = Path(name)
        fill(built.folder, copy, owner=receipt.account, receipt=receipt.id)
        push.folder.mkdir(parents=True)
        shutil.copyfile(copy / push.code, push.folder / push.code)
        pushing = _Pushing(client, push, copy)
        try:
            pushing.sending.send_once(receipt)
        except KaggleError as error:
            if error.status != 409:
                raise
            taken = f"choose another --slug: {receipt.account} has a kernel of that title already"
            raise KitError(error.problem, taken) from None
        push = pushing.push
    if push.unknown:
        raise KitError(
            f"{push.version} was pushed, but Kaggle does not know its input {', '.join(push.unknown)} and left it "
            "out: it has nothing to train on",
            f"accept the competition's rules, or check the name; stop the version at {push.version.page}, and push "
            "again",
        )
    log.info("pushed %s: %s", push.version, push.version.page)
    return push


class _Pushing:
    """A push on its way: what `exactly_once` has to know of it. `copy` is what `fill` wrote, where it is to be sent."""

    def __init__(self, client: Client, push: Push, copy: Path = Path()) -> None:
        self.push, self._client, self._copy = push, client, copy
        self.sending = Sending(
            client=client,
            what=f"the push of {push.slug}",
            command=f"kit kernel push {push.slug}",
            save=self._save,
            send=self._send,
            look=self._look,
        )

    def _save(self, receipt: Receipt) -> None:
        self.push = self.push.update(receipt=receipt)

    def _send(self, receipt: Receipt) -> int | None:
        """Pushes, and waits as long as the account's GPU sessions are all in use: then Kaggle has made no version."""
        policy, owner, slug = self._client.policy, receipt.account, self.push.slug
        waits, began = policy.polls(), policy.now()
        while True:
            answer = versions.push(self._client, self._copy, owner=owner, slug=slug)
            if not answer.error:
                self.push = dataclasses.replace(self.push, unknown=answer.unknown)
                return answer.version
            if FULL not in answer.error.lower() or policy.now() - began > FULL_WAIT_S:
                raise KaggleError(f"Kaggle did not take {owner}/{slug}: {answer.error}", _next_step(answer.error))
            wait = 5 * next(waits)
            log.info("Kaggle: %s; trying again in %s", answer.error.rstrip("."), show_duration(wait))
            policy.sleep(wait)

    def _look(self, receipt: Receipt) -> int | None:
        found = versions.newest(self._client, receipt.account, self.push.slug)
        if found is None or receipt.id not in found.source:
            return None
        if not found.number:
            page = versions.about(receipt.account, self.push.slug).page
            raise KitError(f"Kaggle has the push of {self.push.slug} and gives it no number", f"see {page}")
        return found.number


def _next_sequence(root: Path) -> int:
    """One more than any push of the kernels beside each other has."""
    found = [0]
    for path in root.glob(f"*/{FOLDER}/*/{RECORD}"):
        try:
            found.append(load(path.parent).sequence)
        except KitError as error:
            log.warning("%s", error)
    return max(found) + 1


_STEPS = (
    (FULL, "stop a session at https://www.kaggle.com/me/code, or wait for one to end, then push again"),
    ("phone", "verify your phone number at https://www.kaggle.com/settings"),
    ("title", "choose another --slug"),
    ("quota", "the GPU hours come back weekly: see https://www.kaggle.com/settings"),
    ("internet", "build the kernel again: its metadata switch the internet off"),
)


def _next_step(words: str) -> str:
    found = (step for part, step in _STEPS if part in words.lower())
    return next(found, "mend what it names, then push again")
