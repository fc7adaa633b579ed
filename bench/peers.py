"""How good are the kit's pictures beside what a user would pick instead, after the same CPU time?

    python bench/peers.py --data data/dogs [--minutes 15,60] [--threads 1] [--only tutorial,sngan,kit]
                          [--model dcgan] [--count 5000] [--out peers.jsonl]
    python bench/peers.py --show peers.jsonl

Three ways, on the same training crops at 64×64, one after the other:

- tutorial: PyTorch's DCGAN tutorial as published: width 64, batch size 128, Adam with 2e-4 and β1 0.5, no average; its
  generator samples as it trains, in batches;
- sngan: the SNGAN of the library mimicry (Lee & Town 2020, arXiv:2005.02494) at its settings for 64×64: residual
  networks of 1,024 channels, hinge loss, five D steps, batch size 64, Adam with 2e-4 and β of 0 and 0.9, learning rates
  that fall to 0 over 100,000 steps;
- kit: `kit train --model dcgan --budget …` at its defaults, for each number of minutes a run of its own. Its time has
  everything in it, from the imports to the checked zip; that of the others is training alone.

The networks and loops of the first two are written anew; with the library's weights, mimicry's give its numbers.

Minutes are of CPU time: the kit gets a budget of so many minutes divided by --threads, and the CPU time that it used is
printed. So run it alone on so many cores (`taskset -c 1 … --threads 1`). Every result is a line of --out at once, and
what is there is not done again. The judges are those of bench/judges.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judges import Dogs, Pixels
from step import tutorial_dcgan
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu
from torch.nn.utils.parametrizations import spectral_norm

from kit.data.batches import Batches
from kit.data.grid import make_grid
from kit.data.prepared_set import PreparedSet, load
from kit.models import registry
from kit.scoring.compute_score import read_matching
from kit.training import device
from kit.training.run_folder import read_run, target

GRID, COLUMNS = 64, 8


# ---- the tutorial's networks


class TutorialG(nn.Module):
    """Four transposed convolutions with batch norm and a last one, from 100 dimensions to 3×64×64."""

    def __init__(self, width: int = 64, latent: int = 100) -> None:
        super().__init__()
        maps = [latent, 8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(maps)):
            stride, padding = (2, 1) if index else (1, 0)
            layers += [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False), nn.BatchNorm2d(after)]
            layers.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())
        self.apply(_normal)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents (B, 100) to pictures (B, 3, 64, 64)."""
        made: Tensor = self.body(z[:, :, None, None])
        return made


class TutorialD(nn.Module):
    """Four strided convolutions and a last one, from 3×64×64 to a logit."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for factor in (1, 2, 4):
            layers += [nn.Conv2d(factor * width, 2 * factor * width, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(2 * factor * width), nn.LeakyReLU(0.2, inplace=True)]
        self.body = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False))
        self.apply(_normal)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Pictures to logits (B,)."""
        logits: Tensor = self.body(x).view(-1)
        return logits


