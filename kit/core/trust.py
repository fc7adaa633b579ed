"""Whose code may run.

The installed kit is trusted, and so is a model file that the user names on the command line. Any other code (a stored
kit that differs from the installed one, a model file inside a run, a checkpoint, a submission or a kernel's recipe) is
named with its digest and runs only with `--trust`. It never sees the credentials of this process.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kit.core import provenance
from kit.core.errors import KitError
from kit.core.provenance import require_kit_names
from kit.core.signals import exit_on_signals

_allowed: set[str] = set()
"""Digests of the code, beside the installed kit, that the user has allowed in this process."""

_PASSED = re.compile(
    r"PATH|LANG|LANGUAGE|LC_\w+|TZ|TERM|COLORTERM|COLUMNS|LINES|NO_COLOR|TMPDIR|TEMP|TMP|SYSTEMROOT|COMSPEC|PATHEXT"
    r"|WINDIR|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|DYLD_\w+|CUDA_\w+|NVIDIA_\w+|NCCL_\w+|CUBLAS_\w+|PYTORCH_\w+"
    r"|(OMP|MKL|OPENBLAS|NUMEXPR)_\w+|PYTHONUTF8|PYTHONIOENCODING|PYTHONWARNINGS|PYTHONDONTWRITEBYTECODE",
    re.ASCII,
)
"""Variables that a process with other code gets: what a computation needs, and nothing that opens an account."""

_SECRET = re.compile(r"KAGGLE_\w*|\w*(TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|AUTH|API_?KEY|ACCESS_?KEY)\w*", re.ASCII)
"""Variables that may open an account."""


def is_installed_kit(tree: str) -> bool:
    """Whether code with this `provenance.tree_digest` is byte for byte the kit that runs."""
    return tree == provenance.tree_digest(provenance.package_files())


def require_trust(what: str, digest: str, *, trust: bool, where: Path | str) -> None:
    """Makes sure that code which came with a file is only run for a user who trusts it.

    Args:
        what: the code, for the message ("the model file of mine").
        digest: of the code.
        trust: whether the user said `--trust`.
        where: the file that it came with.

    Raises:
        KitError: the user did not, and has not allowed this code in another way.
    """
    if not trust and digest not in _allowed:
        raise KitError(
            f"{where}: {what} is code that is not this kit's (digest {digest[:12]})",
            "add --trust to run it, if you know where it comes from",
        )


def allow(digest: str) -> None:
    """Lets code run in this process: the user named its file."""
    _allowed.add(digest)


def admit(digest: str) -> None:
    """Lets code run in this process that the user trusts; the process loses its credentials, once and for all."""
    if digest not in _allowed:
        drop_credentials()
        _allowed.add(digest)


def is_allowed(digest: str) -> bool:
    """Whether code may run in this process."""
    return digest in _allowed


def drop_credentials() -> None:
    """Removes what may open an account from this process's environment."""
    for name in [name for name in os.environ if _SECRET.fullmatch(name.upper())]:
        del os.environ[name]


def environment(home: Path, *, package: Path) -> dict[str, str]:
    """The environment of a process that runs other code: no credentials, no user's home, one kit.

    Args:
        home: an empty folder that stands for the user's home, in which credentials lie.
        package: the folder that holds the `kit` to run, and nothing else.
    """
    passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name.upper())}
    places = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    own = {"HOME": home, "USERPROFILE": home, "PYTHONUSERBASE": site.getuserbase()}  # packages of `pip install --user`
    return {
        **passed,
        **{name: str(value) for name, value in own.items()},
        "PYTHONSAFEPATH": "1",  # not the folder that it stands in
        "PYTHONPATH": os.pathsep.join([str(package), *places]),
    }


def run_kit(files: Mapping[str, bytes], arguments: Sequence[str], *, where: Path) -> subprocess.CompletedProcess[str]:
    """Runs `python -m kit ARGUMENTS` with the kit in `files`, in a process of its own without credentials.

    The process ends with this one. Ask `require_trust` before, where the files are not the installed kit's.

    Args:
        files: of the kit, by path; see `kit.core.provenance.read_source`.
        arguments: of the command line.
        where: the file that the code comes from, for messages.

    Returns:
        The exit code and what was written to stdout; stderr is the user's.

    Raises:
        KitError: a name that is no file of the kit.
    """
    require_kit_names(files, where=where)
    with tempfile.TemporaryDirectory(prefix="kit-stored-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home, package, work = (folder / part for part in ("home", "package", "work"))
        home.mkdir()
        work.mkdir()
        for path, content in files.items():
            if path.startswith("kit/"):
                target = package / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        with exit_on_signals():
            process = subprocess.Popen(
                [sys.executable, "-m", "kit", *arguments],
                cwd=work,
                env=environment(home, package=package),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches it through this process alone
            )
            with _ended_together(process):
                output, _ = process.communicate()
            return subprocess.CompletedProcess(process.args, process.returncode, output)


@contextlib.contextmanager
def _ended_together(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kills a process and those that it started should this one leave before it has ended."""
    try:
        yield
    finally:
        if process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
