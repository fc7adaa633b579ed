"""The steps of translations: losses as the papers write them, the pool of earlier pictures, slices and processes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kit.core.seeds import derive
from kit.data.batches import Batches
from kit.models import registry
from kit.training import loop, train_state
from kit.training.device import Device
from kit.training.memory import MemoryPolicy
from kit.training.random import BatchSlice
from kit.training.translation import CUT, CycleGAN, patch_nce

CPU = Device(torch.device("cpu"), "CPU", torch.float32)
SETTINGS = ["width=4", "batch=4", "augment=none"]
OBJECTIVES = {"cyclegan": CycleGAN, "cut": CUT}
ROWS = sorted(name for name, row in registry.MODELS.items() if row.recipe.task == "translation")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, make_set):
    """A set of two halves, 32 px."""
    return make_set(tmp_path_factory.mktemp("translation") / "set", n=16, size=32, inputs=24)


def start(pictures, name, *settings):
    recipe = registry.get(name).override([*SETTINGS, *(["blocks=2"] if name else []), *settings])
    state = train_state.build(recipe, size=32, channels=3, classes=0, seed=0, device=CPU)
    batches = Batches(pictures, seed=0, device=CPU.kind, flip=recipe.flip)
    return state, OBJECTIVES[name](recipe, batches, 0, CPU), batches


def steps(state, objective, count, **arguments):
    until = state.pictures + count * objective.recipe.batch
    return list(
        loop.train(state, objective, tick_due=lambda _: False, done=lambda n: n >= until, total_images=80, **arguments)
    )


def test_every_row_has_a_step():
    assert sorted(OBJECTIVES) == ROWS


def test_cyclegan_losses_are_the_papers(pictures):
    state, objective, batches = start(pictures, "cyclegan", "buffer_size=0")
    x, y = batches.draw_inputs(0, 4), batches.draw(0, 4)[0]
    G, D = copy.deepcopy(state.G), copy.deepcopy(state.D)
    fake_y, fake_x = G.to_target(x), G.to_input(y)
    # Zhu et al. 2017: least squares in place of eq. 1's logarithms, halved for D as in section 4
    loss_d = sum(
        ((D_(real) - 1).square().mean() + D_(fake).square().mean()) / 2
        for D_, real, fake in ((D.target, y, fake_y), (D.input, x, fake_x))
    )
    [tick] = steps(state, objective, 1)
    assert tick.loss_d == pytest.approx(loss_d.item(), rel=1e-4)
    D = state.D  # which has learned before G does
    loss_g = (
        (D.target(fake_y) - 1).square().mean()
        + (D.input(fake_x) - 1).square().mean()
        + 10 * (F.l1_loss(G.to_input(fake_y), x) + F.l1_loss(G.to_target(fake_x), y))
        + 5 * (F.l1_loss(G.to_target(y), y) + F.l1_loss(G.to_input(x), x))
    )
    assert tick.loss_g == pytest.approx(loss_g.item(), rel=1e-4)


def test_cut_losses_are_the_papers(pictures):
    state, objective, batches = start(pictures, "cut", "nce_patches=16")
    x, y = batches.draw_inputs(0, 4), batches.draw(0, 4)[0]
    G = copy.deepcopy(state.G)

    def nce(source: Tensor, translated: Tensor) -> float:
        """Eq. 3, picture by picture and patch by patch."""
        random = torch.Generator().manual_seed(derive(0, "patches", 0))
        total = []
        maps = zip(G.generator.features(source), G.generator.features(translated), G.patch_features.mlps, strict=True)
        for source_map, translated_map, mlp in maps:
            places = torch.randperm(source_map[0, 0].numel(), generator=random)[:16]
            for one, other in zip(source_map, translated_map, strict=True):
                key, query = (F.normalize(mlp(m.flatten(1)[:, places].T), dim=1) for m in (one, other))
                for index in range(len(places)):
                    similar = torch.exp(key @ query[index] / 0.07)
                    total.append(float(-torch.log(similar[index] / similar.sum())) / len(places) / len(source) / 5)
        return sum(total)

    [tick] = steps(state, objective, 1)
    adversarial = (state.D(G(x)) - 1).square().mean()
    assert tick.loss_g == pytest.approx(adversarial.item() + (nce(x, G(x)) + nce(y, G(y))) / 2, rel=1e-3)


def test_patch_nce_of_what_cannot_be_told_apart_is_the_logarithm_of_the_patches():
    same = torch.ones(2, 7, 3) / math.sqrt(3)
    assert float(patch_nce(same, same, 0.07)) == pytest.approx(math.log(7))


def test_the_pool_gives_back_half_of_the_time_what_was_put_in_earlier(pictures):
    state, objective, _ = start(pictures, "cyclegan", "buffer_size=8")
    shown = []
    for position in range(0, 400, 4):
        images = torch.arange(position, position + 4.0).view(4, 1, 1, 1)
        shown.append((images, objective.from_pool("targets", images, state, BatchSlice(0, 4, 4), position)))
    new, seen = (torch.cat(side).flatten() for side in zip(*shown, strict=True))
    assert torch.equal(seen[:8], new[:8])  # which fill it
    assert 0.35 < float((seen[8:] != new[8:]).float().mean()) < 0.65
    assert (seen <= new).all()
    later = [value for value in seen[8:].tolist() if value >= 8]
    assert len(set(later)) == len(later)  # shown once: as it comes, or as it leaves the pool


@pytest.mark.parametrize("name", ROWS)
def test_training_in_slices_is_training(pictures, name):
    (whole, objective, _), (sliced, *_) = (start(pictures, name, "batch=4") for _ in range(2))
    steps(whole, objective, 3)
    steps(sliced, objective, 3, memory=MemoryPolicy(accumulation_steps=2))
    for one, other in zip(whole.G.parameters(), sliced.G.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("name", ROWS)
def test_half_way_and_on_is_all_the_way(pictures, name, tmp_path):
    from kit.training import checkpoint

    shape = checkpoint.Shape(32, 3, ())
    state, objective, _ = start(pictures, name, "buffer_size=6" if name == "cyclegan" else "nce_patches=16")
    steps(state, objective, 3)
    checkpoint.save(tmp_path / "half.pt", state, objective.recipe, shape)
    steps(state, objective, 3)
    again, objective, _ = start(pictures, name, "buffer_size=6" if name == "cyclegan" else "nce_patches=16")
    checkpoint.load(tmp_path / "half.pt", again, objective.recipe, shape)
    steps(again, objective, 3)
    assert checkpoint.weights_digest(again.G) == checkpoint.weights_digest(state.G)
    assert checkpoint.weights_digest(again.ema.module) == checkpoint.weights_digest(state.ema.module)


@pytest.mark.parametrize("name", ROWS)
def test_everything_is_trained(pictures, name):
    state, objective, _ = start(pictures, name)
    before = {key: weight.clone() for key, weight in (*state.G.state_dict().items(), *state.D.state_dict().items())}
    steps(state, objective, 3)
    after = {**dict(state.G.state_dict()), **dict(state.D.state_dict())}
    # A bias before instance norm has no effect, and no gradient but for rounding.
    unchanged = [key for key in before if key.endswith("weight") and np.array_equal(before[key], after[key])]
    assert unchanged == []