def _normal(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


# ---- mimicry's networks


def _conv(before: int, after: int, side: int, *, norm: bool, gain: float = 2**0.5) -> nn.Module:
    """A convolution with Xavier's uniform weights, spectrally normalized in D."""
    layer = nn.Conv2d(before, after, side, padding=side // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    return spectral_norm(layer) if norm else layer


class BlockG(nn.Module):
    """Batch norm, ReLU, bilinear upsampling, 3×3; batch norm, ReLU, 3×3; a 1×1 beside it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.one, self.two = _conv(before, after, 3, norm=False), _conv(after, after, 3, norm=False)
        self.beside = _conv(before, after, 1, norm=False, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """To twice the side."""
        h: Tensor = self.two(relu(self.second(self.one(_double(relu(self.first(x)))))))
        return h + self.beside(_double(x))


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class BlockD(nn.Module):
    """ReLU; 3×3, ReLU, 3×3, mean of 2×2; a 1×1 beside them.

    The library's first ReLU works in place, so the 1×1 sees its result, too. The `first` block has none, and pools
    before its 1×1.
    """

    def __init__(self, before: int, after: int, *, first: bool = False) -> None:
        super().__init__()
        inner = after if first else before
        self.is_first = first
        self.one, self.two = _conv(before, inner, 3, norm=True), _conv(inner, after, 3, norm=True)
        self.beside = _conv(before, after, 1, norm=True, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """To half the side."""
        x = x if self.is_first else relu(x)
        h = avg_pool2d(self.two(relu(self.one(x))), 2)
        return h + (self.beside(avg_pool2d(x, 2)) if self.is_first else avg_pool2d(self.beside(x), 2))


class MimicryG(nn.Module):
    """A dense layer to 1024×4×4 and four blocks that halve the channels."""

    def __init__(self, channels: int = 1024, latent: int = 128) -> None:
        super().__init__()
        self.channels = channels
        self.dense = nn.Linear(latent, 16 * channels)
        self.blocks = nn.Sequential(*(BlockG(channels >> k, channels >> (k + 1)) for k in range(4)))
        self.norm = nn.BatchNorm2d(channels >> 4)
        self.last = _conv(channels >> 4, 3, 3, norm=False, gain=1.0)
        nn.init.xavier_uniform_(self.dense.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, 128) to pictures (B, 3, 64, 64)."""
        h = self.blocks(self.dense(z).view(-1, self.channels, 4, 4))
        return torch.tanh(self.last(relu(self.norm(h))))


class MimicryD(nn.Module):
    """Five blocks that double the channels up to 1024, a sum over the map, a dense layer; all spectrally normalized."""

    def __init__(self, channels: int = 1024) -> None:
        super().__init__()
        blocks = [BlockD(channels >> (k + 1), channels >> k) for k in (3, 2, 1, 0)]
        self.blocks = nn.Sequential(BlockD(3, channels >> 4, first=True), *blocks)
        dense = nn.Linear(channels, 1)
        nn.init.xavier_uniform_(dense.weight)
        self.dense = spectral_norm(dense)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits (B,)."""
        logits: Tensor = self.dense(relu(self.blocks(x)).sum((2, 3))).view(-1)
        return logits


SNGAN_STEPS, SNGAN_D_STEPS, SNGAN_BATCH, SNGAN_LR = 100_000, 5, 64, 2e-4


def mimicry_sngan(G: nn.Module, D: nn.Module, batches: Batches) -> Iterator[None]:
    """One step of G at a time, after five of D."""
    opt_D, opt_G = (torch.optim.Adam(net.parameters(), lr=SNGAN_LR, betas=(0.0, 0.9)) for net in (D, G))
    seen = 0
    for step in range(SNGAN_STEPS):
        for group in (*opt_D.param_groups, *opt_G.param_groups):
            group["lr"] = SNGAN_LR * (1 - step / SNGAN_STEPS)
        for _ in range(SNGAN_D_STEPS):
            real, _ = batches.draw(seen, SNGAN_BATCH)
            seen += SNGAN_BATCH
            opt_D.zero_grad()
            with torch.no_grad():
                fake = G(torch.randn(SNGAN_BATCH, 128, device=real.device))
            (relu(1 - D(real)).mean() + relu(1 + D(fake)).mean()).backward()
            opt_D.step()
        opt_G.zero_grad()
        (-D(G(torch.randn(SNGAN_BATCH, 128, device=batches.device))).mean()).backward()
        opt_G.step()
        yield


# ---- what is compared


@dataclass(frozen=True)
class Peer:
    """A way to train that is not the kit's."""

    G: nn.Module
    steps: Iterator[None]
    pictures: int  # a step
    latent: int
    batch: int  # in which it samples
    as_trained: bool  # samples with the batch norm of training

    def sample(self, count: int) -> Pixels:
        """Pictures (count, 64, 64, 3)."""
        self.G.train(self.as_trained)
        made = []
        with torch.no_grad():
            for start in range(0, count, self.batch):
                z = torch.randn(min(self.batch, count - start), self.latent, device=next(self.G.parameters()).device)
                made.append(((self.G(z) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
        self.G.train()
        return np.concatenate(made)


def tutorial(batches: Batches) -> Peer:
    """PyTorch's DCGAN tutorial."""
    recipe = registry.get("dcgan").recipe.override(
        ["batch=128", "lr_g=2e-4", "lr_d=2e-4", "beta1=0.5", "beta2=0.999", "latent=100"]
    )
    G, D = TutorialG().to(batches.device), TutorialD().to(batches.device)
    return Peer(G, tutorial_dcgan(recipe, G, D, batches), 128, 100, 128, as_trained=True)


def sngan(batches: Batches) -> Peer:
    """Mimicry's SNGAN."""
    G, D = MimicryG().to(batches.device), MimicryD().to(batches.device)
    return Peer(G, mimicry_sngan(G, D, batches), SNGAN_D_STEPS * SNGAN_BATCH, 128, 100, as_trained=False)


PEERS: dict[str, Callable[[Batches], Peer]] = {"tutorial": tutorial, "sngan": sngan}


def train_peer(name: str, prepared: PreparedSet, marks: list[float], count: int) -> Iterator[dict[str, Any]]:
    """Trains, and stops at each of so many CPU minutes; gives its line without the judges', and `made`."""
    where = device.choose()
    torch.manual_seed(0)
    peer = PEERS[name](Batches(prepared, seed=0, device=where.kind, flip=False))
    spent, steps = 0.0, 0
    for minutes in marks:
        began = time.process_time()
        for _ in peer.steps:
            steps += 1
            if spent + time.process_time() - began >= 60 * minutes:
                break
        spent += time.process_time() - began
        yield {"minutes": minutes, "cpu_s": round(spent), "pictures": steps * peer.pictures, "made": peer.sample(count)}


def train_kit(o: argparse.Namespace, prepared: PreparedSet, marks: list[float]) -> Iterator[dict[str, Any]]:
    """`kit train` with a budget for each of so many CPU minutes."""
    variables = dict(os.environ)
    if o.threads:
        variables |= {"OMP_NUM_THREADS": str(o.threads)}
    for minutes in marks:
        run = o.out.with_suffix("") / f"{o.model}-{minutes:g}"
        shutil.rmtree(run, ignore_errors=True)  # of a bench that was cut off
        command = [sys.executable, "-P", "-m", "kit", "train", "--model", o.model, "--data", str(prepared.path)]
        command += ["--budget", f"{round(60 * minutes / (o.threads or torch.get_num_threads()))}s"]
        command += ["--out", str(run), "--count", str(o.count)]
        began = os.times()
        subprocess.run(command, env=variables, check=True)
        ended = os.times()
        spent = ended.children_user + ended.children_system - began.children_user - began.children_system
        _, pictures = read_matching(target(run).pictures, prepared, limit=o.count)
        record = read_run(run)
        yield {
            "minutes": minutes,
            "cpu_s": round(spent),
            "pictures": record.pictures,
            "width": record.recipe.width,
            "made": np.stack(list(pictures)),
        }


def compare(o: argparse.Namespace) -> None:
    """Trains and judges what the file of results does not have yet."""
    prepared = load(o.data)
    judge = Dogs(prepared)
    folder = o.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name in o.only:
        done = {line["minutes"] for line in results(o.out) if line["name"] == name}
        marks = [minutes for minutes in o.minutes if minutes not in done]
        found = train_kit(o, prepared, marks) if name == "kit" else train_peer(name, prepared, marks, o.count)
        for line in found:
            made = line.pop("made")
            make_grid(made[:GRID], columns=COLUMNS).save(folder / f"{name}-{line['minutes']:g}.png")
            verdict = {key: round(value, 4) for key, value in judge.judge(made).items()}
            line = {"name": name, **line, "count": len(made), **verdict}
            with o.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(lines: list[dict[str, Any]]) -> None:
    """The table."""
    judges = ("KID×1000", "dogs FD", "precision", "recall")
    print(f"| CPU minutes | what | pictures seen | CPU s | {' | '.join(judges)} |")
    print("|--:|---" + "|--:" * (len(judges) + 2) + "|")
    for line in sorted(lines, key=lambda line: line["minutes"]):
        name = line["name"] + (f", width {line['width']}" if "width" in line else "")
        values = " | ".join(f"{line[key]:.1f}" if line[key] >= 1 else f"{line[key]:.3f}" for key in judges)
        print(f"| {line['minutes']:g} | {name} | {line['pictures']:,} | {line['cpu_s']:,} | {values} |")


def main() -> None:
    """Compares, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a prepared set of dogs in box crops")
    parser.add_argument("--minutes", type=lambda text: sorted(float(word) for word in text.split(",")), default="15,60")
    parser.add_argument("--threads", type=int, help="default: all")
    parser.add_argument("--only", type=lambda text: text.split(","), default="tutorial,sngan,kit")
    parser.add_argument("--model", default="dcgan", help="of the kit")
    parser.add_argument("--count", type=int, default=5000, help="pictures that are judged")
    parser.add_argument("--out", type=Path, default=Path("peers.jsonl"))
    parser.add_argument("--show", type=Path, metavar="FILE", help="what was measured, without measuring")
    options = parser.parse_args()
    if not options.show:
        if options.data is None:
            parser.error("--data: which prepared set?")
        if options.threads:
            torch.set_num_threads(options.threads)
        compare(options)
    show(results(options.show or options.out))


if __name__ == "__main__":
    main()
