"""The text of a kernel: a script or a notebook from templates, with the kit itself in it as text, and the way back."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from typing import Any

from kit import __version__
from kit.core.clock import show_duration
from kit.core.errors import KitError
from kit.core.provenance import Source
from kit.kaggle.kernel_spec import GPUS, KernelSpec, spec_text

LINE = 120
"""Characters of a line of the packed kit."""

MAX_UNPACKED = 50_000_000
"""Bytes that a packed kit may have when it is unpacked; the kit has about one million."""

RECEIPT_PLACEHOLDER = "<receipt>"
"""Stands in the head for the id of the push, and is there once."""

CONSTANTS = '''\
# What to do: the kernel.toml that this was built from.
RECIPE = """
{recipe}"""
SLUG = {slug}

# What does it: the kit below, by the digest of its files and the commit they come from.
TREE = {tree}
COMMIT, DIRTY = {commit}, {dirty}

# Which push this is, so that nothing is pushed or submitted twice.
RECEIPT = "{receipt}"

# Where Kaggle has the competition's files, and where it takes the results from. Trials elsewhere set the variables.
INPUT = os.environ.get("KIT_KERNEL_INPUT", "/kaggle/input")
WORKING = os.environ.get("KIT_KERNEL_WORKING", "/kaggle/working")
'''

UNPACK = '''\
def unpack():
    """The kit's files, in a temporary folder."""
    folder = tempfile.mkdtemp(prefix="kit-")
    archive = io.BytesIO(base64.b85decode("".join(KIT.split())))
    with tarfile.open(fileobj=archive, mode="r:xz") as files:
        files.extractall(folder, filter="data")
    return folder
