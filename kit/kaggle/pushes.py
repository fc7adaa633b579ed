"""The record of pushes: `kernels/SLUG/pushes/RECEIPT/push.json`, begun before anything is sent.

Beside it lies the code as it was pushed, and what came back of it.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import read_json, write_json
from kit.kaggle.versions import ENDED, Version

VERSION = 1
FOLDER = "pushes"  # in a kernel's folder
RECORD = "push.json"
OUTPUT = "output"  # what came back: a run folder


def new_receipt() -> str:
    """An id that no other push or submission has."""
    return secrets.token_hex(6)


@dataclass(frozen=True, kw_only=True)
class Push:
    """One push of a kernel, from before it was sent to its end."""

    folder: Path
    receipt: str  # stands in the code's head, so that Kaggle's copy tells whose it is
    when: float  # of the last try, seconds since 1970
    owner: str
    slug: str
    code: str  # name of the code file in the folder, as pushed
    digest: str  # SHA-256 of the code with its placeholders: the same recipe and kit have the same
    number: int | None = None  # of the version; None until Kaggle has said it
    refused: str | None = None  # why there is no version, in Kaggle's words
    unknown: tuple[str, ...] = ()  # inputs that Kaggle did not know, and left out
    status: str = ""  # the last one seen
    failure: str = ""  # in Kaggle's words
    submission: str | None = None  # the folder of `submissions/` that was made of its output

    @property
    def version(self) -> Version:
        """What Kaggle runs.

        Raises:
            KitError: there is none, as far as is known here.
        """
        if self.number is None:
            raise KitError(
                f"{self.folder}: no version came of this push ({self.refused or 'it was cut off'})",
                f"run `kit kernel push {self.slug}`",
            )
        return Version(self.owner, self.slug, self.number)

    @property
    def open(self) -> bool:
        """Whether it is not known yet if it arrived."""
        return self.number is None and self.refused is None

    @property
    def running(self) -> bool:
        """Whether more is to come of it."""
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
        """Where what it left is kept."""
        return self.folder / OUTPUT

    def update(self, **changes: Any) -> Push:
        """Another record with these fields changed, which is on the disk before it is returned."""
        changed = dataclasses.replace(self, **changes)
        values = {key: value for key, value in asdict(changed).items() if key != "folder"}
        write_json(changed.folder / RECORD, {"version": VERSION, **values})
        return changed


def load(folder: Path) -> Push:
    """Reads a push's record.

    Raises:
        KitError: there is none, it is damaged, or of another version.
    """
    path = folder / RECORD
    record = read_json(path)
    try:
        if record.pop("version") != VERSION:
            raise KitError(f"{path}: written by another version of the kit", "use that one")
        return Push(folder=folder, **{**record, "unknown": tuple(record["unknown"])})
    except (AttributeError, KeyError, TypeError) as error:
        raise KitError(f"{path}: damaged ({error})", "restore it from git, or look at Kaggle and remove it") from error


def pushes(kernel: Path) -> list[Push]:
    """All pushes of a kernel's folder, the newest first.

    Raises:
        KitError: a record cannot be read: whether something was sent must not be guessed.
    """
    found = [load(path.parent) for path in kernel.glob(f"{FOLDER}/*/{RECORD}")]
    return sorted(found, key=lambda push: push.when, reverse=True)


def newest(kernel: Path) -> Push:
    """The newest push of a kernel that Kaggle took.

    Raises:
        KitError: there is none.
    """
    for push in pushes(kernel):
        if push.number is not None:
            return push
    raise KitError(f"{kernel}: never pushed", f"run `kit kernel push {kernel.name}`")


def last_kernel(root: Path) -> Path:
    """The folder of the kernel that was pushed last; where none was, the only kernel there is.

    Raises:
        KitError: no kernel was pushed, and there is none or more than one.
    """
    folders = sorted(path.parent for path in root.glob("*/kernel.toml"))
    found = [(push.when, folder) for folder in folders for push in pushes(folder)[:1]]
    if found:
        return max(found)[1]
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise KitError(f"{root}: no kernel there", "make one: `kit kernel build --model dcgan --slug my-dcgan`")
    names = ", ".join(folder.name for folder in folders)
    raise KitError(f"{root}: no kernel has been pushed yet", f"name the one you mean, of {names}")
