"""How fast is a training step, against the loop that tutorials show?

    python bench/step.py [--threads 2] [--steps 10] [--rounds 7] [--width 64] [--batch 64]

DCGAN against PyTorch's DCGAN tutorial, WGAN-GP against the plain loop of its public ports: the same networks from the
same weights, the same pictures, batch and optimizer; fp32, channels first, one backward pass for real and one for
generated pictures, D's gradients taken in G's step as well, losses read each step. The kit's own step has EMA and its
meter with it, and the precision that it would choose on this machine, and float32 beside it. The two take turns in
rounds of so many steps of G, after a warm-up; the medians of the rounds are shown, by wall and by CPU time.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from versus import Line, compare, show

from kit.data.batches import Batches
from kit.models import registry
from kit.models.recipe import Recipe
from kit.training import device, loop, train_state
from kit.training.adversarial import Adversarial
from kit.training.distributed import SINGLE_PROCESS, Distributed

SIZE = 64


class Pictures:
    """Random pictures in the device's memory: loading is another question (bench/data.py, bench/rows.py)."""

    def __init__(self, where: torch.device, count: int = 512) -> None:
        x = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.x = x.to(where)

    def draw(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """As `kit.data.batches.Batches` does."""
        rows = (torch.arange(count, device=self.x.device) + position) % len(self.x)
        return self.x[rows], torch.zeros_like(rows)


def kit_steps(
    recipe: Recipe,
    state: train_state.TrainState,
    batches: Pictures | Batches,
    where: device.Device,
    steps: int,
    *,
    distributed: Distributed = SINGLE_PROCESS,
) -> None:
    """The kit's loop, for so many steps of G."""
    until = state.pictures + steps * recipe.pictures_per_iteration
    objective = Adversarial(recipe, batches, 0, where, distributed)
    for _ in loop.train(state, objective, tick_due=lambda _: False, done=lambda n: n >= until):
        pass


def tutorial_dcgan(recipe: Recipe, G: nn.Module, D: nn.Module, batches: Pictures) -> Iterator[None]:
    """PyTorch's DCGAN tutorial; one step of G at a time."""
    criterion = nn.BCEWithLogitsLoss()
    opt_D = torch.optim.Adam(D.parameters(), lr=recipe.lr_d, betas=(recipe.beta1, recipe.beta2))
    opt_G = torch.optim.Adam(G.parameters(), lr=recipe.lr_g, betas=(recipe.beta1, recipe.beta2))
    seen = 0
    while True:
        real, y = batches.draw(seen, recipe.batch)
        seen += recipe.batch
        D.zero_grad()
        label = torch.full((recipe.batch,), 1.0, device=real.device)
        loss_real = criterion(D(real, y), label)
        loss_real.backward()
        fake = G(torch.randn(recipe.batch, recipe.latent, device=real.device), y)
        label.fill_(0.0)
        loss_fake = criterion(D(fake.detach(), y), label)
        loss_fake.backward()
        opt_D.step()
        G.zero_grad()
        label.fill_(1.0)
        loss_G = criterion(D(fake, y), label)
        loss_G.backward()
        opt_G.step()
        loss_real.item(), loss_fake.item(), loss_G.item()
        yield


def plain_wgan_gp(recipe: Recipe, G: nn.Module, D: nn.Module, batches: Pictures) -> Iterator[None]:
    """WGAN-GP as its public ports write it; one step of G, with its D steps, at a time."""
    opt_D = torch.optim.Adam(D.parameters(), lr=recipe.lr_d, betas=(recipe.beta1, recipe.beta2))
    opt_G = torch.optim.Adam(G.parameters(), lr=recipe.lr_g, betas=(recipe.beta1, recipe.beta2))
    seen = 0
    while True:
        for _ in range(recipe.d_steps):
            real, y = batches.draw(seen, recipe.batch)
            seen += recipe.batch
            opt_D.zero_grad()
            fake = G(torch.randn(recipe.batch, recipe.latent, device=real.device), y)
            share = torch.rand(recipe.batch, 1, 1, 1, device=real.device)
            between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
            judged = D(between, y)
            (gradient,) = torch.autograd.grad(judged, between, torch.ones_like(judged), create_graph=True)
            penalty = ((gradient.view(recipe.batch, -1).norm(2, dim=1) - 1) ** 2).mean()
            loss_D = D(fake, y).mean() - D(real, y).mean() + recipe.penalty_weight * penalty
            loss_D.backward()
            opt_D.step()
        opt_G.zero_grad()
        loss_G = -D(G(torch.randn(recipe.batch, recipe.latent, device=real.device), y), y).mean()
        loss_G.backward()
        opt_G.step()
        loss_D.item(), loss_G.item()
        yield


PEERS = {"dcgan": tutorial_dcgan, "wgan-gp": plain_wgan_gp}


def lines(*, threads: int, steps: int, rounds: int, width: int, batch: int) -> Iterator[Line]:
    """One line a row and precision: the kit in that precision, against the tutorial in float32."""
    torch.set_num_threads(threads)
    for name, peer in PEERS.items():
        recipe = registry.get(name).override([f"width={width}", f"batch={batch}"])
        turns = max(1, steps // recipe.d_steps)
        batches = Pictures(torch.device("cpu"))
        for precision in dict.fromkeys((device.choose().precision, torch.float32)):
            where = device.Device(torch.device("cpu"), "CPU", precision)
            state = train_state.build(recipe, size=SIZE, channels=3, classes=0, seed=0, device=where)
            G, D = (copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in (state.G, state.D))
            tutorial = peer(recipe, G, D, batches)
            kit = partial(kit_steps, recipe, state, batches, where, turns)
            kind = str(precision).removeprefix("torch.")
            yield compare(
                f"a training step of {name} in {kind}, {threads} thread{'s'[: threads - 1]}",
                kit,
                partial(take, tutorial, turns),
                repeats=rounds,
                pictures=turns * recipe.pictures_per_iteration,
            )


def take(steps: Iterator[None], count: int) -> None:
    """Lets a loop do so many steps."""
    for _ in range(count):
        next(steps)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    print(f"DCGAN's networks of width {options.width} at 64×64, batch {options.batch}; time a picture\n")
    show(lines(**vars(options)))


if __name__ == "__main__":
    main()
