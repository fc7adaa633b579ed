"""Standing statistics: what they are, and that nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kit.generation.generate import batch_norm_statistics
from kit.models import registry

CPU = torch.device("cpu")


class Shifted(nn.Module):
    """A batch norm that sees 3z + 5, so that its statistics are known."""

    latent, classes = 4, 0

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, z, y):
        return self.norm(3 * z + 5)


def build(name):
    torch.manual_seed(0)
    recipe = registry.get(name).recipe.override(["width=4", "latent=8"])
    return registry.build(recipe, size=16, channels=3, classes=3)[0]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_statistics_are_those_of_the_samples():
    recomputed = batch_norm_statistics(Shifted(), batches=64, seed=0, device=CPU)
    torch.testing.assert_close(recomputed.norm.running_mean, torch.full((4,), 5.0), atol=0.2, rtol=0)
    torch.testing.assert_close(recomputed.norm.running_var, torch.full((4,), 9.0), atol=0.6, rtol=0)
    # A normal number cut off at ±1 has a variance of 0.2911.
    cut = batch_norm_statistics(Shifted(), batches=64, seed=0, device=CPU, truncation=1.0)
    torch.testing.assert_close(cut.norm.running_var, torch.full((4,), 9 * 0.2911), atol=0.2, rtol=0)


@pytest.mark.parametrize("name", ["gan", "dcgan", "biggan", "r3gan"])
def test_it_is_a_pure_function_on_a_copy(name):
    generator = build(name).train()
    before, state = copy.deepcopy(generator), torch.get_rng_state()
    first, second = (batch_norm_statistics(generator, batches=4, seed=1, device=CPU, batch=8) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(generator, before)
    assert all(module.training for module in generator.modules())
    assert same(first, second)
    assert not any(module.training for module in first.modules())
    for (key, parameter), theirs in zip(first.named_parameters(), generator.parameters(), strict=True):
        assert torch.equal(parameter, theirs), key
        assert not parameter.requires_grad
    has_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in generator.modules())
    other = batch_norm_statistics(generator, batches=4, seed=2, device=CPU, batch=8)
    assert same(first, other) != has_norms
    assert same(batch_norm_statistics(generator, batches=0, seed=1, device=CPU), generator)


def test_the_samples_of_an_untrained_average_come_into_scale():
    # Running statistics that are far off leave every picture flat; recomputed ones do not.
    generator = build("biggan").eval()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1e8)
    z, y = torch.randn(32, 8), torch.zeros(32, dtype=torch.int64)
    recomputed = batch_norm_statistics(generator, batches=8, seed=0, device=CPU)
    assert generator(z, y).std() < 1e-3
    assert recomputed(z, y).std() > 1e-2