'''

IMPORTS = "import base64\nimport io\nimport os\nimport sys\nimport tarfile\nimport tempfile\n"

START = """\
{0}sys.path.insert(0, unpack())
{0}from kit.kernel_main import Session

{0}session = Session(
{0}    recipe=RECIPE,
{0}    slug=SLUG,
{0}    tree=TREE,
{0}    commit=COMMIT,
{0}    dirty=DIRTY,
{0}    receipt=RECEIPT,
{0}    input=INPUT,
{0}    working=WORKING,
{0})
"""


def script(spec: KernelSpec, source: Source, kit: str) -> str:
    """The kernel as a script; `kit` is what `encode` makes of the kit's files."""
    about = "\n".join(f"{name:8}  {words}" for name, words in describe(spec, source).items())
    return (
        f'"""{title(spec)}\n\n{WRITTEN}\n\n{about}\n"""\n\n{IMPORTS}\n{_constants(spec, source)}\n\n{UNPACK}\n\n'
        f'KIT = """\n{kit}\n"""\n\nif __name__ == "__main__":\n{START.format("    ")}    sys.exit(session.main())\n'
    )


def notebook(spec: KernelSpec, source: Source, kit: str) -> str:
    """The kernel as a notebook: what a script does in one go, cell by cell, with its pictures shown."""
    about = "\n".join(f"| **{name}** | {words} |" for name, words in describe(spec, source).items())
    cells = [
        _markdown(f"# {title(spec)}\n\n{WRITTEN}\n\n| | |\n|---|---|\n{about}\n"),
        _code(f"{IMPORTS}\n{_constants(spec, source)}"),
        _markdown("The kit itself, packed; nothing is installed."),
        _code(f'KIT = """\n{kit}\n"""\n', hidden=True),
        _code(f"{UNPACK}\n\n{START.format('')}"),
        _markdown("## Data\nThe competition's pictures: found, cropped, resized, checked."),
        _code("session.prepare()\n"),
        _markdown("## Training\nIt ends by itself, in time, with a valid `images.zip`."),
        _code("session.train()\n"),
        _markdown("## Score\nOn features that are the kit's own: it ranks runs, and is no leaderboard number."),
        _code("session.score()\n"),
        _markdown("## Pictures"),
        _code("session.report()\n"),
        _code("from IPython.display import Image, display\n\n"
              "for picture in session.pictures():\n    display(Image(filename=picture))\n"),
        _markdown("## Result"),
        _code("session.finish()\n"),
    ]  # fmt: skip
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02}"
    about_python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page = {
        "cells": cells,
        "metadata": {"kernelspec": about_python, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


WRITTEN = "Written by `kit kernel build`: to change it, change its kernel.toml."


def title(spec: KernelSpec) -> str:
    """What the kernel is, in a line."""
    return f"{_plain(spec.model)} on {spec.rules.title}, in one kernel"


def describe(spec: KernelSpec, source: Source) -> dict[str, str]:
    """What a reader of the kernel wants to know first."""
    rules = spec.rules
    count = rules.count if spec.count is None else spec.count
    size = rules.size if spec.size is None else spec.size
    commit = "not from git" if source.commit is None else f"commit {source.commit[:12]}"
    changed = ", with changes that are not committed" if source.dirty else ""
    said = {
        "model": spec.model + (f", with {', '.join(spec.settings)}" if spec.settings else ""),
        "seed": str(spec.seed),
        "data": f"the competition's pictures, crop {spec.crop or rules.crop}, {size} px; nothing foreign, no weights",
        "does": (
            f"trains, generates {count:,} pictures, packs and checks them, scores them, "
            f"all within {show_duration(spec.budget_s)} of its start"
        ),
        "leaves": "images.zip, run.json, score.json, report.html, checkpoint.pt (the generator alone), pictures",
        "runs on": f"{GPUS[spec.gpus].about}; no internet, nothing to install",
        "carries": f"kit {__version__}, tree {source.digest[:12]}, {commit}{changed}",
    }
    return {name: _plain(words) for name, words in said.items()}


def constants(text: str) -> dict[str, Any]:
    """The values that the code of a script or notebook gives to names at its top level, none of it run.

    Raises:
        ValueError: neither Python nor a notebook; SyntaxError is one.
    """
    values: dict[str, Any] = {}
    for part in _code_of(text):
        for node in ast.parse(part).body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                names = [name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)]
                try:
                    value = ast.literal_eval(node.value)
                except ValueError:  # what is computed, like the folders
                    continue
                values |= dict(zip(names, value if len(names) > 1 else [value], strict=True))
    return values


def digest(text: str, receipt: str = RECEIPT_PLACEHOLDER) -> str:
    """SHA-256 of a script or notebook, whatever its receipt, the layout of its JSON, and its outputs."""
    if text.lstrip().startswith("{"):
        cells = [[cell["cell_type"], "".join(cell["source"])] for cell in json.loads(text)["cells"]]
        text = json.dumps(cells, ensure_ascii=False)
    plain = text.rstrip().replace(f'RECEIPT = "{receipt}"', f'RECEIPT = "{RECEIPT_PLACEHOLDER}"')
    # Inside of a notebook's JSON the quotes are escaped.
    plain = plain.replace(f'RECEIPT = \\"{receipt}\\"', f'RECEIPT = \\"{RECEIPT_PLACEHOLDER}\\"')
    return hashlib.sha256(plain.encode()).hexdigest()


def encode(files: Mapping[str, bytes]) -> str:
    """An archive of the files (by path, with "/") as lines of base 85, which has no quote and no backslash in it.

    Sorted, with fixed times and owners: the same files give the same text.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)  # its time is 0, its owner nobody
            info.size, info.mode = len(files[name]), 0o644
            tar.addfile(info, io.BytesIO(files[name]))
    text = base64.b85encode(lzma.compress(archive.getvalue(), preset=9 | lzma.PRESET_EXTREME)).decode("ascii")
    return "\n".join(text[start : start + LINE] for start in range(0, len(text), LINE))


def decode(text: str) -> dict[str, bytes]:
    """The files that `encode` was given; white space in the text does not matter.

    Raises:
        KitError: it is damaged, or far larger than the kit.
    """
    try:
        unpacker = lzma.LZMADecompressor(memlimit=256_000_000)
        content = unpacker.decompress(base64.b85decode("".join(text.split())), max_length=MAX_UNPACKED)
        if not unpacker.eof:
            raise ValueError(f"it is cut off, or has more than {MAX_UNPACKED:,} bytes")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            read = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
            return {name: file.read() for name, file in read.items() if file}
    except (ValueError, lzma.LZMAError, tarfile.TarError, EOFError, OverflowError) as error:
        raise KitError(f"the kit carried in a kernel is damaged ({error})", "build the kernel again") from error


def _constants(spec: KernelSpec, source: Source) -> str:
    return CONSTANTS.format(
        recipe=spec_text(spec).replace("\\", "\\\\").replace('"""', r"\"\"\""),
        slug=json.dumps(spec.slug),
        tree=json.dumps(source.digest),
        commit="None" if source.commit is None else json.dumps(source.commit),
        dirty=bool(source.dirty),
        receipt=RECEIPT_PLACEHOLDER,
    )


def _plain(words: str) -> str:
    """Words that cannot end the docstring or the table that they stand in, whatever a recipe calls its model."""
    return "".join(letter if letter.isprintable() and letter not in '"\\|<>`' else "?" for letter in words)


def _code_of(text: str) -> list[str]:
    if not text.lstrip().startswith("{"):
        return [text]
    cells = json.loads(text).get("cells", [])
    return ["".join(cell["source"]) for cell in cells if cell.get("cell_type") == "code"]


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(text)}


def _code(text: str, *, hidden: bool = False) -> dict[str, Any]:
    # Kaggle's editor knows the first name, Jupyter's the second.
    metadata = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}} if hidden else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": _lines(text)}


def _lines(text: str) -> list[str]:
    # As notebooks keep them: each with its end, but the last.
    return text.removesuffix("\n").splitlines(keepends=True)
