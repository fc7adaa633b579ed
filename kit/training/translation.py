"""The D step and the G step of unpaired image-to-image translation: CycleGAN and CUT.

Inputs x (photographs) are translated into the domain of the targets y (paintings): G(x). The training loop knows both
objectives by the same two steps as a GAN that draws from noise, see `kit.training.loop.Objective`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

from kit.core.seeds import derive
from kit.data.batches import Batches
from kit.models.recipe import LossName, Recipe
from kit.models.translators import CutGenerator, CycleGanDiscriminators, CycleGanGenerators
from kit.training.adversarial import augment_inputs, to_fp32
from kit.training.device import Device
from kit.training.distributed import SINGLE_PROCESS, Distributed
from kit.training.losses import LOSSES
from kit.training.random import BatchSlice, step_generator
from kit.training.train_state import TrainState

G_SCALE: dict[LossName, float] = {"least-squares": 2.0}
"""`LOSSES` halves the squares in G's loss, as Mao et al. 2017; the weights λ of both papers count against the whole."""


class TranslationOutputs(NamedTuple):
    """What the D step leaves to the G step, for a slice of the batch. Pictures are this process's rows."""

    batch_slice: BatchSlice
    x: Tensor  # inputs
    y: Tensor  # targets
    x_to_y: Tensor  # G(x), with its graph if the batch has one slice
    y_to_x: Tensor | None  # the way back; CUT has none
    figures: dict[str, Tensor]  # of the D step


