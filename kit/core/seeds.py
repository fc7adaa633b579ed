"""Random numbers that belong to one purpose and to one place in the run.

Nothing random in the kit carries a state from step to step. Each draw has a seed of its own, made from the run's
seed, the purpose and the pictures seen so far; so a resumed run draws what the uninterrupted one would have drawn,
and a score or a picture taken in between changes nothing.
"""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """A 63-bit seed from any numbers and words; different parts give unrelated seeds."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
