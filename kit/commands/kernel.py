"""`kit kernel`: a run on Kaggle's machines, built here, pushed, watched, fetched and submitted from here."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kit.commands.common import (
    MODEL_HELP,
    Command,
    CommandGroup,
    CountOption,
    JsonOption,
    OverwriteOption,
    SettingsOption,
    TrustOption,
    print_json,
)
from kit.core.errors import KitError, unknown
from kit.core.streams import echo

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from kit.kaggle.client import Client
    from kit.kaggle.kernel_spec import KernelSpec
    from kit.kaggle.kernels import Built

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build kernels and run them on Kaggle.\n\nExample: kit kernel build --model dcgan --slug my-dcgan",
)


@app.command(cls=Command)
def build(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLUG|DIR", help="Kernels with a kernel.toml, in kernels/ or elsewhere."),
    ] = None,
    slug: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Name of a new kernel; default: made of model and budget.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help=MODEL_HELP)] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time from the kernel's start to its end, like 8h30m; default: half an hour below the limit.",
        ),
    ] = None,
    gpus: Annotated[str | None, typer.Option(metavar="NAME", help="t4x2, p100 or none; default: t4x2.")] = None,
    notebook: Annotated[bool | None, typer.Option("--notebook", help="A notebook in place of a script.")] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The random numbers of the run follow from it.", min=0)
    ] = None,
    count: CountOption = None,
    crop: Annotated[
        str | None, typer.Option(metavar="HOW", help="box, square, mixed or whole; default: the competition's.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Side of the pictures trained on, in pixels; default: the competition's."),
    ] = None,
    settings: SettingsOption = None,
    competition: Annotated[
        str | None, typer.Option(metavar="SLUG", help="The competition's name in its address.")
    ] = None,
    trust: TrustOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a kernel that carries the kit: a script or notebook, and its metadata. No account is needed.

    From flags, which are kept as kernels/SLUG/kernel.toml, or from a kernel.toml that stands there.

    Example: kit kernel build --model biggan --budget 8h30m --slug my-biggan
    """
    from kit.kaggle import kernels
    from kit.kaggle.kernel_spec import KERNELS, KernelSpec, find_spec, own_slug, write_spec
    from kit.models import registry

    given: dict[str, Any] = {
        "model": model,
        "budget": budget,
        "gpus": gpus,
        "notebook": notebook,
        "seed": seed,
        "count": count,
        "crop": crop,
        "size": size,
        "settings": tuple(settings or ()) or None,
        "competition": competition,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    if recipes and (slug or flags):
        names = ", ".join(f"--{name}" for name in ("slug", *flags) if name != "slug" or slug)
        raise KitError(f"{names} beside {recipes[0]}", "change its kernel.toml, or name a new kernel by --slug alone")
    if recipes:
        found = [find_spec(words) for words in recipes]
    elif model:
        row = registry.get(model)
        flags |= {"model": row.name, "source": row.recipe.source}
        spec = KernelSpec(slug=slug or "of-its-own", **flags)
        spec = dataclasses.replace(spec, slug=slug or own_slug(spec))
        kernels.require_known(spec)
        _require_preparable(spec)
        write_spec(spec)
        found = [(spec, KERNELS)]
    else:
        raise KitError("no kernel named", "give a folder of kernels/, or --model for a new one")
    for spec, root in found:
        _require_preparable(spec)
        built = kernels.build(spec, root, trust=trust, overwrite=overwrite)
        changes = " with changes that are not committed" if built.source.dirty else ""
        log.info(f"{built.code}: {built.bytes:,} bytes, carries the kit's tree {built.source.digest[:12]}{changes}")
        echo(built.folder)


KernelArgument = Annotated[
    str | None, typer.Argument(metavar="SLUG|DIR", help="A kernel; default: the one that was pushed last.")
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Push it even if this very kernel has run, or another version still runs.")
]


@app.command(cls=Command)
def push(kernel: KernelArgument = None, again: AgainOption = False, trust: TrustOption = False) -> None:
    """Build a kernel and push it to Kaggle, where it is queued and run. The same kernel is not pushed twice.

    Example: kit kernel push my-biggan
    """
    from kit.kaggle.pushes import push as push_once

    client, built = _built(kernel, trust=trust)
    echo(push_once(client, built, again=again).version)


@app.command(cls=Command)
def status(kernel: KernelArgument = None, as_json: JsonOption = False) -> None:
    """Ask Kaggle for the status of the newest push of a kernel.

    Example: kit kernel status my-biggan
    """
    from kit.commands.workflow import connection
    from kit.kaggle import pushes, versions

    client = connection()
    push = pushes.newest(_folder(kernel, client), client.user)
    now = versions.status(client, push.version)
    push = push.update(status=now.name, failure=now.failure)
    if as_json:
        print_json(
            {"version": str(push.version), "status": now.name, "failure": now.failure, "submission": push.submission}
        )
    else:
        echo(f"{push.version}  {now.name}{f'  {now.failure}' if now.failure else ''}")


@app.command(cls=Command)
def pull(kernel: KernelArgument = None) -> None:
    """Make a submission of what the newest push of a kernel left: fetched, checked, packed.

    Example: kit kernel pull my-biggan
    """
    from kit.commands import workflow

    client = workflow.connection()
    echo(workflow.pull(client, _folder(kernel, client)).folder)


@app.command(cls=Command)
def submit(
    kernel: KernelArgument = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="What Kaggle shows beside the score.")] = None,
) -> None:
    """Submit the newest version of a kernel, fetched and checked first, and wait for its score.

    Example: kit kernel submit my-biggan
    """
    from kit.commands import workflow

    client = workflow.connection()
    submission = workflow.pull(client, _folder(kernel, client))
    workflow.send_version(client, submission, message=message)


