"""`kit kernel`: a run on Kaggle's machines, built here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kit.commands.common import say
from kit.errors import KitError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build kernels and run them on Kaggle.\n\nExample: kit kernel build --model dcgan --slug my-dcgan",
)


@app.command()
def build(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[SLUG|FOLDER]", help="A kernel with its kernel.toml, in kernels/ or elsewhere."),
    ] = None,
    slug: Annotated[str | None, typer.Option(help="Name of a new kernel, which becomes kernels/SLUG.")] = None,
    model: Annotated[str | None, typer.Option(help="A row of `kit models`.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time from the kernel's start to its end; default: 8h30m.")] = None,
    gpus: Annotated[str | None, typer.Option(help="t4x2, p100 or none; default: t4x2.")] = None,
    notebook: Annotated[bool | None, typer.Option("--notebook", help="A notebook in place of a script.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.", min=0)] = None,
    count: Annotated[
        int | None, typer.Option(help="Pictures in images.zip; default: what the competition asks for.", min=1)
    ] = None,
    crop: Annotated[str | None, typer.Option(help="box, square, mixed or whole; default: the competition's.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the pictures trained on, pixels; default: the competition's.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the model; see `kit models NAME`."),
    ] = None,
    competition: Annotated[str | None, typer.Option(help="Slug of the competition.")] = None,
) -> None:
    """Write a kernel that carries the kit: a script or notebook, and its metadata. No account is needed.

    From flags, which are kept as kernels/SLUG/kernel.toml, or from a kernel.toml that stands there.

    Example: kit kernel build --model biggan --budget 8h30m --slug my-biggan
    """
    from kit.kaggle import kernel
    from kit.kaggle.spec import KERNELS, KernelSpec, find_spec, write_spec

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
    if recipe is None:
        if slug is None or model is None:
            raise KitError("no kernel named", "give a folder of kernels/, or --model and --slug for a new one")
        spec, root = KernelSpec(slug=slug, **flags), KERNELS
        kernel.require_known(spec)
        write_spec(spec, root)
    elif slug or flags:
        names = ", ".join(f"--{name}" for name in ("slug", *flags) if name != "slug" or slug)
        raise KitError(f"{names} beside {recipe}", "change its kernel.toml, or give --slug alone for a new kernel")
    else:
        spec, root = find_spec(recipe)
    built = kernel.build(spec, root)
    say(
        f"{built.code}: {built.bytes:,} bytes, carries kit tree {built.source.digest[:12]}"
        + (" with changes that are not committed" if built.source.dirty else "")
    )
    typer.echo(built.folder)
