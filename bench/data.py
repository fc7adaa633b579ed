"""How fast are photographs prepared, against the plain loop of public kernels?

    python bench/data.py [--repeats 7] [--full]

The plain loop is one process: Pillow opens each file of the extracted folders, the XML is parsed, the box is cropped
and resized. It makes the same arrays as the kit: the crops, and the whole picture resized for the score's reference
(for `mixed` also the whole picture at the target's scale). Both use LANCZOS at 64 px, both are timed with finding the
files, and neither writes to the disk. On a busy machine look at the ratio of CPU times; that of wall times falls with
what else is running.

Pictures: `$KIT_SHARED/data/dogs-originals`, full-size photographs (default: ../shared beside the project). With
`--full` the 18,166 pictures of `dogs` are prepared once as `kit data` does, with time and peak memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from versus import Line, compare, show

from kit.competition import DEFAULT, get
from kit.core.machine import cores
from kit.data.crop_worker import CropJob, outcomes
from kit.data.crops import CROPS, CropSettings, import_albumentations, squared
from kit.data.sources import collect
from kit.data.tree import open_tree

SIZE = 64
LANCZOS = Image.Resampling.LANCZOS


def plain_loop(folder: Path, policy: str, *, reference: bool = True) -> list[np.ndarray]:
    """What public kernels do, over extracted files; without `reference` it makes the crops alone."""
    breeds = {path.name.partition("-")[0]: path for path in (folder / "Annotation").iterdir()}
    arrays = []
    for path in sorted((folder / "all-dogs").iterdir()):
        picture = Image.open(path).convert("RGB")
        if reference or policy == "whole":
            arrays.append(np.asarray(picture.resize((SIZE, SIZE), LANCZOS)))
        if policy == "whole":
            continue
        if policy == "mixed" and reference:
            scale = SIZE / min(picture.size)
            shape = (round(picture.width * scale), round(picture.height * scale))
            arrays.append(np.asarray(picture.resize(shape, LANCZOS)))
        note = ET.parse(breeds[path.name.partition("_")[0]] / path.stem).getroot()
        for thing in note.iter("object"):
            corners = [int(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            xmin, ymin = max(0, corners[0]), max(0, corners[1])
            box = (xmin, ymin, min(picture.width, corners[2]), min(picture.height, corners[3]))
            if policy != "box":
                box = squared(box, picture.width, picture.height)
            arrays.append(np.asarray(picture.crop(box).resize((SIZE, SIZE), LANCZOS)))
    return arrays


def the_kit(source: Path, policy: str, workers: int) -> list[np.ndarray]:
    """The kit's reading half, from the zips."""
    with tempfile.TemporaryDirectory() as spool:
        found = collect(open_tree(source, spool=Path(spool)), get(DEFAULT))
        job = CropJob(found.tree, found.items, policy, CropSettings(), SIZE, 3)
        results = list(outcomes(job, workers=workers))
    return [array for result in results for array in (result.images, result.whole, result.canvas) if array is not None]


def full(source: Path) -> None:
    """Time and peak memory of the whole command on the large set."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        code = (
            "import resource\n"
            "from pathlib import Path\n"
            "from kit.competition import DEFAULT, get\n"
            "from kit.data.prepare import prepare\n"
            f"prepare(Path({str(source)!r}), competition=get(DEFAULT), out=Path({folder!r}) / 'set')\n"
            "print(*(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        own, child = (int(part) * (1 if sys.platform == "darwin" else 1024) / 1e6 for part in done.stdout.split())
        written = sum(file.stat().st_size for file in (Path(folder) / "set").iterdir()) / 1e6
        print(
            f"{source}: {time.perf_counter() - begin:.1f} s with {cores()} processes, {written:.0f} MB written, "
            f"peak memory at most {own + cores() * child:.0f} MB ({own:.0f} MB, and {child:.0f} MB a process)"
        )


def lines(*, repeats: int) -> Iterator[Line]:
    """A line for each crop policy and number of processes, and for the box crops without the reference beside them."""
    shared = photographs()
    import_albumentations()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for archive in ("all-dogs", "Annotation"):
            with zipfile.ZipFile(shared / "dogs-originals" / f"{archive}.zip") as packed:
                packed.extractall(folder)
        count = len(list((folder / "all-dogs").iterdir()))
        source = shared / "dogs-originals"
        questions = [(policy, True) for policy in CROPS] + [("box", False)]
        for policy, reference in questions:
            for workers in dict.fromkeys((1, min(2, cores()))):
                yield compare(
                    f"preparing photographs, {policy}{'' if reference else ', the loop without the reference'}, "
                    f"{workers} process{'es'[: 2 * (workers > 1)]}",
                    partial(the_kit, source, policy, workers),
                    partial(plain_loop, folder, policy, reference=reference),
                    repeats=repeats,
                    pictures=count,
                )


def photographs() -> Path:
    """The folder with `dogs-originals/` in it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("KIT_SHARED", default)) / "data"


def available() -> bool:
    """Whether there are photographs; says so where there are none."""
    found = (photographs() / "dogs-originals").is_dir()
    if not found:
        print(f"no photographs at {photographs() / 'dogs-originals'}: set KIT_SHARED to the folder that holds data/")
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="also prepare the large set, once")
    options = parser.parse_args()
    if not available():
        sys.exit(1)
    show(lines(repeats=options.repeats))
    if options.full:
        full(photographs() / "dogs")


if __name__ == "__main__":
    main()