@dataclass(frozen=True)
class Translation:
    """What both objectives share."""

    recipe: Recipe
    batches: Batches
    seed: int  # of the run
    device: Device
    distributed: Distributed = SINGLE_PROCESS

    def _draw(self, batch_slice: BatchSlice, position: int) -> tuple[Tensor, Tensor]:
        """This process's inputs and targets."""
        local = self.distributed.local(batch_slice)
        y, _ = self.batches.draw(position + local.first, len(local))
        return self.batches.draw_inputs(position + local.first, len(local)), y

    def _d_loss(
        self,
        D: nn.Module,
        real: Tensor,
        fake: Tensor,
        batch_slice: BatchSlice,
        position: int,
        progress: float,
        *,
        augment: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one D for this process's rows, and its figures."""
        local = self.distributed.local(batch_slice)
        random = step_generator(self.seed, "D step", position, self.device.kind, local)
        if augment:
            real, fake = (augment_inputs(pictures, self.recipe, progress, random) for pictures in (real, fake))
        with self.device.autocast():
            real_logits, fake_logits = to_fp32(D(real)), to_fp32(D(fake))
        loss = local.weight * LOSSES[self.recipe.loss].d_loss(real_logits, fake_logits, self.recipe.real_label)
        d_real, d_fake = (local.weight * logits.detach().sigmoid().mean() for logits in (real_logits, fake_logits))
        return loss, {"d_real": d_real, "d_fake": d_fake}

    def _g_loss(
        self,
        D: nn.Module,
        fake: Tensor,
        batch_slice: BatchSlice,
        position: int,
        progress: float,
        *,
        augment: bool = True,
    ) -> Tensor:
        """The adversarial loss of one G for this process's rows."""
        recipe, local = self.recipe, self.distributed.local(batch_slice)
        random = step_generator(self.seed, "G step", position, self.device.kind, local)
        logits = to_fp32(D(augment_inputs(fake, recipe, progress, random) if augment else fake))
        return G_SCALE.get(recipe.loss, 1.0) * LOSSES[recipe.loss].g_loss(logits, logits)

    def _sum(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """Figures of all processes from those of each."""
        return dict(zip(figures, self.distributed.sum(torch.stack(list(figures.values()))), strict=True))


class CycleGAN(Translation):
    """Two generators, each the other's inverse, and a discriminator for each domain (Zhu et al. 2017)."""

    def d_step(
        self, state: TrainState, batch_slice: BatchSlice, *, position: int, progress: float, keep_graph: bool
    ) -> TranslationOutputs:
        """Each D learns to tell pictures of its domain from translations (eq. 1); see `Objective.d_step`."""
        G, D = cast(CycleGanGenerators, state.G), cast(CycleGanDiscriminators, state.D)
        x, y = self._draw(batch_slice, position)
        with torch.set_grad_enabled(keep_graph), self.device.autocast():
            x_to_y, y_to_x = to_fp32(G.to_target(x)), to_fp32(G.to_input(y))
        fake_y = self.from_pool("targets", x_to_y.detach(), state, batch_slice, position)
        fake_x = self.from_pool("inputs", y_to_x.detach(), state, batch_slice, position)
        loss_y, figures = self._d_loss(D.target, y, fake_y, batch_slice, position, progress)
        loss_x, _ = self._d_loss(D.input, x, fake_x, batch_slice, position, progress, augment=False)
        state.scalers["D"].scale(loss_y + loss_x).backward()
        figures["loss_d"] = (loss_y + loss_x).detach()
        return TranslationOutputs(batch_slice, x, y, x_to_y, y_to_x, figures)

    def g_step(
        self, state: TrainState, outputs: TranslationOutputs, *, position: int, progress: float
    ) -> dict[str, Tensor]:
        """Both Gs learn to deceive their D, to undo each other, and to keep what is in their domain already (eq. 3 and
        section 5.2); see `Objective.g_step`."""
        recipe = self.recipe
        G, D = cast(CycleGanGenerators, state.G), cast(CycleGanDiscriminators, state.D)
        batch_slice, x, y, x_to_y, y_to_x, figures = outputs
        assert y_to_x is not None
        local = self.distributed.local(batch_slice)
        with self.device.autocast():
            if not x_to_y.requires_grad:  # gradients accumulate: memory did not hold the graphs of all slices
                x_to_y, y_to_x = to_fp32(G.to_target(x)), to_fp32(G.to_input(y))
            adversarial = self._g_loss(D.target, x_to_y, batch_slice, position, progress)
            adversarial = adversarial + self._g_loss(D.input, y_to_x, batch_slice, position, progress, augment=False)
            cycle = l1_loss(to_fp32(G.to_input(x_to_y)), x) + l1_loss(to_fp32(G.to_target(y_to_x)), y)
            loss_G = recipe.lambda_gan * adversarial + recipe.lambda_cycle * cycle
            if recipe.lambda_identity:
                identity = l1_loss(to_fp32(G.to_target(y)), y) + l1_loss(to_fp32(G.to_input(x)), x)
                loss_G = loss_G + recipe.lambda_cycle * recipe.lambda_identity * identity
            loss_G = local.weight * loss_G
        state.scalers["G"].scale(loss_G).backward()
        return self._sum({**figures, "loss_g": loss_G.detach()})

    def from_pool(self, name: str, images: Tensor, state: TrainState, batch_slice: BatchSlice, position: int) -> Tensor:
        """What D sees in place of new translations, so that it does not forget earlier ones (Shrivastava et al. 2017).

        The first pictures fill the pool and go to D themselves. After that, D sees with probability ½ a stored picture
        in place of a new one, which takes the stored one's place. What happens to a picture is a function of the seed
        and of the pictures seen, and the pool is alike in all processes.

        Args:
            name: of the pool.
            images: this process's rows, (B, C, H, W).
            state: keeps the pool.
            batch_slice: rows of the batch.
            position: pictures seen before this batch.
        """
        size = self.recipe.buffer_size
        if not size:
            return images
        local, images = self.distributed.local(batch_slice), self.distributed.gather(images, batch_slice)
        if name not in state.extra:
            state.extra[name] = images.new_zeros(size, *images.shape[1:])
        pool, shown = state.extra[name], images.clone()
        random = step_generator(self.seed, f"pool of {name}", position, torch.device("cpu"), batch_slice)
        swap, place = random.uniform(len(batch_slice)) < 0.5, random.integers(0, size, len(batch_slice))
        for row in range(len(batch_slice)):
            seen = position + batch_slice.first + row
            if seen < size:
                pool[seen] = images[row]
            elif swap[row]:
                shown[row], pool[place[row]] = pool[place[row]].clone(), images[row]
        return shown[local.first - batch_slice.first : local.last - batch_slice.first]


class CUT(Translation):
    """One generator that keeps, patch by patch, what its input shows (Park et al. 2020)."""

    def d_step(
        self, state: TrainState, batch_slice: BatchSlice, *, position: int, progress: float, keep_graph: bool
    ) -> TranslationOutputs:
        """D learns to tell targets from translations (eq. 1); see `Objective.d_step`."""
        x, y = self._draw(batch_slice, position)
        with torch.set_grad_enabled(keep_graph), self.device.autocast():
            x_to_y = to_fp32(state.G(self._flip(x, position)))
        loss_D, figures = self._d_loss(state.D, y, x_to_y.detach(), batch_slice, position, progress)
        state.scalers["D"].scale(loss_D).backward()
        figures["loss_d"] = loss_D.detach()
        return TranslationOutputs(batch_slice, x, y, x_to_y, None, figures)

    def g_step(
        self, state: TrainState, outputs: TranslationOutputs, *, position: int, progress: float
    ) -> dict[str, Tensor]:
        """G learns to deceive D, while each patch of G(x) stays nearest to the same patch of x, and G(y) near y (eq. 4
        and 5); see `Objective.g_step`."""
        recipe, G, D = self.recipe, state.G, state.D
        batch_slice, x, y, x_to_y, _, figures = outputs
        local = self.distributed.local(batch_slice)
        with self.device.autocast():
            if not x_to_y.requires_grad:  # gradients accumulate: memory did not hold the graphs of all slices
                x_to_y = to_fp32(G(self._flip(x, position)))
            adversarial = self._g_loss(D, x_to_y, batch_slice, position, progress)
            nce = self._nce(state, x, x_to_y, position)
            if recipe.lambda_identity:
                identity = self._nce(state, y, to_fp32(G(self._flip(y, position))), position)
                nce = (nce + recipe.lambda_identity * identity) / (1 + recipe.lambda_identity)
            loss_G = local.weight * (recipe.lambda_gan * adversarial + recipe.lambda_nce * nce)
        state.scalers["G"].scale(loss_G).backward()
        return self._sum({**figures, "loss_g": loss_G.detach()})

    def _nce(self, state: TrainState, source: Tensor, translated: Tensor, position: int) -> Tensor:
        """PatchNCE between pictures and their translations, the mean over the feature maps (eq. 3)."""
        G, recipe = cast(CutGenerator, state.G), self.recipe
        queries = [self._flip(features, position) for features in G.generator.features(translated)]
        keys = G.generator.features(source)
        random = torch.Generator(source.device).manual_seed(derive(self.seed, "patches", position))
        places = [
            torch.randperm(features[0, 0].numel(), generator=random, device=source.device)[: recipe.nce_patches]
            for features in keys
        ]
        pairs = zip(G.patch_features(queries, places), G.patch_features(keys, places), strict=True)
        return torch.stack(
            [patch_nce(to_fp32(query), to_fp32(key).detach(), recipe.nce_temperature) for query, key in pairs]
        ).mean()

    def _flip(self, x: Tensor, position: int) -> Tensor:
        """The pictures or features of half of the batches mirrored, as in FastCUT: G is to commute with it."""
        random = torch.Generator().manual_seed(derive(self.seed, "flip equivariance", position))
        return x.flip(3) if self.recipe.flip_equivariance and torch.rand((), generator=random) < 0.5 else x


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """The cross entropy of finding each patch's own key among those of the same picture (Park et al. 2020, eq. 2).

    Args:
        query: features of the translation's patches, (B, P, C), of length 1.
        key: features of the same patches of the input.
        temperature: τ.

    Returns:
        The mean over pictures and patches.
    """
    logits = query @ key.transpose(1, 2) / temperature  # (B, P, P): row i is query i against every key
    own = torch.arange(query.shape[1], device=query.device).expand(query.shape[:2])
    return cross_entropy(logits.flatten(0, 1), own.flatten())
