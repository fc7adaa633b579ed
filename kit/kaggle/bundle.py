"""Files as text: how a kernel carries the kit inside its own source."""

from __future__ import annotations

import base64
import io
import lzma
import tarfile
from collections.abc import Mapping

from kit.core.errors import KitError

LINE = 120
"""Characters of a line of the text."""

PRESET = 9 | lzma.PRESET_EXTREME
MODE = 0o644


def encode(files: Mapping[str, bytes]) -> str:
    """An archive of the files as lines of base 85, which has no quote and no backslash in it.

    Sorted, with fixed times and owners: the same files give the same text.

    Args:
        files: contents by path, with "/".
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)  # its time is 0, its owner nobody
            info.size, info.mode = len(files[name]), MODE
            tar.addfile(info, io.BytesIO(files[name]))
    text = base64.b85encode(lzma.compress(archive.getvalue(), preset=PRESET)).decode("ascii")
    return "\n".join(text[start : start + LINE] for start in range(0, len(text), LINE))


def decode(text: str) -> dict[str, bytes]:
    """The files that `encode` was given; white space in the text does not matter.

    Raises:
        KitError: it is damaged.
    """
    try:
        archive = io.BytesIO(lzma.decompress(base64.b85decode("".join(text.split()))))
        with tarfile.open(fileobj=archive) as tar:
            read = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
            return {name: file.read() for name, file in read.items() if file}
    except (ValueError, lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise KitError(f"the kit carried in a kernel is damaged ({error})", "build the kernel again") from error
