"""A stand-in for Kaggle's image: a process that has its packages, no kit, no network, and an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

# What kaggle-api.md lists of the image; what these need is there as well.
PACKAGES = ("torch", "timm", "albumentations", "numpy")

# What the command line needs, and the image is not known to have: where one of the above brings it today, it may not
# there.
NOT_KNOWN = ("typer", "click", "rich", "kaggle", "kagglesdk", "requests", "matplotlib")

NETWORK = "network.txt"

IMAGE = """
import json, runpy, sys
from importlib.machinery import PathFinder
site, refused, network, *command = sys.argv[1:]
sys.path.append(site)
refused = json.loads(refused)

class Image(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else super().find_spec(name, path, target)

def offline(event, arguments):
    address = arguments[1] if event == "socket.connect" else arguments[0] if event == "socket.getaddrinfo" else None
    host = address[0] if isinstance(address, tuple) else address
    if host is not None and host not in ("127.0.0.1", "::1", "localhost") and not str(host).startswith("/"):
        with open(network, "a") as file:
            print(event, address, file=file)
        raise OSError("the network is unreachable")

sys.meta_path[sys.meta_path.index(PathFinder)] = Image
sys.addaudithook(offline)
try:
    import kit
except ModuleNotFoundError:
    pass
else:
    sys.exit(f"the kit can be imported from {kit.__file__}, and here it is not installed")
sys.argv = command
if command[0] == "-m":
    runpy.run_module(command.pop(1), run_name="__main__", alter_sys=True)
else:
    runpy.run_path(command[0], run_name="__main__")
"""


def refused(more: Iterable[str] = ()) -> list[str]:
    """Modules of this environment that the image is not known to have; `more` packages are taken to be there."""
    known: set[str] = set()
    left = [*PACKAGES, *more]
    while left:
        name = _plain(left.pop())
        if name in known or name in NOT_KNOWN:
            continue
        known.add(name)
        left += _needed(name)
    found = metadata.packages_distributions()
    # The kit may come from the kernel alone, which the process makes sure of itself.
    return sorted(module for module, names in found.items() if not (known | {"kit"}) & set(map(_plain, names)))


def _needed(name: str) -> Iterable[str]:
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of another platform
        return
    for requirement in map(Requirement, texts):
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_folders(folder: Path) -> None:
    """What a process of Kaggle's sees: `working` is the kernel's output, `empty` where it starts."""
    for name in ("working", "tmp", "home", "empty"):
        (folder / name).mkdir(parents=True)


def environment(folder: Path, mounts: Path) -> dict[str, str]:
    """Its environment; `mounts` stands in for `/kaggle/input`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
        "KIT_KERNEL_INPUT": str(mounts),
        "KIT_KERNEL_WORKING": str(folder / "working"),
    }


def command(folder: Path, *words: str, more: Iterable[str] = ()) -> list[str]:
    """Runs a script, or `-m MODULE`, there. `network.txt` will name every address elsewhere that it asked for."""
    # -I and -S: neither PYTHONPATH nor the folder nor an editable install's hooks make the kit importable.
    python = [sys.executable, "-I", "-S", "-c", IMAGE]
    site = sysconfig.get_paths()["purelib"]
    return [*python, site, json.dumps(refused(more)), str(folder / NETWORK), *words]


def run(code: Path, *, folder: Path, mounts: Path, alone: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a script as Kaggle would, in a new folder; several processes (not `alone`) talk to each other."""
    make_folders(folder)
    return subprocess.run(
        [*(_without_network() if alone else []), *command(folder, str(code))],
        cwd=folder / "empty",
        env=environment(folder, mounts),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def _without_network() -> list[str]:
    """A prefix that takes the network away from a command, where this system lets us."""
    prefix = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and not subprocess.run([*prefix, "true"], capture_output=True).returncode:
        return prefix
    return []
