"""All comparisons with what a user would pick instead, as one table.

    make bench            or: python bench/run.py [--short] [--write]

`--short` takes fewer rounds and smaller sizes. `--write` also puts the table into docs/benchmarks.md, with the machine
and the versions it was made on.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import data
import generation
import pack
import score
import start
import step
import torch
from versus import Line, table

from kit.core.machine import cores

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: make bench -->", "<!-- end: make bench -->"
PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "scipy")


def lines(*, short: bool) -> Iterator[Line]:
    """Every comparison, one after the other."""
    yield from start.lines(repeats=3 if short else 5)
    for threads in dict.fromkeys((1, cores())):
        yield from step.lines(threads=threads, steps=2 if short else 4, rounds=3 if short else 7, width=64, batch=64)
    yield from generation.lines(count=500 if short else 10_000, repeats=3, width=64)
    yield from pack.lines(count=1000 if short else 10_000, size=64, repeats=3)
    counts = {"count": 2000, "real": 4000} if short else {"count": 10_000, "real": 20_000}
    pictures = {"features": 32, "whole": 0} if short else {"features": 128, "whole": 300}
    yield from score.lines(**counts, **pictures, dim=2048, repeats=3)
    if data.available():
        yield from data.lines(repeats=3 if short else 7)


def machine() -> str:
    """What the table was made on."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    bf16 = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.date.today()}, {cores()} cores ({capabilities.get('cpu_name') or platform.machine()}, "
        f"{'with' if bf16 else 'without'} bf16 units), Python {platform.python_version()}, {packages}."
    )


def main() -> None:
    """Prints the table as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for row in table(lines(short=options.short)):
        print(row, flush=True)
        rows.append(row)
    print(f"\n{machine()}")
    if options.write:
        made = "\n".join([BEGIN, *rows, "", machine(), END])
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: made, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
