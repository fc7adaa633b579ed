"""How fast is a training step of a translation, against the loop that its authors publish? And translating a folder?

    python bench/translation.py [--threads 2] [--size 128] [--width 16] [--batch 4] [--steps 3] [--rounds 5]

CycleGAN and CUT against their papers' loops in plain PyTorch: the same networks (ResNet generators, with the filters
that each paper's code has), the same pictures, batch and optimizer; fp32, channels first, each loss by itself and read
each step. The kit's step has DiffAugment, EMA and its meter with it, and the precision that it would choose on this
machine. A second line has the kit's own defaults for the row. Memory is what two steps add to the peak of a process.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import random
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from step import take
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss
from versus import Line, compare, show

from kit.competition import COMPETITIONS
from kit.generation.generate import translate
from kit.generation.pack import pack
from kit.models import registry
from kit.models.recipe import Recipe
from kit.models.translators import CutGenerator, CycleGanDiscriminators, CycleGanGenerators
from kit.training import device, loop, train_state
from kit.training.translation import CUT, CycleGAN

OBJECTIVES: dict[str, type[CycleGAN] | type[CUT]] = {"cyclegan": CycleGAN, "cut": CUT}

AUTHORS = {"cyclegan": ["antialias=no"], "cut": ["antialias=yes", "antialias_d=yes"]}
"""What the networks of each paper's code have."""

MONET = COMPETITIONS["gan-getting-started"]


