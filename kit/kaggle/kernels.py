"""From a recipe to a kernel: a script or a notebook that carries the kit, and `kernel-metadata.json`.

A kernel is built without an account: its metadata name the owner by `OWNER_PLACEHOLDER`, its head the receipt by
`RECEIPT_PLACEHOLDER`. `fill` writes a copy with both filled in, and `read_kernel` reads one back, from here or from
Kaggle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.core import provenance
from kit.core.errors import KitError
from kit.core.files import atomic, read_json, write_json
from kit.core.provenance import Source
from kit.kaggle import kernel_files
from kit.kaggle.kernel_files import RECEIPT_PLACEHOLDER
from kit.kaggle.kernel_spec import GPUS, KERNELS, KernelSpec, parse_spec

OWNER_PLACEHOLDER = "<owner>"
"""Stands in the metadata for the account's name. No account can be called so: pushed by mistake it is refused."""

METADATA = "kernel-metadata.json"
"""The name that Kaggle's client looks for."""

MAX_BYTES = 1_000_000
"""Kaggle refuses a source of so many bytes or more."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A kernel's folder as `build` wrote it."""

    spec: KernelSpec
    code: Path  # the script or notebook
    source: Source  # the kit it carries
    digest: str  # of the code, see `kernel_files.digest`: the same recipe and kit have the same, whatever the receipt

    @property
    def slug(self) -> str:
        return self.spec.slug

    @property
    def folder(self) -> Path:
        return self.code.parent

    @property
    def bytes(self) -> int:
        """Of the code."""
        return self.code.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What a script or notebook says of itself, and what it carries."""

    spec: KernelSpec
    source: Source
    receipt: str  # RECEIPT_PLACEHOLDER where it was never pushed
    files: dict[str, bytes]  # of the kit, by path ("kit/cli.py")
    digest: str  # as `Built.digest`


def build(
    spec: KernelSpec,
    root: Path = KERNELS,
    *,
    source: Source | None = None,
    files: Mapping[str, bytes] | None = None,
    trust: bool = False,
    overwrite: bool = False,
) -> Built:
    """Writes `root/SLUG/`: the code and its metadata. The same recipe and kit give the same bytes.

    Args:
        spec: the recipe; it is not written, see `kernel_spec.write_spec`.
        root: the folder of kernels.
        source: where the files come from; None: as git says of the running kit.
        files: of the kit, by path; None: those of the running kit.
        trust: see `require_known`.
        overwrite: replace files of these names that the kit did not write.

    Raises:
        KitError: an unknown model or setting, a model file not trusted, a kernel too large for Kaggle, files that the
            kit did not write, or a full disk.
    """
    require_known(spec, trust=trust)
    files = provenance.package_files() if files is None else files
    source = source or provenance.source_tree()
    if source.digest != provenance.tree_digest(files):
        raise KitError("the kit changed while the kernel was built", "build it again")
    text = (kernel_files.notebook if spec.notebook else kernel_files.script)(spec, source, kernel_files.encode(files))
    content = text.encode()
    if len(content) >= MAX_BYTES:
        raise KitError(
            f"{spec.slug}: the kernel would have {len(content):,} bytes, and Kaggle takes less than {MAX_BYTES:,}",
            "remove large files from the kit's folder",
        )
    folder = root / spec.slug
    code, other = folder / f"{spec.slug}.py", folder / f"{spec.slug}.ipynb"
    if spec.notebook:
        code, other = other, code
    if not overwrite:
        for path, is_ours in ((code, _is_kernel), (folder / METADATA, _is_metadata)):
            if path.exists() and not is_ours(path):
                raise KitError(
                    f"{path} is not a file that the kit wrote",
                    f"move it away, or replace it with `kit kernel build {spec.slug} --overwrite`",
                )
    with atomic(code) as file:
        file.write(content)
    write_json(folder / METADATA, _metadata(spec, code.name))
    if _is_kernel(other):  # of an earlier build, when the recipe asked for the other kind
        other.unlink()
    return Built(spec=spec, code=code, source=source, digest=kernel_files.digest(text))


def require_known(spec: KernelSpec, *, trust: bool = False) -> None:
    """Looks at model and settings: a mistake is told now, not after hours in a queue.

    With `trust` the code of its model file may be run although the user has not named that file himself.

    Raises:
        KitError: an unknown model or setting, with the close match; a model file not trusted.
    """
    from kit.models import custom, registry

    try:
        if not spec.source or custom.is_allowed(spec.source):
            registry.get(spec.model, spec.source).override(list(spec.settings))
        else:
            custom.check(spec.model, spec.source, spec.settings, trust=trust, where="kernel.toml")
    except KitError as error:
        raise KitError(f"{spec.slug}: {error.problem}", error.remedy) from error


def _metadata(spec: KernelSpec, code_file: str) -> dict[str, Any]:
    """`kernel-metadata.json`, every field written: what is left out the server decides, and the internet is then on."""
    gpus = GPUS[spec.gpus]
    return {
        "id": f"{OWNER_PLACEHOLDER}/{spec.slug}",
        "title": spec.slug.replace("-", " "),  # it must turn into the slug again
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook" if spec.notebook else "script",
        "is_private": True,
        "enable_gpu": bool(gpus.machine_shape),
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": gpus.machine_shape,
        "dataset_sources": [],
        "competition_sources": [spec.competition],
        "kernel_sources": [],
        "model_sources": [],
        "keywords": [],
        "docker_image_pinning_type": "original",  # a version that ran once runs again
    }


def fill(folder: Path, out: Path, *, owner: str, receipt: str) -> Path:
    """Writes a copy of a built kernel that can be pushed; the receipt goes into the code's head and its `run.json`.

    Returns:
        the code's path in the copy.

    Raises:
        KitError: no kernel there, or one whose placeholders are gone.
    """
    about = read_json(folder / METADATA, remedy="run `kit kernel build` first")
    named = str(about.get("code_file")) if _is_metadata(folder / METADATA) else ""
    code = folder / named
    ours = named in (f"{folder.name}.py", f"{folder.name}.ipynb") and code.is_file()
    text = code.read_text(encoding="utf-8") if ours else ""
    if text.count(RECEIPT_PLACEHOLDER) != 1:
        raise KitError(f"{folder}: this kernel was changed by hand", "run `kit kernel build` again")
    with atomic(out / code.name) as file:
        file.write(text.replace(RECEIPT_PLACEHOLDER, receipt).encode())
    write_json(out / METADATA, {**about, "id": about["id"].replace(OWNER_PLACEHOLDER, owner)})
    return out / code.name


def read_kernel(code: Path) -> Kernel:
    """Reads what a script or notebook of the kit carries, as built, filled in, or given back by Kaggle; runs nothing.

    Raises:
        KitError: it was not written by `kit kernel build`, or is damaged.
    """
    try:
        text = code.read_text(encoding="utf-8")
        values = kernel_files.constants(text)
        receipt = values["RECEIPT"]
        source = Source(commit=values["COMMIT"], dirty=values["DIRTY"], digest=values["TREE"])
        files = kernel_files.decode(values["KIT"])
        spec = parse_spec(values["RECIPE"], slug=values["SLUG"], source=str(code))
    except FileNotFoundError:
        raise KitError(f"{code}: no such file", "run `kit kernel build` first") from None
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise KitError(f"{code}: no kernel of the kit ({error})", "build it with `kit kernel build`") from error
    return Kernel(spec=spec, source=source, receipt=receipt, files=files, digest=kernel_files.digest(text, receipt))


def _is_kernel(path: Path) -> bool:
    """Whether a file is a script or notebook of the kit's."""
    try:
        read_kernel(path)
    except KitError:
        return False
    return True


def _is_metadata(path: Path) -> bool:
    """Whether a file is the metadata of a kernel that is built and was not filled in."""
    about = read_json(path)
    return isinstance(about, dict) and str(about.get("id")).startswith(f"{OWNER_PLACEHOLDER}/")
