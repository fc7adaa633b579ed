"""`source.zip`: the code that made a run, so that it can be run again when the checkout has moved on."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import atomic, sha256
from kit.generation.pack import PERMISSIONS, TIMESTAMP, UNIX
from kit.generation.pictures import ENTRY_ERRORS, open_zip, read_entry
from kit.submission.ledger import Source

# What a checkout holds beside the package and an installation needs.
BESIDE = ("setup.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")

# The kit is some hundred kilobytes; this keeps a hostile archive from filling the memory.
MAX_FILES = 10_000


def write_source(out: Path) -> Source:
    """Writes the running kit into a zip: the package, and what installs it where the checkout has that.

    Sorted, with fixed times and attributes: the same files give the same bytes.

    Raises:
        KitError: the disk is full, or the place cannot be written.
    """
    files = provenance.package_files()
    root = provenance.PACKAGE.parent
    if (root / "setup.py").is_file():  # an installed package lies among strangers' files
        files |= {name: (root / name).read_bytes() for name in BESIDE if (root / name).is_file()}
    write_files(files, out)
    state = provenance.source_tree()
    return Source(sha256=sha256(out), tree=provenance.tree_digest(files), commit=state.commit, dirty=state.dirty)


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Writes files into a zip, sorted, with fixed times and attributes.

    Args:
        files: contents by path, with "/".
        out: the zip.

    Raises:
        KitError: the disk is full, or the place cannot be written.
    """
    with atomic(out) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=TIMESTAMP)
            info.create_system = UNIX
            info.external_attr = PERMISSIONS
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name], compresslevel=9)


def read_source(path: Path) -> dict[str, bytes]:
    """The files of a `source.zip` by name.

    Raises:
        KitError: it is damaged, or no source of the kit.
    """
    with open_zip(path) as archive:
        infos = archive.infolist()
        try:
            if len(infos) > MAX_FILES:
                raise ValueError(f"{len(infos):,} files")
            files = {info.filename: read_entry(archive, info) for info in infos}
        except (*ENTRY_ERRORS, ValueError) as error:
            raise KitError(f"{path}: damaged ({error})", "copy it again") from error
    if "kit/__init__.py" not in files:
        raise KitError(f"{path}: holds no source of the kit")
    return files