class Pictures:
    """Random inputs and targets in memory."""

    def __init__(self, size: int, count: int = 64) -> None:
        self.x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """As `kit.data.batches.Batches` does."""
        rows = (torch.arange(count) + position) % len(self.x)
        return self.x[rows], torch.zeros_like(rows)

    def draw_inputs(self, position: int, count: int) -> Tensor:
        """As `kit.data.batches.Batches` does."""
        return self.draw(position + len(self.x) // 2, count)[0]


def kit_steps(
    recipe: Recipe, state: train_state.TrainState, pictures: Pictures, where: device.Device, steps: int
) -> None:
    """The kit's loop, for so many steps."""
    until = state.pictures + steps * recipe.batch
    objective = OBJECTIVES[recipe.model](recipe, cast(Any, pictures), 0, where)
    for _ in loop.train(state, objective, tick_due=lambda _: False, done=lambda n: n >= until):
        pass


def authors_cyclegan(
    recipe: Recipe, G: CycleGanGenerators, D: CycleGanDiscriminators, data: Pictures
) -> Iterator[None]:
    """The order of the authors' code: both generators in one optimizer, then both discriminators with their pools."""
    weights = itertools.chain(G.to_target.parameters(), G.to_input.parameters())
    opt_G = torch.optim.Adam(weights, lr=recipe.lr_g, betas=(recipe.beta1, recipe.beta2))
    opt_D = torch.optim.Adam(D.parameters(), lr=recipe.lr_d, betas=(recipe.beta1, recipe.beta2))
    pools: tuple[list[Tensor], list[Tensor]] = ([], [])
    for position in itertools.count(0, recipe.batch):
        x, y = data.draw_inputs(position, recipe.batch), data.draw(position, recipe.batch)[0]
        for p in D.parameters():
            p.requires_grad_(False)
        fake_y, fake_x = G.to_target(x), G.to_input(y)
        identity = l1_loss(G.to_target(y), y) * 5 + l1_loss(G.to_input(x), x) * 5
        judged = [D.target(fake_y), D.input(fake_x)]
        adversarial = sum(mse_loss(one, torch.ones_like(one)) for one in judged)
        cycle = l1_loss(G.to_input(fake_y), x) * 10 + l1_loss(G.to_target(fake_x), y) * 10
        loss_G = adversarial + cycle + identity
        opt_G.zero_grad()
        loss_G.backward()
        opt_G.step()
        for p in D.parameters():
            p.requires_grad_(True)
        opt_D.zero_grad()
        losses = []
        for network, real, fake, pool in ((D.target, y, fake_y, pools[0]), (D.input, x, fake_x, pools[1])):
            on_real, on_fake = network(real), network(from_pool(pool, fake.detach()))
            loss = (mse_loss(on_real, torch.ones_like(on_real)) + mse_loss(on_fake, torch.zeros_like(on_fake))) / 2
            loss.backward()
            losses.append(loss)
        opt_D.step()
        loss_G.item(), [loss.item() for loss in losses]
        yield


def from_pool(pool: list[Tensor], images: Tensor) -> Tensor:
    """Shrivastava et al.'s pool of 50 pictures, one by one."""
    shown = []
    for image in images:
        if len(pool) < 50:
            pool.append(image)
            shown.append(image)
        elif random.random() < 0.5:
            place = random.randrange(50)
            shown.append(pool[place].clone())
            pool[place] = image
        else:
            shown.append(image)
    return torch.stack(shown)


def authors_cut(recipe: Recipe, G: CutGenerator, D: nn.Module, data: Pictures) -> Iterator[None]:
    """The order of the authors' code: one pass of G over inputs and targets, D, then G with its two PatchNCE losses."""
    betas = (recipe.beta1, recipe.beta2)
    opt_G = torch.optim.Adam(G.generator.parameters(), lr=recipe.lr_g, betas=betas)
    opt_F = torch.optim.Adam(G.patch_features.parameters(), lr=recipe.lr_g, betas=betas)
    opt_D = torch.optim.Adam(D.parameters(), lr=recipe.lr_d, betas=betas)
    for position in itertools.count(0, recipe.batch):
        x, y = data.draw_inputs(position, recipe.batch), data.draw(position, recipe.batch)[0]
        fake, same = G(torch.cat([x, y])).chunk(2)
        for p in D.parameters():
            p.requires_grad_(True)
        opt_D.zero_grad()
        on_fake, on_real = D(fake.detach()), D(y)
        loss_D = (mse_loss(on_fake, torch.zeros_like(on_fake)) + mse_loss(on_real, torch.ones_like(on_real))) / 2
        loss_D.backward()
        opt_D.step()
        for p in D.parameters():
            p.requires_grad_(False)
        opt_G.zero_grad()
        opt_F.zero_grad()
        judged = D(fake)
        nce = (nce_loss(recipe, G, x, fake) + nce_loss(recipe, G, y, same)) / 2
        loss_G = mse_loss(judged, torch.ones_like(judged)) + nce
        loss_G.backward()
        opt_G.step()
        opt_F.step()
        loss_D.item(), loss_G.item(), nce.item()
        yield


def nce_loss(recipe: Recipe, G: CutGenerator, source: Tensor, translated: Tensor) -> Tensor:
    """The sum over the feature maps, map by map."""
    queries, keys = G.generator.features(translated), G.generator.features(source)
    places = [torch.randperm(key.shape[2] * key.shape[3])[: recipe.nce_patches] for key in keys]
    total = torch.zeros(())
    for q, k in zip(G.patch_features(queries, places), G.patch_features(keys, places), strict=True):
        logits = torch.bmm(q, k.detach().transpose(1, 2)) / recipe.nce_temperature
        own = torch.arange(q.shape[1]).repeat(len(q))
        total = total + cross_entropy(logits.flatten(0, 1), own)
    return total / len(keys)


PEERS = {"cyclegan": authors_cyclegan, "cut": authors_cut}


def make(
    name: str, settings: list[str], size: int, precision: torch.dtype
) -> tuple[Recipe, train_state.TrainState, Any]:
    """The recipe, a state and the device of a row."""
    recipe = registry.get(name).override(settings)
    where = device.Device(torch.device("cpu"), "CPU", precision)
    return recipe, train_state.build(recipe, size=size, channels=3, classes=0, seed=0, device=where), where


def ways(name: str, settings: list[str], like: list[str], size: int, precision: torch.dtype) -> tuple[Any, Any]:
    """The kit's steps with some settings and the authors' with others, each called with a number of steps."""
    recipe, state, where = make(name, settings, size, precision)
    authors_recipe, authors_state, _ = make(name, like, size, torch.float32)
    G, D = (
        copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        for network in (authors_state.G, authors_state.D)
    )
    peer = cast(Any, PEERS[name])(authors_recipe, G, D, Pictures(size))
    return partial(kit_steps, recipe, state, Pictures(size), where), partial(take, peer)


def peak(
    ask: Any, name: str, settings: list[str], like: list[str], size: int, precision: torch.dtype, way: int
) -> None:
    """Puts into a queue the MB that two steps add to this process's peak."""
    steps = ways(name, settings, like, size, precision)[way]
    before = resident_peak()
    steps(2)
    ask.put(resident_peak() - before)


def resident_peak() -> float:
    """The most memory, MB, that this process has held, on Linux; `getrusage` counts the one that began it, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory(*arguments: Any) -> float:
    """The same, measured in a new process."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=peak, args=(answers, *arguments))
    process.start()
    answer = float(answers.get())
    process.join()
    return answer


def lines(*, threads: int, size: int, width: int, batch: int, steps: int, rounds: int) -> Iterator[Line]:
    """A line for each row: on the authors' networks, and with the kit's defaults."""
    torch.set_num_threads(threads)
    precision = device.choose().precision
    common = [f"width={width}", f"batch={batch}"]
    for name in PEERS:
        authors = [*common, "generator=resnet", "residual=no", *AUTHORS[name]]
        for settings, words in ((authors, "the authors' networks"), (common, "the kit's defaults")):
            ours, theirs = ways(name, settings, authors, size, precision)
            used = [memory(name, settings, authors, size, precision, way) for way in (0, 1)]
            yield compare(
                f"a step of {name}, {words} ({used[0]:.0f} MB against {used[1]:.0f})",
                partial(ours, steps),
                partial(theirs, steps),
                repeats=rounds,
                pictures=steps * batch,
            )
    yield translating(size, width)


def translating(size: int, width: int, count: int = 1200) -> Line:
    """A folder of photographs to images.zip: the kit, and a loop over files as in public notebooks."""
    _, state, where = make("cut", [f"width={width}"], size, device.choose().precision)
    generator = state.ema.module.eval()
    plain = copy.deepcopy(generator).to(memory_format=torch.contiguous_format)
    pictures = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "jpg"
        folder.mkdir()

        def kit() -> None:
            made = translate(generator, [pictures], size=MONET.size, device=where.kind, precision=where.precision)
            pack(made, Path(scratch) / "ours.zip", competition=MONET, count=count)

        @torch.no_grad()
        def notebook() -> None:
            for number, picture in enumerate(pictures):
                x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
                out = ((plain(x)[0] + 1) * 127.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()
                Image.fromarray(out).resize((MONET.size, MONET.size)).save(folder / f"{number}.jpg", quality=95)
            shutil.make_archive(str(Path(scratch) / "theirs"), "zip", folder)

        return compare(f"translating {count:,} pictures", kit, notebook, repeats=3, pictures=count, warm_up=False)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("threads", 2), ("size", 128), ("width", 16), ("batch", 4), ("steps", 3), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    print(f"width {options.width} at {options.size}×{options.size}, batch {options.batch}; time a picture\n")
    show(lines(**vars(options)))


if __name__ == "__main__":
    main()
