"""The loop on every row of the registry: who moves when, and that a run is a function of its arguments."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.nn.utils import parametrize
from training_tools import ADDED, BATCH, CPU, FAMILIES, ROWS, run, same, start, weights

from kit.models.registry import MODELS
from kit.training import adversarial, train_state
from kit.training.augment import augment
from kit.training.device import Device
from kit.training.losses import LOSSES, PENALTIES, DOutputs
from kit.training.random import BatchSlice, sample_z, step_generator


@pytest.mark.parametrize("name", ROWS)
def test_every_parameter_moves_within_five_steps(name, prepared):
    # While all logits are within hinge's margin, as many real pictures pull D's last bias up as generated ones pull it
    # down, exactly: large steps leave the margin.
    hinge = MODELS[name].recipe.loss == "hinge"
    recipe, state, batches = start(name, prepared, *(["lr_d=0.1"] if hinge else []))
    before = [weights(network) for network in (state.G, state.D)]
    run(recipe, state, batches, until=5 * recipe.pictures_per_iteration)
    for network, old in zip((state.G, state.D), before, strict=True):
        for parameter, value in network.named_parameters():
            assert not torch.equal(value, old[parameter]), parameter


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("frozen", "moving"), [("G", "D"), ("D", "G")])
def test_each_players_step_moves_only_that_player(name, prepared, frozen, moving):
    # With one learning rate at 0, whatever moved its weights would be the other player's step.
    recipe, state, batches = start(name, prepared, f"lr_{frozen.lower()}=0", "weight_clip=0")
    before = {key: {n: p.clone() for n, p in getattr(state, key).named_parameters()} for key in "GD"}
    run(recipe, state, batches, until=2 * recipe.pictures_per_iteration)
    after = {key: dict(getattr(state, key).named_parameters()) for key in "GD"}
    assert same(before[frozen], after[frozen])
    assert not same(before[moving], after[moving])


def textbook(recipe, state, batches, *, iterations, total_images):
    """The same training without any of the loop's shortcuts: no shared graph, no frozen D, no tables of settings.

    Channels come first in memory.
    """
    G, D = (copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in (state.G, state.D))
    opt_G = train_state.OPTIMIZERS[recipe.optimizer](G.parameters(), recipe)
    opt_D = train_state.OPTIMIZERS[recipe.optimizer](D.parameters(), recipe)
    loss, penalty = LOSSES[recipe.loss], PENALTIES[recipe.penalty]
    names = [name for name in ("color", "translation", "cutout") if name in recipe.augment]
    position = 0
    for _ in range(iterations):
        left = 1 - position / total_images
        fade = {"constant": 0, "linear": position / total_images}[recipe.schedule]
        factor = 1 - fade + fade * recipe.lr_end
        penalty_weight = recipe.penalty_weight * (1 - fade + fade * recipe.penalty_end)
        opt_D.param_groups[0]["lr"], opt_G.param_groups[0]["lr"] = recipe.lr_d * factor, recipe.lr_g * factor

        def seen(x, random, left=left):
            if recipe.instance_noise:
                x = x + recipe.instance_noise * left * random.normal(*x.shape)
            return augment(x, names, random)

        began = position
        for step in range(recipe.d_steps):
            random = step_generator(0, "D step", position, CPU.kind)
            x, y = batches.draw(position, BATCH)
            z = sample_z(0, position, BatchSlice(0, BATCH, BATCH), recipe.latent, CPU.kind)
            # G's own forward of this step's last batch comes in its own step, below.
            maker = copy.deepcopy(G) if step == recipe.d_steps - 1 else G
            real = seen(x, random)
            fake = seen(maker(z, y).detach(), random)
            with parametrize.cached():  # one power iteration a step
                value = loss.d_loss(D(real, y), D(fake, y), recipe.real_label)
                # On passes of its own through D, as papers write it.
                x_r, x_f = (pictures.clone().requires_grad_(True) for pictures in (real, fake))
                logits_r, logits_f = (D(x_r, y), D(x_f, y)) if penalty.needs_input_grad else (value, value)
                value = value + penalty_weight * penalty.compute(DOutputs(D, x_r, x_f, y, logits_r, logits_f), random)
            opt_D.zero_grad()
            value.backward()
            if recipe.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(D.parameters(), recipe.max_grad_norm)
            opt_D.step()
            for weight in D.parameters():
                if recipe.weight_clip:
                    weight.data = weight.data.clamp(-recipe.weight_clip, recipe.weight_clip)
            position += BATCH
        random = step_generator(0, "G step", began, CPU.kind)
        with parametrize.cached():
            real_logits = D(real, y).detach() if loss.relativistic else torch.zeros(BATCH)
            value = loss.g_loss(D(seen(G(z, y), random), y), real_logits)
        opt_G.zero_grad()
        value.backward()
        if recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(G.parameters(), recipe.max_grad_norm)
        opt_G.step()
    return G, D


CASES = [(name, []) for name in ROWS] + [(name, ADDED) for name in ("dcgan", "sagan", "r3gan")]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_step_is_the_plain_textbook_step(name, settings, prepared, monkeypatch):
    # The gradient of a bias before batch norm is 0 but for rounding, which Adam's usual ε would make a whole step of.
    monkeypatch.setitem(
        train_state.OPTIMIZERS,
        "adam",
        lambda weights, recipe: torch.optim.Adam(weights, betas=(recipe.beta1, recipe.beta2), eps=1e-4, fused=True),
    )
    recipe, state, batches = start(name, prepared, "schedule=constant", *settings)
    iterations = 3 if recipe.d_steps == 1 else 2
    until, total_images = iterations * recipe.pictures_per_iteration, 20 * BATCH
    G, D = textbook(recipe, state, batches, iterations=iterations, total_images=total_images)
    run(recipe, state, batches, until=until, total_images=total_images)
    for ours, plain in ((state.G, G), (state.D, D)):
        for key, value in ours.state_dict().items():
            # Of singular vectors, rounding moves the last digits most.
            atol = 1e-4 if key.endswith(("._u", "._v")) else 1e-5
            torch.testing.assert_close(value, plain.state_dict()[key], rtol=1e-4, atol=atol, msg=key)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_is_a_function_of_its_seed(name, prepared):
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 3)):
        torch.manual_seed(noise)  # the global random state must not matter
        recipe, state, batches = start(name, prepared, seed=seed)
        run(recipe, state, batches, until=2 * recipe.pictures_per_iteration, seed=seed)
        results.append(weights(state.ema.module))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize(("name", "settings"), [*((name, []) for name in FAMILIES), ("dcgan", ADDED)])
def test_training_in_two_parts_equals_training_at_once(name, settings, prepared):
    recipe, once, batches = start(name, prepared, *settings)
    step = recipe.pictures_per_iteration
    run(recipe, once, batches, until=4 * step, total_images=5 * step)
    recipe, twice, batches = start(name, prepared, *settings)
    run(recipe, twice, batches, until=2 * step, every=step, total_images=5 * step)  # also with other ticks
    recipe, third, batches = start(name, prepared, *settings, seed=1)
    for group in ("networks", "optimizers"):
        for key, part in getattr(twice, group).items():
            getattr(third, group)[key].load_state_dict(copy.deepcopy(part.state_dict()))
    third.ema.module.load_state_dict(twice.ema.module.state_dict())
    third.pictures = twice.pictures
    recipe, _, batches = start(name, prepared, *settings)
    run(recipe, third, batches, until=4 * step, total_images=5 * step)
    for key in ("G", "D"):
        assert same(weights(getattr(once, key)), weights(getattr(third, key)))
    assert same(weights(once.ema.module), weights(third.ema.module))


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.recipe.weight_clip])
def test_clipping_holds_after_every_step(name, prepared):
    recipe, state, batches = start(name, prepared, "lr_d=0.1")
    run(recipe, state, batches, until=recipe.pictures_per_iteration)
    limits = [weight.abs().max().item() for weight in state.D.parameters()]
    assert max(limits) == pytest.approx(recipe.weight_clip)


def test_d_takes_its_steps_before_each_of_g(prepared):
    recipe, state, batches = start("dcgan", prepared, "d_steps=3")
    order = []
    for player, optimizer in state.optimizers.items():
        optimizer.register_step_pre_hook(lambda *_, player=player: order.append(player))
    run(recipe, state, batches, until=2 * recipe.pictures_per_iteration)
    assert "".join(order) == "DDDGDDDG"
    assert state.pictures == 2 * 3 * BATCH


def test_a_schedule_sets_both_learning_rates_by_the_pictures_seen(prepared):
    settings = ["schedule=linear", "lr_end=0.5", "lr_g=0.004", "lr_d=0.002"]
    recipe, state, batches = start("dcgan", prepared, *settings)
    rates = {"G": [], "D": []}
    for player, seen in rates.items():
        optimizer = state.optimizers[player]
        optimizer.register_step_pre_hook(lambda opt, *_, seen=seen: seen.append(opt.param_groups[0]["lr"]))
    run(recipe, state, batches, until=3 * BATCH, total_images=4 * BATCH)
    assert rates["G"] == pytest.approx([0.004, 0.0035, 0.003])
    assert rates["D"] == pytest.approx([0.002, 0.00175, 0.0015])


def test_gradients_are_clipped(prepared):
    recipe, state, batches = start("dcgan", prepared, "max_grad_norm=0.001")
    norms = []
    for network, optimizer in ((state.D, state.optimizers["D"]), (state.G, state.optimizers["G"])):
        optimizer.register_step_pre_hook(
            lambda *_, network=network: norms.append(torch.cat([p.grad.flatten() for p in network.parameters()]).norm())
        )
    run(recipe, state, batches, until=2 * BATCH)
    assert len(norms) == 4
    assert [norm.item() for norm in norms] == pytest.approx([0.001] * 4, rel=1e-3)


@pytest.mark.parametrize("settings", [[], ["max_grad_norm=0.001"]])
def test_ticks_hold_gradient_norms_and_learning_rates(settings, prepared):
    recipe, state, batches = start("dcgan", prepared, "schedule=linear", "lr_end=0.5", *settings)
    norms = []
    for network in (state.D, state.G):
        # Before the step: what the backward pass left, and no clipping has touched yet.
        def note(gradient, network=network):
            norms.append((network, gradient.norm().item() ** 2))

        for weight in network.parameters():
            weight.register_hook(note)
    (tick,) = run(recipe, state, batches, until=BATCH, total_images=2 * BATCH)
    for network, told in ((state.D, tick.grad_d), (state.G, tick.grad_g)):
        assert told == pytest.approx(sum(square for owner, square in norms if owner is network) ** 0.5, rel=1e-4)
    (later,) = run(recipe, state, batches, until=2 * BATCH, total_images=2 * BATCH)
    assert (later.lr_d, later.lr_g) == pytest.approx((0.75 * recipe.lr_d, 0.75 * recipe.lr_g))


def test_d_sees_noise_that_fades_over_the_plan(prepared, monkeypatch):
    recipe, state, batches = start("dcgan", prepared, "instance_noise=0.5")
    spread = []

    def watch(x, names, random):
        spread.append((x - batches.draw(0, BATCH)[0]).std().item() if len(spread) % 3 == 0 else None)
        return x

    monkeypatch.setattr(batches, "draw", lambda position, count, draw=batches.draw: draw(0, count))
    monkeypatch.setattr(adversarial, "augment", watch)
    run(recipe, state, batches, until=3 * BATCH, total_images=2 * BATCH)
    assert [value for value in spread if value is not None] == pytest.approx([0.5, 0.25, 0], rel=0.05)


@pytest.mark.parametrize(
    ("name", "settings"), [("dcgan", ["modulate=no", "norm_g=spectral", "norm_d=spectral"]), ("biggan", [])]
)
def test_normalized_weights_have_a_spectral_norm_of_one(name, settings, prepared):
    recipe, state, batches = start(name, prepared, *settings)
    run(recipe, state, batches, until=2 * BATCH)
    # One power iteration a step follows weights that move slowly. Here, at width 4, they do not: let it catch up.
    frozen = dataclasses.replace(recipe, lr_g=0, lr_d=0)
    run(frozen, state, batches, until=30 * BATCH)
    for network in (state.G, state.D):
        layers = [module for module in network.eval().modules() if parametrize.is_parametrized(module, "weight")]
        assert layers
        for layer in layers:
            columns = 1 if isinstance(layer, torch.nn.ConvTranspose2d) else 0
            matrix = layer.weight.detach().movedim(columns, 0).flatten(1)
            assert torch.linalg.matrix_norm(matrix, ord=2).item() == pytest.approx(1, abs=3e-2)


def test_ticks_hold_the_means_of_their_steps(prepared):
    recipe, state, batches = start("dcgan", prepared)
    single = run(recipe, state, batches, until=4 * BATCH, every=BATCH)
    recipe, state, batches = start("dcgan", prepared)
    (joined,) = run(recipe, state, batches, until=4 * BATCH)
    assert [tick.pictures for tick in single] == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    assert joined.pictures == 4 * BATCH
    for value in ("loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g"):
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
        device = Device(CPU.kind, "CPU", precision)
        ticks += run(*start("dcgan", prepared), until=5 * BATCH, device=device)
    assert ticks[0].loss_d == pytest.approx(ticks[1].loss_d, rel=0.02)
    assert ticks[0].loss_g == pytest.approx(ticks[1].loss_g, rel=0.02)
