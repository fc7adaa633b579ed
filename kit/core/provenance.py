"""What made a run: the versions of its libraries, and the code of the kit, which `source.zip` keeps.

With `source.zip` a run can be made again after the kit has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import stat
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import BAD_ENTRY, atomic, disk_error, sha256

PACKAGE = Path(__file__).resolve().parents[1]

# The libraries whose versions can change a byte of what the kit makes.
LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "numpy", "scipy", "pillow", "kaggle")

GIT_TIMEOUT_S = 10

BESIDE = ("setup.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
"""What a checkout holds beside the package and an installation needs. It is kept and never run by the kit."""

# The kit has some hundred files of a megabyte in all. What is larger is refused before it is unpacked.
MAX_ARCHIVE = 8 * 2**20  # bytes of the zip
MAX_FILES = 2_000
MAX_BYTES = 32 * 2**20  # unpacked, all files together

_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX, _MODE = 3, (stat.S_IFREG | 0o644) << 16

_AGAIN = "restore it from where you have it, or pack the run again"


@dataclass(frozen=True)
class Source:
    """The state of the package that is running."""

    commit: str | None  # None: not in a git checkout, or nothing committed yet
    dirty: bool  # some of its files differ from that commit
    digest: str  # of its files, see `tree_digest`


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide what comes out; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


_FILE = re.compile(r"kit/([A-Za-z0-9][A-Za-z0-9_]*/)*([A-Za-z_][A-Za-z0-9_]*\.(py|html|css|js)|py\.typed)")


def belongs(name: str) -> bool:
    """Whether a path ("kit/cli.py") can be one of the kit's own files: a module, or a page of the report.

    Folders of editors, their backups, notebooks' checkpoints and keys that lie in the package do not belong to it.
    """
    return _FILE.fullmatch(name) is not None


def package_files() -> dict[str, bytes]:
    """Every file of the running package by its path ("kit/cli.py"); what does not belong to it is left out."""
    files = {file.relative_to(PACKAGE.parent).as_posix(): file for file in sorted(PACKAGE.rglob("*"))}
    return {name: file.read_bytes() for name, file in files.items() if belongs(name) and file.is_file()}


def tree_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256, in hexadecimal, over the files' names and contents, in the order of their names.

    Args:
        files: by path with `/`, as `package_files` gives them; what lies outside `kit/` is left out, so that a
            checkout, an installed package and a `source.zip` of the same code agree.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.startswith("kit/"):
            digest.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def source_tree() -> Source:
    """The package that is running: git's commit where it knows these files, and their digest in any case."""
    digest = tree_digest(package_files())
    # An installed kit may lie in somebody else's repository, whose commit says nothing about it.
    known = _git("ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git("rev-parse", "--verify", "HEAD") if known else None
    dirty = commit is not None and bool(_git("status", "--porcelain", "--", "."))
    return Source(commit=commit, dirty=dirty, digest=digest)


def _git(*arguments: str) -> str | None:
    """What git says in the package's folder; None where it fails or is not there."""
    # In a git hook these point at the repository being committed to, not at the one the package lies in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, env=environment, capture_output=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """What a `source.zip` is."""

    sha256: str  # of the file
    tree: str  # `tree_digest` of its files
    commit: str | None  # git's, that the files come from
    dirty: bool  # whether they differ from it


def write_source(out: Path) -> SourceRecord:
    """Writes the running kit into a zip: the package, and from a checkout also what installs it.

    Sorted, with fixed times and attributes: the same files give the same bytes.

    Raises:
        KitError: the disk is full, or the folder cannot be written.
    """
    files = package_files()
    root = PACKAGE.parent
    if (root / "setup.py").is_file():  # an installed package lies among files of others
        files |= {name: (root / name).read_bytes() for name in BESIDE if (root / name).is_file()}
    write_files(files, out)
    state = source_tree()
    return SourceRecord(sha256=sha256(out), tree=tree_digest(files), commit=state.commit, dirty=state.dirty)


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Writes files of the kit into a zip that `read_source` reads.

    Args:
        files: contents by path, with "/".
        out: the zip.

    Raises:
        KitError: a name that is no file of the kit, a full disk, or a folder that cannot be written.
    """
    require_kit_names(files, where=out)
    with atomic(out) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=_TIME)
            info.create_system, info.external_attr = _UNIX, _MODE
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name], compresslevel=9)


def read_source(path: Path, *, expected: SourceRecord | None = None) -> dict[str, bytes]:
    """The files of a `source.zip` by name, after every check; nothing is unpacked to the disk.

    Args:
        path: the zip.
        expected: what a record says of it; the file's digest and that of its code are compared.

    Raises:
        KitError: it is damaged, too large, not the one expected, or holds anything that is no file of the kit.
    """
    try:
        if (size := path.stat().st_size) > MAX_ARCHIVE:
            raise KitError(f"{path}: {size:,} bytes, and the kit's source has less than {MAX_ARCHIVE:,}", _AGAIN)
        if expected and sha256(path) != expected.sha256:
            raise KitError(f"{path}: not the file that the record describes (its SHA-256 differs)", _AGAIN)
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _require_plain(infos, path)
            files = {info.filename: archive.read(info) for info in infos}  # at most `file_size` bytes, and the CRC
    except FileNotFoundError:
        raise KitError(f"{path}: no such file", _AGAIN) from None
    except BAD_ENTRY as error:
        raise KitError(f"{path}: damaged ({error})", _AGAIN) from error
    except OSError as error:
        raise disk_error(error, path) from error
    if "kit/__init__.py" not in files:
        raise KitError(f"{path}: holds no source of the kit", _AGAIN)
    if expected and tree_digest(files) != expected.tree:
        raise KitError(f"{path}: not the code that the record describes (its digest differs)", _AGAIN)
    return files


def require_kit_names(names: Iterable[str], *, where: Path) -> None:
    """Makes sure that an archive holds files of the kit alone: no other package, nothing outside its folder.

    Raises:
        KitError: any other name, or one that is there twice.
    """
    seen: set[str] = set()
    for name in names:
        if name not in BESIDE and not belongs(name):
            raise KitError(f"{where}: holds {name!r}, which is no file of the kit", _AGAIN)
        if name.lower() in seen:
            raise KitError(f"{where}: holds {name!r} twice", _AGAIN)
        seen.add(name.lower())


def _require_plain(infos: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuses what a zip can hold beside plain files of the kit in a sensible size."""
    if len(infos) > MAX_FILES:
        raise KitError(f"{path}: {len(infos):,} files, and the kit has less than {MAX_FILES:,}", _AGAIN)
    require_kit_names((info.filename for info in infos), where=path)
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise KitError(f"{path}: more than {MAX_BYTES:,} bytes when unpacked", _AGAIN)
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise KitError(f"{path}: {info.filename!r} is a link, or encrypted", _AGAIN)
