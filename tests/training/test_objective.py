"""The loop and checkpoints with an objective of another kind: two generators, two discriminators and a buffer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from kit.models.registry import MODELS
from kit.training import checkpoint, loop
from kit.training.distributed import SINGLE_PROCESS
from kit.training.memory import DEFAULT, MemoryPolicy
from kit.training.random import step_generator
from kit.training.train_state import PictureEma, TrainState

CPU = torch.device("cpu")
BATCH = 4
RECIPE = MODELS["dcgan"].recipe.override([f"batch={BATCH}", "schedule=linear"])
SHAPE = checkpoint.Shape(8, 3, ())


@dataclass(frozen=True)
class Cycle:
    """Least squares and a cycle loss on vectors; D also sees what G made in the step before."""

    recipe = RECIPE
    distributed = SINGLE_PROCESS

    def d_step(self, state, batch_slice, *, position, progress, keep_graph):
        x, y = (step_generator(0, name, position, CPU, batch_slice).normal(len(batch_slice), 3) for name in "xy")
        with torch.set_grad_enabled(keep_graph):
            fake = state.G(x)
        seen = torch.cat([fake.detach(), state.extra["buffer"]])
        loss = (state.D(y) - 1).square().mean() + state.D(seen).square().mean()
        loss = batch_slice.weight * (loss + state.networks["D_back"](x).square().mean())
        loss.backward()
        state.extra["buffer"] = fake.detach()
        return batch_slice, x, y, loss.detach()

    def g_step(self, state, outputs, *, position, progress):
        batch_slice, x, y, loss_d = outputs
        G, back = state.G, state.networks["G_back"]
        cycle = (back(G(x)) - x).abs().mean() + (G(back(y)) - y).abs().mean()
        loss = batch_slice.weight * ((state.D(G(x)) - 1).square().mean() + 10 * cycle)
        loss.backward()
        half = torch.full((), 0.5) * batch_slice.weight
        return {"loss_d": loss_d, "loss_g": loss.detach(), "d_real": half, "d_fake": half}


def build():
    torch.manual_seed(0)
    generators = {name: nn.Linear(3, 3) for name in ("G", "G_back")}
    discriminators = {name: nn.Linear(3, 1) for name in ("D", "D_back")}

    def adam(networks):
        return torch.optim.Adam(itertools.chain(*(network.parameters() for network in networks.values())))

    return TrainState(
        networks=generators | discriminators,
        optimizers={"G": adam(generators), "D": adam(discriminators)},
        scalers={player: torch.amp.GradScaler("cpu", enabled=False) for player in ("G", "D")},
        ema_models={name: PictureEma(net, half_life=8, ramp=0, batch=BATCH) for name, net in generators.items()},
        extra={"buffer": torch.zeros(1, 3)},
    )


def train(state, until, memory=DEFAULT):
    objective = Cycle()
    return list(
        loop.train(
            state,
            objective,
            tick_due=lambda _: False,
            done=lambda n: n >= until,
            total_images=100,
            memory=memory,
        )
    )


def content(state):
    networks = state.networks | {f"ema {name}": ema.module for name, ema in state.ema_models.items()}
    weights = {f"{name} {key}": w.clone() for name, net in networks.items() for key, w in net.state_dict().items()}
    return weights | {"buffer": state.extra["buffer"]}


def test_all_networks_and_averages_are_trained():
    state = build()
    before = content(state)
    (tick,) = train(state, 3 * BATCH)
    assert (tick.pictures, tick.d_real, tick.finite) == (3 * BATCH, 0.5, True)
    assert not [name for name, value in content(state).items() if torch.equal(value, before[name])]


def test_a_checkpoint_holds_all_of_it(tmp_path):
    once, first, second = build(), build(), build()
    train(once, 4 * BATCH)
    train(first, 2 * BATCH)
    checkpoint.save(tmp_path / "checkpoint.pt", first, RECIPE, SHAPE)
    checkpoint.load(tmp_path / "checkpoint.pt", second, RECIPE, SHAPE)
    train(second, 4 * BATCH)
    ours = content(second)
    assert all(torch.equal(value, ours[name]) for name, value in content(once).items())


def test_gradients_of_any_objective_accumulate():
    state = build()
    (tick,) = train(state, 2 * BATCH, MemoryPolicy(accumulation_steps=2))
    assert (tick.pictures, tick.d_real, tick.finite) == (2 * BATCH, 0.5, True)
