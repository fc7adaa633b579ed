"""The loop on every row of the zoo: who moves when, and that a run is a function of its arguments."""

from __future__ import annotations

import copy

import pytest
import torch

from kit.data.packed import Batches
from kit.models.zoo import ZOO
from kit.training import loop, players
from kit.training.device import Device
from kit.training.losses import LOSSES

CPU = Device(torch.device("cpu"), "CPU", torch.float32)
BATCH = 8


@pytest.fixture
def prepared(make_set, tmp_path):
    return make_set(tmp_path / "set", n=32, size=16, classes=2)


def start(name, prepared, *, seed=0, settings=()):
    recipe = ZOO[name].recipe.override(["width=4", "latent=8", f"batch={BATCH}", *settings])
    state = players.build(recipe, size=16, channels=3, classes=2, seed=seed, device=CPU.kind)
    batches = Batches(prepared, seed=seed, device=CPU.kind, flip=recipe.flip)
    return recipe, state, batches


def run(recipe, state, batches, *, until, seed=0, every=10**9):
    return list(
        loop.train(
            state,
            batches,
            recipe,
            seed=seed,
            device=CPU,
            tick_due=lambda pictures: pictures % every == 0,
            done=lambda pictures: pictures >= until,
        )
    )


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_moves_within_five_steps(name, prepared):
    recipe, state, batches = start(name, prepared)
    before = [weights(network) for network in (state.G, state.D)]
    run(recipe, state, batches, until=5 * BATCH)
    for network, old in zip((state.G, state.D), before, strict=True):
        for parameter, value in network.named_parameters():
            assert not torch.equal(value, old[parameter]), parameter


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(("frozen", "moving"), [("G", "D"), ("D", "G")])
def test_each_players_step_moves_only_that_player(name, prepared, frozen, moving):
    # With one learning rate at 0, whatever moved its weights would be the other player's step.
    recipe, state, batches = start(name, prepared, settings=[f"lr_{frozen.lower()}=0"])
    before = {key: {n: p.clone() for n, p in getattr(state, key).named_parameters()} for key in "GD"}
    run(recipe, state, batches, until=2 * BATCH)
    after = {key: dict(getattr(state, key).named_parameters()) for key in "GD"}
    assert same(before[frozen], after[frozen])
    assert not same(before[moving], after[moving])


@pytest.mark.parametrize("name", ZOO)
def test_a_step_is_the_plain_textbook_step(name, prepared):
    """Against a step written out without any of the loop's shortcuts (no shared graph, no frozen D)."""
    recipe, state, batches = start(name, prepared)
    G, D = copy.deepcopy(state.G), copy.deepcopy(state.D)
    betas = (recipe.beta1, recipe.beta2)
    opt_G = torch.optim.Adam(G.parameters(), lr=recipe.lr_g, betas=betas)
    opt_D = torch.optim.Adam(D.parameters(), lr=recipe.lr_d, betas=betas)
    loss = LOSSES[recipe.loss]
    for step in range(3):
        x, y = batches.draw(step * BATCH, BATCH)
        z = loop.latents(0, step * BATCH, BATCH, recipe.latent, CPU.kind)
        opt_D.zero_grad()
        real_logits = D(x, y)
        loss.critic(real_logits, D(copy.deepcopy(G)(z, y).detach(), y)).backward()
        opt_D.step()
        opt_G.zero_grad()
        loss.generator(D(G(z, y), y), real_logits.detach()).backward()
        opt_G.step()
    run(recipe, state, batches, until=3 * BATCH)
    for ours, plain in ((state.G, G), (state.D, D)):
        for key, value in ours.state_dict().items():
            torch.testing.assert_close(value, plain.state_dict()[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ZOO)
def test_a_run_is_a_function_of_its_seed(name, prepared):
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 3)):
        torch.manual_seed(noise)  # the global random state must not matter
        recipe, state, batches = start(name, prepared, seed=seed)
        run(recipe, state, batches, until=3 * BATCH, seed=seed)
        results.append(weights(state.ema.module))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize("name", ZOO)
def test_training_in_two_parts_equals_training_at_once(name, prepared):
    recipe, once, batches = start(name, prepared)
    run(recipe, once, batches, until=6 * BATCH)
    recipe, twice, batches = start(name, prepared)
    run(recipe, twice, batches, until=2 * BATCH, every=BATCH)  # also with other ticks
    run(recipe, twice, batches, until=6 * BATCH)
    for key in ("G", "D"):
        assert same(weights(getattr(once, key)), weights(getattr(twice, key)))
    assert same(weights(once.ema.module), weights(twice.ema.module))


def test_ticks_hold_the_means_of_their_steps(prepared):
    recipe, state, batches = start("dcgan", prepared)
    single = run(recipe, state, batches, until=4 * BATCH, every=BATCH)
    recipe, state, batches = start("dcgan", prepared)
    (joined,) = run(recipe, state, batches, until=4 * BATCH)
    assert [tick.pictures for tick in single] == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    assert joined.pictures == 4 * BATCH
    for value in ("loss_d", "loss_g", "d_real", "d_fake"):
        mean = sum(getattr(tick, value) for tick in single) / 4
        assert getattr(joined, value) == pytest.approx(mean, rel=1e-5)
    assert 0 < joined.d_real < 1


def test_no_pictures_means_no_step(prepared):
    recipe, state, batches = start("dcgan", prepared)
    before = weights(state.G)
    assert run(recipe, state, batches, until=0) == []
    assert same(before, weights(state.G))


def test_bf16_stays_close_to_fp32(prepared):
    ticks = []
    for precision in (torch.float32, torch.bfloat16):
        recipe, state, batches = start("dcgan", prepared)
        device = Device(torch.device("cpu"), "CPU", precision)
        ticks += loop.train(
            state, batches, recipe, seed=0, device=device, tick_due=lambda _: False, done=lambda n: n >= 5 * BATCH
        )
    assert ticks[0].loss_d == pytest.approx(ticks[1].loss_d, rel=0.02)
    assert ticks[0].loss_g == pytest.approx(ticks[1].loss_g, rel=0.02)
