"""The D step and the G step of a GAN that draws from noise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kit.data.batches import Batches
from kit.models.recipe import Recipe
from kit.training.augment import augment
from kit.training.device import Device
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.losses import LOSSES, PENALTIES, DOutputs
from kit.training.random import BatchSlice, SlicedGenerator, sample_z, step_generator
from kit.training.train_state import TrainState, scale


class DStepOutputs(NamedTuple):
    """What the D step leaves to the G step, for a slice of the batch."""

    batch_slice: BatchSlice
    z: Tensor  # of this process's rows
    y: Tensor
    real: Tensor  # as D saw them
    fake: Tensor  # G(z, y), with its graph if the batch has one slice
    real_logits: Tensor  # of all rows of the slice
    fake_logits: Tensor
    loss_D: Tensor


@dataclass(frozen=True)
class Adversarial:
    """The objective of GANs: a loss, a gradient penalty and what D sees, as a recipe names them."""

    recipe: Recipe
    batches: Batches  # real pictures
    seed: int  # of the run
    device: Device
    distributed: Distributed = SINGLE_PROCESS

    def d_step(
        self, state: TrainState, batch_slice: BatchSlice, *, position: int, progress: float, keep_graph: bool
    ) -> DStepOutputs:
        """D learns to tell real pictures x from generated ones, G(z); see `Objective.d_step`."""
        recipe, G, D, device = self.recipe, state.G, state.D, self.device
        loss, penalty = LOSSES[recipe.loss], PENALTIES[recipe.penalty]
        local = self.distributed.local(batch_slice)
        random = step_generator(self.seed, "D step", position, device.kind, local)

        x, y = self.batches.draw(position + local.first, len(local))
        z = sample_z(self.seed, position, local, recipe.latent, device.kind)
        with single_power_iteration(batch_slice, G, D):
            with torch.set_grad_enabled(keep_graph), device.autocast():
                fake = to_fp32(G(z, y))
            real_input = augment_inputs(x, recipe, progress, random).requires_grad_(penalty.needs_input_grad)
            fake_input = augment_inputs(fake.detach(), recipe, progress, random)
            fake_input.requires_grad_(penalty.needs_input_grad)
            with device.autocast_twice() if penalty.needs_input_grad else device.autocast():
                logits = to_fp32(D(real_input, y)), to_fp32(D(fake_input, y))
            with device.autocast_twice():
                gradient_penalty = penalty.compute(DOutputs(D, real_input, fake_input, y, *logits), random)
            real_logits, fake_logits = (self.distributed.gather(rows, batch_slice) for rows in logits)

            penalty_weight = recipe.penalty_weight * scale(
                recipe.schedule, progress, end=recipe.penalty_end, start=recipe.schedule_start
            )
            loss_D = batch_slice.weight * loss.d_loss(real_logits, fake_logits, recipe.real_label)
            loss_D = loss_D + penalty_weight * local.weight * gradient_penalty
            state.scalers["D"].scale(loss_D).backward(inputs=list(D.parameters()))
        logits_and_loss = (tensor.detach() for tensor in (real_logits, fake_logits, loss_D))
        return DStepOutputs(batch_slice, z, y, real_input.detach(), fake, *logits_and_loss)

    def g_step(self, state: TrainState, outputs: DStepOutputs, *, position: int, progress: float) -> dict[str, Tensor]:
        """G learns to make pictures that the D of the last step takes for real ones; see `Objective.g_step`."""
        recipe, G, D, device = self.recipe, state.G, state.D, self.device
        batch_slice, z, y, real, fake, real_logits, fake_logits, loss_D = outputs
        loss = LOSSES[recipe.loss]
        local = self.distributed.local(batch_slice)
        random = step_generator(self.seed, "G step", position, device.kind, local)

        with single_power_iteration(batch_slice, D), device.autocast():
            if not fake.requires_grad:  # gradients accumulate: memory did not hold the graphs of all slices
                with freeze_spectral_norm(G):
                    fake = to_fp32(G(z, y))
            if loss.relativistic:
                real_logits = self.distributed.gather(to_fp32(D(real, y)), batch_slice).detach()
            logits = self.distributed.gather(to_fp32(D(augment_inputs(fake, recipe, progress, random), y)), batch_slice)
        loss_G = batch_slice.weight * loss.g_loss(logits, real_logits)
        state.scalers["G"].scale(loss_G).backward()
        return {
            "loss_d": loss_D,
            "loss_g": loss_G.detach(),
            "d_real": batch_slice.weight * real_logits.sigmoid().mean(),
            "d_fake": batch_slice.weight * fake_logits.sigmoid().mean(),
        }


def to_fp32(x: Tensor) -> Tensor:
    """A network's output in fp32 where the network ran in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def augment_inputs(x: Tensor, recipe: Recipe, progress: float, random: SlicedGenerator) -> Tensor:
    """Pictures (B, C, H, W) as D sees them: with instance noise (Sønderby et al. 2017) and DiffAugment."""
    noise = recipe.instance_noise * (1 - progress)
    if noise:
        x = x + noise * random.normal(*x.shape)
    return augment(x, recipe.augmentations, random)


@contextlib.contextmanager
def single_power_iteration(batch_slice: BatchSlice, *networks: nn.Module) -> Iterator[None]:
    """Spectral norm makes one power iteration a step, in its first slice, however often a network is called."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(parametrize.cached())
        if batch_slice.first:
            for network in networks:
                stack.enter_context(freeze_spectral_norm(network))
        yield


@contextlib.contextmanager
def freeze_spectral_norm(network: nn.Module) -> Iterator[None]:
    """Spectral norm keeps its singular vectors as they are."""
    norms = [cast(nn.Module, m.parametrizations) for m in network.modules() if parametrize.is_parametrized(m)]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
