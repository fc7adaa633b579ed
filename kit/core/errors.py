"""The one error that users see: what went wrong, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """A problem the user can mend.

    The command line prints it as one line, `problem: remedy`, without a traceback, and exits with 1.

    Args:
        problem: what is wrong, with the file or the value by name.
        remedy: the way out, in the imperative ("run `kit data` first").
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = " ".join(problem.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.problem}; {self.remedy}" if self.remedy else self.problem)


class DiskFullError(KitError):
    """There was no room left on a disk."""


def unknown(kind: str, name: str, known: Iterable[str]) -> KitError:
    """The error for a name that is not in a table, with the closest ones that are.

    Args:
        kind: what the name stands for ("model", "crop policy").
        name: what the user typed.
        known: the names of the table.
    """
    names = sorted(known)
    # n=1 and a low cutoff: a typing error gets its match, a wild guess gets the whole list.
    match = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    remedy = f"did you mean {match[0]!r}?" if match else f"choose from {', '.join(names)}" if names else "there is none"
    return KitError(f"unknown {kind} {name!r}", remedy)
