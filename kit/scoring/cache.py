"""What was computed about a reference, kept on disk under the digest of everything that decides it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import KitError
from kit.core.files import atomic_folder, read_json, sha256, write_json
from kit.data.dataset import PreparedSet

Arrays = Mapping[str, NDArray[Any]]

VERSION = 1
"""Goes up when the meaning of what is kept changes; older entries are then not found."""


@dataclass(frozen=True)
class Cache:
    """A folder of entries, each some named arrays (NPY) and a JSON with their identity and digests.

    An entry that is damaged counts as absent, and is written anew. Where the folder cannot be written (a full disk, a
    read-only data set) nothing is kept, and everything works as before.

    Args:
        folder: need not exist yet; None keeps nothing.
    """

    folder: Path | None

    def get(self, identity: Mapping[str, Any]) -> Arrays | None:
        """The arrays of an entry, mapped from disk, or None where there is no sound one."""
        if self.folder is None:
            return None
        path = self.folder / _key(identity)
        try:
            record = read_json(path / "entry.json")
            if record["identity"] != _full(identity):
                return None
            files: dict[str, str] = record["sha256"]
            if any(sha256(path / f"{name}.npy") != digest for name, digest in files.items()):
                return None
            return {name: np.lib.format.open_memmap(path / f"{name}.npy", mode="r") for name in files}
        except (KitError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def fetch(self, identity: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
        """The arrays of an entry; built, and kept, where there is none.

        Args:
            identity: JSON values, all that decides the arrays.
            build: computes them.
        """
        kept = self.get(identity)
        if kept is not None:
            return kept
        arrays = build()
        self.put(identity, arrays)
        return self.get(identity) or arrays

    def put(self, identity: Mapping[str, Any], arrays: Arrays) -> None:
        """Keeps the arrays of an entry, in place of one that stands there; where it cannot, it keeps nothing."""
        if self.folder is None:
            return
        with contextlib.suppress(KitError, OSError), atomic_folder(self.folder / _key(identity)) as part:
            for name, array in arrays.items():
                np.save(part / f"{name}.npy", array, allow_pickle=False)
            digests = {name: sha256(part / f"{name}.npy") for name in arrays}
            write_json(part / "entry.json", {"identity": _full(identity), "sha256": digests})


def default_cache(prepared: PreparedSet) -> Path:
    """Where what was computed about a set is kept: inside the set, so that it goes when the set goes."""
    return prepared.path / ".cache"


def _full(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": VERSION, **identity}


def _key(identity: Mapping[str, Any]) -> str:
    """A folder's name: what the entry is, for people, and the digest of its identity."""
    digest = hashlib.sha256(json.dumps(_full(identity), sort_keys=True).encode()).hexdigest()
    return f"{identity.get('what', 'entry')}-{digest[:20]}"