@app.command(cls=Command)
def run(
    kernel: KernelArgument = None,
    again: AgainOption = False,
    send: Annotated[bool, typer.Option("--submit/--no-submit", help="Submit what it makes.")] = True,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="What Kaggle shows beside the score.")] = None,
    trust: TrustOption = False,
) -> None:
    """Build, push, watch, pull and submit a kernel; a second call goes on where the first was cut off.

    Example: kit kernel run my-biggan
    """
    from kit.commands.workflow import send_version, train_on_kaggle

    client, built = _built(kernel, trust=trust)
    submission = train_on_kaggle(client, built, again=again)
    if send:
        send_version(client, submission, message=message)
    else:
        echo(submission.folder)


def _built(words: str | None, *, trust: bool) -> tuple[Client, Built]:
    """A connection, and the kernel that is meant, built anew; with a name it is built before anybody is asked."""
    from kit.commands.workflow import connection
    from kit.kaggle.kernel_spec import find_spec
    from kit.kaggle.kernels import build

    client = None
    if words is None:
        client = connection()
        words = str(_folder(None, client))
    spec, root = find_spec(words)
    _require_preparable(spec)
    built = build(spec, root, trust=trust)
    return client or connection(), built


def _require_preparable(spec: KernelSpec) -> None:
    """Makes sure that the pictures can be prepared as a recipe says, before they are waited for in a queue."""
    from kit.data.crops import CROPS
    from kit.data.prepare import SIZES

    if spec.crop is not None and spec.crop not in CROPS:
        wrong = unknown("crop policy", spec.crop, CROPS)
        raise KitError(f"{spec.slug}: {wrong.problem}", wrong.remedy)
    if spec.size is not None and spec.size not in SIZES:
        raise KitError(f"{spec.slug}: a size of {spec.size} px", f"choose from {', '.join(map(str, SIZES))}")


def _folder(words: str | None, client: Client) -> Path:
    """The folder of the kernel that is meant."""
    from kit.kaggle import pushes
    from kit.kaggle.kernel_spec import KERNELS, find_spec

    if words is None:
        return pushes.last_kernel(KERNELS, client.user)
    spec, root = find_spec(words)
    return root / spec.slug
