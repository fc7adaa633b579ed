"""Checks an `images.zip` as a competition's scorer reads it, before it is sent."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from kit.competition import Competition
from kit.core.errors import KitError
from kit.core.files import sha256
from kit.core.machine import cores
from kit.core.progress import Progress, no_progress
from kit.data.archives import ENTRY_ERRORS, BadFile
from kit.data.decoding import open_image
from kit.generation.pictures import (
    load_pixels,
    open_zip,
    parallel_map,
    picture_digest,
    pixels_digest,
    read_entry,
)

# The scorer lists *.png and *.jpg, in lower case, in the unpacked folder and not in its subfolders.
SCORED_SUFFIXES = (".png", ".jpg")

# A zip with this many times the entries that a competition takes is not read.
ENTRIES_FACTOR = 10


@dataclass(frozen=True)
class Issue:
    """A problem of one entry, or of the archive (then `entry` is its file name)."""

    entry: str
    problem: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.problem}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check` found. The scorer would reject or miscount errors, not warnings."""

    path: Path
    errors: list[Issue]
    warnings: list[Issue]
    count: int  # entries that the scorer would read
    sha256: str  # of the file
    pixels_sha256: str | None  # see `pixels_digest`; None: no picture could be read

    @property
    def ok(self) -> bool:
        """Whether the scorer would accept it."""
        return not self.errors

    def lines(self, *, limit: int = 10) -> list[str]:
        """The issues as text: the first few of each kind, and how many more there are."""
        lines = []
        for kind, issues in (("error", self.errors), ("warning", self.warnings)):
            lines += [f"{kind}: {issue}" for issue in issues[:limit]]
            if len(issues) > limit:
                lines.append(f"{kind}: … and {len(issues) - limit:,} more like these")
        return lines


def check(
    path: Path, *, competition: Competition, count: int | None = None, progress: Progress = no_progress
) -> Report:
    """Checks an archive as the competition's scorer reads it.

    Errors: not a zip or a truncated one; an entry that is damaged, encrypted, no picture, of another size, format
    or mode; a picture in a folder, which the scorer does not read; a name that occurs twice or leads out of the
    archive; the number of pictures. Warnings: the same pixels twice, a picture of a single colour, entries that are
    no pictures.
    No more of an entry is unpacked than a picture of that size can need, whatever the archive states.

    Args:
        path: the zip.
        competition: what is asked for.
        count: number of pictures; None: what the competition takes.
        progress: called with (pictures checked, pictures in all).

    Raises:
        KitError: there is no such file.
    """
    if not path.is_file():
        reason = "a folder, not a zip" if path.is_dir() else "no such file"
        raise KitError(f"{path}: {reason}", "give the images.zip of a run or a submission")
    digest = sha256(path)
    try:
        archive = open_zip(path)
    except KitError as error:
        issue = Issue(path.name, error.problem.removeprefix(f"{path}: "))
        return Report(path=path, errors=[issue], warnings=[], count=0, sha256=digest, pixels_sha256=None)
    with archive:
        entries, errors, warnings = _by_name(archive.infolist())
        found = len(entries)
        if asked := _asked(found, competition, count):
            errors.append(Issue(path.name, asked))
        if found > ENTRIES_FACTOR * competition.count_max:
            errors.append(Issue(path.name, "too many to look at each"))
            entries = []
        first: dict[bytes, str] = {}
        digests = []
        looked = parallel_map(
            partial(_look, competition=competition), _read(archive, entries, competition), workers=cores()
        )
        for done, (info, (pixels_sha256, problem, blank)) in enumerate(zip(entries, looked, strict=True), 1):
            name = info.filename
            if problem:
                errors.append(Issue(name, problem))
            if pixels_sha256:
                digests.append(pixels_sha256)
                if first.setdefault(pixels_sha256, name) != name:
                    warnings.append(Issue(name, f"the same pixels as {first[pixels_sha256]}"))
            if blank:
                warnings.append(Issue(name, "blank, all of one colour"))
            progress(done, found)
    return Report(
        path=path,
        errors=errors,
        warnings=warnings,
        count=found,
        sha256=digest,
        pixels_sha256=pixels_digest(digests) if digests else None,
    )


def _by_name(infos: list[zipfile.ZipInfo]) -> tuple[list[zipfile.ZipInfo], list[Issue], list[Issue]]:
    """The entries that the scorer will look at, sorted by name, and what the names alone tell."""
    entries: dict[str, zipfile.ZipInfo] = {}
    errors: list[Issue] = []
    warnings: list[Issue] = []
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or (parts and ":" in parts[0]):
            errors.append(Issue(name, "leads out of the archive, which unpacking refuses"))
        elif info.is_dir():
            warnings.append(Issue(name, "a folder, which the scorer does not look into"))
        elif parts[0] == "__MACOSX":
            warnings.append(Issue(name, "what a Mac adds to a zip, which the scorer does not look at"))
        elif not name.endswith(SCORED_SUFFIXES):
            warnings.append(Issue(name, f"does not end in {' or '.join(SCORED_SUFFIXES)}: the scorer passes over it"))
        elif len(parts) > 1:
            errors.append(Issue(name, "lies in a folder, where the scorer does not look"))
        elif name in entries:
            errors.append(Issue(name, "this name is there twice, and the second overwrites the first"))
        else:
            entries[name] = info
    return [entries[name] for name in sorted(entries)], errors, warnings


def _asked(found: int, competition: Competition, count: int | None) -> str | None:
    if count is not None:
        return None if found == count else f"{found:,} pictures, and {count:,} were asked for"
    low, high = competition.count_min, competition.count_max
    if low <= found <= high:
        return None
    takes = f"exactly {low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{found:,} pictures, and {competition.slug} asks for {takes}"


def _read(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], competition: Competition) -> Iterator[bytes | str]:
    """The bytes of each entry, or what is wrong with it."""
    # Four channels of 16 bits without any compression, twice over, and room for a colour profile.
    limit = 2 * competition.size**2 * 8 + 2**20
    for info in entries:
        try:
            yield read_entry(archive, info, limit=limit)
        except ENTRY_ERRORS as error:
            yield f"cannot be unpacked ({error})"


def _look(data: bytes | str, competition: Competition) -> tuple[bytes | None, str | None, bool]:
    """What decoding one entry finds: the digest of its pixels, what is wrong with it, whether it is of one colour."""
    if isinstance(data, str):
        return None, data, False
    side = competition.size
    try:
        with open_image(data, max_pixels=sys.maxsize) as picture:
            # Size and format are in the header: a huge picture is refused without decoding it.
            if picture.format != competition.format:
                return None, f"is a {picture.format}, and {competition.slug} takes {competition.format}", False
            if picture.size != (side, side):
                return None, f"is {picture.width}×{picture.height}, not {side}×{side}", False
            mode = picture.mode
        pixels = load_pixels(data, competition.mode)
    except BadFile as error:
        return None, f"is no picture that can be read ({error})", False
    problem = None if mode == competition.mode else f"has mode {mode}, not {competition.mode}"
    return picture_digest(pixels), problem, bool((pixels == pixels[0, 0]).all())
