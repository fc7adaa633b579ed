"""From a kernel's output to a submission: fetched, verified, packed with the very code that ran."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import read_json, sha256
from kit.core.source_zip import write_files
from kit.kaggle.client import Client
from kit.kaggle.kernel_spec import spec_text
from kit.kaggle.kernels import read_kernel
from kit.kaggle.pushes import Push
from kit.kaggle.watch import fetch_output
from kit.submission import ledger
from kit.submission.ledger import Kernel, Submission
from kit.submission.make import make_submission

log = logging.getLogger(__name__)

Bar = Callable[[], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a progress bar, a callback (done, total), for the time of a block: two at once would write over each other."""


def fetch(client: Client, push: Push, *, progress: Callable[[int, int], None]) -> Path:
    """Brings the files of a version that has ended into the push's folder, and sees that they are this push's.

    Args:
        client: from `client.connect`.
        push: whose version's.
        progress: bytes here, bytes in all, of the file that is on its way.

    Returns:
        the folder: a run folder where all went well.

    Raises:
        KitError: there is no submission in it, it is another push's, or it cannot be fetched.
    """
    version = push.version
    fetch_output(client, push, progress=progress)
    record = read_json(push.output / "run.json")
    kernel = record.get("kernel") if isinstance(record, dict) else None
    receipt = kernel.get("receipt") if isinstance(kernel, dict) else None
    if receipt != push.receipt.id:
        raise KitError(
            f"{push.output}: the output of another push (receipt {receipt}, not {push.receipt.id})",
            f"see which version is which at {version.page}",
        )
    result = record.get("result") or {}
    if result.get("sha256") != sha256(push.output / ledger.IMAGES):
        raise KitError(
            f"{push.output / ledger.IMAGES} is not the file that run.json describes",
            f"remove {push.output} and pull again: the kernel may have been cut off between the two",
        )
    return push.output


def pull(
    client: Client,
    push: Push,
    *,
    root: Path = Path("submissions"),
    fetching: Bar,
    checking: Bar,
) -> Submission:
    """Makes a submission of a version's output; a second time it is the one that was made.

    Args:
        client: from `client.connect`.
        push: whose version's; it has to have run to its end.
        root: where submissions lie.
        fetching: shows bytes here and bytes in all, of the file that is on its way.
        checking: shows pictures checked and pictures in all.

    Raises:
        KitError: the version did not run to its end, or its output is no submission.
    """
    if push.submission and (root / push.submission / ledger.RECORD).is_file():
        return ledger.load(root / push.submission)
    with fetching() as progress:
        folder = fetch(client, push, progress=progress)
    if push.failed:
        raise KitError(
            f"{push.version} ended as {push.status}: Kaggle takes only versions that ran to their end",
            f"what it left lies in {folder}",
        )
    carried = read_kernel(push.folder / push.code)
    write_files(carried.files, folder / ledger.SOURCE)
    with checking() as progress:
        submission = make_submission(
            folder,
            out=root / f"{push.slug}-v{push.version.number}",
            root=root,
            kernel=Kernel(
                version=str(push.version),
                receipt=push.receipt.id,
                pushed=push.receipt.when,
                code=push.code,
                code_sha256=carried.digest,
                recipe=spec_text(carried.spec),
                status=push.status,
            ),
            progress=progress,
        )
    push.update(submission=submission.name)
    log.info("the run lies in %s: `kit sample` and `kit report` take it", folder)
    return submission
