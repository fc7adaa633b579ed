"""The table of models. A new GAN is a row here, and an entry of `kit.models.architectures` if none of those fits.

Reading the table imports no torch; `build` does.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.errors import KitError, unknown
from kit.models import custom, ladders
from kit.models.architectures import ARCHITECTURES, Architecture
from kit.models.recipe import Recipe, TaskName, settings

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ARCHITECTURES", "MODELS", "Architecture", "ModelEntry", "architecture", "build", "get", "of_task"]


NOISE_ONLY = (
    *("conditional", "latent", "d_steps", "penalty", "penalty_weight", "penalty_end"),
    *("truncation", "standing_batches", "sample_classes"),
)
"""Settings that a translation does not have."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A row of the registry."""

    recipe: Recipe
    about: str
    paper: str
    note: str = ""  # what differs from the paper, and why
    unconditional: str = ""  # for a conditional model, the row to take for a set without classes
    ladder: tuple[ladders.Rung, ...] = ()  # widths that a budget chooses from; none: it keeps the recipe's

    @property
    def name(self) -> str:
        """The name given to `kit train --model`."""
        return self.recipe.model

    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """The fields of the recipe that `--set` can change in this model, by name."""
        have, fields = architecture(self.recipe).settings, settings().items()
        without = NOISE_ONLY if self.recipe.task == "translation" else ()
        return {key: field for key, field in fields if key in have or not (field.metadata["own"] or key in without)}

    def override(self, texts: list[str]) -> Recipe:
        """The row's recipe with `KEY=VALUE` settings applied.

        Raises:
            KitError: a setting that the model does not have, or a value of another type or out of range.
        """
        return self.recipe.override(texts, among=self.settings())

    def widths(self, texts: list[str]) -> tuple[tuple[int, Recipe], ...]:
        """What a budget chooses from: (pictures needed, recipe), narrowest first; empty where `texts` set a width."""
        if any(text.partition("=")[0] == "width" for text in texts):
            return ()
        rungs = ((rung.pictures, [f"width={rung.width}", *rung.settings, *texts]) for rung in self.ladder)
        return tuple((pictures, self.override(settings)) for pictures, settings in rungs)


_DCGAN = Recipe(model="dcgan", architecture="dcgan", modulate=True, batch=32, lr_g=5e-4, lr_d=5e-4, schedule="linear")

_ROWS = (
    ModelEntry(
        recipe=Recipe(model="gan", architecture="mlp", loss="non-saturating", width=256, norm_d="none"),
        about="dense layers only: the first GAN",
        paper="Goodfellow et al. 2014, arXiv:1406.2661",
        note="leaky ReLU, batch norm in G and Adam in place of maxout, dropout and SGD with momentum: they make dense "
        "GANs train without tuning",
    ),
    ModelEntry(
        recipe=Recipe(
            model="cgan", architecture="mlp", loss="non-saturating", width=256, norm_d="none", conditional=True
        ),
        about="gan with classes: a class embedding is an input of both networks",
        paper="Mirza & Osindero 2014, arXiv:1411.1784",
        note="as gan; a class embedding in place of one-hot labels and a layer of their own",
        unconditional="gan",
    ),
    ModelEntry(
        recipe=_DCGAN,
        ladder=ladders.DCGAN,
        about="strided convolutions and batch norm: the plain GAN that works",
        paper="Radford et al. 2016, arXiv:1511.06434",
        note="width 64 (PyTorch's tutorial) in place of 128; batch size 32 in place of 128, and learning rates of 5e-4 "
        "in place of 2e-4, falling to a tenth: best in trials of minutes (docs/benchmarks.md); z is normal, not "
        "uniform; self-modulation (Chen et al. 2019, arXiv:1810.01365): on dogs, in the same 480 CPU seconds, a "
        "KID×1000 of 185 in place of 238",
    ),
    ModelEntry(
        recipe=dataclasses.replace(_DCGAN, model="cdcgan", conditional=True, embedding=20),
        ladder=ladders.DCGAN,
        about="dcgan with classes: conditional batch norm in G, projection in D",
        paper="Mirza & Osindero 2014, arXiv:1411.1784; Miyato & Koyama 2018, arXiv:1802.05637",
        note="dcgan's settings; the class embedding has 20 dimensions, and goes into the batch norms of G beside z: "
        "with 64 G ignored z, and drew hardly more than one picture of a class",
        unconditional="dcgan",
    ),
    ModelEntry(
        recipe=dataclasses.replace(_DCGAN, model="lsgan", loss="least-squares"),
        ladder=ladders.DCGAN,
        about="dcgan with the least-squares loss: gradients do not vanish far from the decision boundary",
        paper="Mao et al. 2017, arXiv:1611.04076",
        note="dcgan's networks, batch size and learning rates, so that only the loss differs",
    ),
    ModelEntry(
        recipe=Recipe(
            model="wgan",
            architecture="dcgan",
            loss="wasserstein",
            weight_clip=0.01,
            d_steps=5,
            optimizer="rmsprop",
            batch=32,
            lr_g=2e-4,
            lr_d=2e-4,
            beta1=0.0,
            beta2=0.99,
            schedule="linear",
        ),
        about="D estimates the Wasserstein distance; its weights are clipped to keep it Lipschitz",
        paper="Arjovsky et al. 2017, arXiv:1701.07875",
        note="batch size 32 in place of 64, and learning rates of 2e-4 in place of 5e-5, falling to a tenth: with five "
        "D steps per G step, a run of minutes has few of them; the authors take 100 D steps for each of the first "
        "25 G steps and for every 500th, the kit always 5",
    ),
    ModelEntry(
        recipe=Recipe(
            model="wgan-gp",
            architecture="dcgan",
            loss="wasserstein",
            penalty="gradient",
            d_steps=5,
            batch=32,
            lr_g=1e-3,
            lr_d=1e-3,
            beta1=0.0,
            beta2=0.9,
            schedule="linear",
            norm_d="layer",
        ),
        about="wgan with a gradient penalty in place of weight clipping",
        paper="Gulrajani et al. 2017, arXiv:1704.00028",
        note="dcgan's networks; layer norm in D as section 4 advises, since batch norm would mix the samples; batch "
        "size 32 in place of 64, and learning rates of 1e-3 in place of 1e-4, falling to a tenth: after 150 CPU "
        "seconds on MNIST the paper's had hardly begun",
    ),
    ModelEntry(
        recipe=Recipe(
            model="sn-dcgan",
            architecture="sndcgan",
            loss="hinge",
            latent=128,
            norm_d="spectral",
            batch=32,
            lr_g=4e-4,
            lr_d=8e-4,
            beta1=0.0,
            beta2=0.9,
            schedule="linear",
        ),
        ladder=ladders.SNDCGAN,
        about="spectral norm in D: stable training at little cost",
        paper="Miyato et al. 2018, arXiv:1802.05957",
        note="hinge loss and β of 0 and 0.9, which the paper has for larger pictures: with gan's loss and β1 0.5 D "
        "collapsed or won on dogs; one D step in place of five, batch size 32 in place of 64, and higher learning "
        "rates that fall to a tenth, for runs of minutes",
    ),
    ModelEntry(
        recipe=Recipe(
            model="ralsgan",
            architecture="dcgan",
            loss="relativistic-least-squares",
            norm_d="spectral",
            latent=128,
            batch=32,
            lr_g=1e-3,
            lr_d=1e-4,
        ),
        ladder=ladders.DCGAN,
        about="relativistic average least squares: real pictures should look more real than the average generated one",
        paper="Jolicoeur-Martineau 2019, arXiv:1807.00734",
        note="spectral norm in D: with a loss over the batch's means, batch norm would mix the samples twice; a higher "
        "learning rate for G than for D, and batch size 32: with 2e-4 for both it collapsed on MNIST; the loss is "
        "twice the author's, who halves it, which Adam does not notice",
    ),
    ModelEntry(
        recipe=Recipe(
            model="sagan",
            architecture="sagan",
            loss="hinge",
            conditional=True,
            latent=128,
            lr_g=2e-4,
            lr_d=4e-4,
            beta1=0.0,
            beta2=0.9,
            augment="translation,cutout",
            ema_half_life=500_000,
            standing_batches=16,
        ),
        ladder=ladders.RESIDUAL,
        about="residual networks with self-attention, conditional batch norm in G and projection in D",
        paper="Zhang et al. 2019, arXiv:1805.08318",
        note="batch size 64 in place of 256, for the memory and the hours of one kernel; learning rates of 2e-4 and "
        "4e-4 in place of 1e-4 and 4e-4: what the competition's winners had for hours with batch sizes of 32 to "
        "128; an EMA and DiffAugment, since pictures are few, without color, which its authors take for the "
        "smallest sets only",
        unconditional="r3gan",
    ),
    ModelEntry(
        recipe=Recipe(
            model="biggan",
            architecture="biggan",
            loss="hinge",
            conditional=True,
            embedding=128,
            lr_g=2e-4,
            lr_d=4e-4,
            beta1=0.0,
            augment="translation,cutout",
            ema_half_life=500_000,
            truncation=2.0,
            standing_batches=16,
        ),
        ladder=ladders.RESIDUAL,
        about="sagan with a shared class embedding and a chunk of z for each block: what won the competition",
        paper="Brock et al. 2019, arXiv:1809.11096",
        note="batch size 64 and one D step in place of 2048 and two, for the memory and the hours of one kernel; "
        "learning rates of 2e-4 and 4e-4: the winners had 1e-4 to 3e-4 for G and 3e-4 to 6e-4 for D, with batch "
        "sizes of 32 to 128 (1st 3e-4 and 3e-4, 2nd and 3rd 2e-4 and 4e-4, 4th 1e-4 and 6e-4, 5th 1e-4 and 4e-4); "
        "chunks of 20 dimensions of z, as in the paper, make 100 at 64×64; DiffAugment as for sagan",
        unconditional="r3gan",
    ),
    ModelEntry(
        recipe=Recipe(
            model="r3gan",
            architecture="r3gan",
            loss="relativistic",
            penalty="r1+r2",
            penalty_weight=2.0,
            penalty_end=0.1,
            latent=64,
            width=32,
            beta1=0.0,
            beta2=0.99,
            schedule="cosine",
            lr_end=0.25,
            augment="color,translation,cutout",
            ema_half_life=500_000,
        ),
        ladder=ladders.R3GAN,
        about="no tricks: a relativistic loss, two gradient penalties, residual networks without normalization",
        paper="Huang et al. 2024, arXiv:2501.05441",
        note="the settings for 64×64 faces, with the schedules of learning rate and penalty over the plan in place of "
        "20 million pictures; β2 has its last value from the start; 32, 64, 128, 256, 256 channels in place of "
        "384 and 768, batch size 64 and DiffAugment, for the hours of one kernel; upsampling repeats the edge "
        "where the authors pad with zeros; the penalties are taken on augmented pictures, the authors' on plain "
        "ones",
    ),
    ModelEntry(
        recipe=Recipe(
            model="cyclegan",
            architecture="cyclegan",
            task="translation",
            loss="least-squares",
            generator="unet",
            batch=8,
            schedule="linear",
            schedule_start=0.5,
            lr_end=0.0,
            augment="translation",
            ema_half_life=20_000,
            standing_batches=0,
        ),
        about="two generators that undo each other, trained without pairs",
        paper="Zhu et al. 2017, arXiv:1703.10593",
        note="U-Nets in place of the paper's ResNets: in the same time they scored 40.5 against 46.8 and 50.2 on "
        "gan-getting-started; they learn a change of the photograph, and double the side by upsampling and a "
        "convolution; batch size 8, translation of D's input and an EMA of G",
    ),
    ModelEntry(
        recipe=Recipe(
            model="cut",
            architecture="cut",
            task="translation",
            loss="least-squares",
            generator="unet",
            init="xavier",
            lambda_identity=1.0,
            batch=8,
            schedule="linear",
            schedule_start=0.5,
            lr_end=0.0,
            augment="translation",
            ema_half_life=20_000,
            standing_batches=0,
        ),
        about="one generator whose outputs keep the content of each patch: half of cyclegan's cost",
        paper="Park et al. 2020, arXiv:2007.15651",
        note="a U-Net in place of a ResNet, a quarter of its time on a CPU, that learns a change of the photograph: "
        "from scratch the KID was worse than the untouched photographs' after 4,476 pictures; no filters in D; batch "
        "size 8 in place of 1, translation of D's input and an EMA of G; FastCUT: lambda_nce=10, lambda_identity=0, "
        "flip_equivariance=yes",
    ),
)

MODELS = {row.name: row for row in _ROWS}


def of_task(task: TaskName) -> dict[str, ModelEntry]:
    """The rows that generate pictures from noise, or those that translate pictures."""
    return {name: row for name, row in MODELS.items() if row.recipe.task == task}


def get(name: str, source: str = "") -> ModelEntry:
    """The entry of a model.

    Args:
        name: a row of the table, or the path of a Python file with a row of its own (see `kit.models.custom`).
        source: the text of such a file, in place of its path.

    Raises:
        KitError: no such model, with the closest name; a file without one.
    """
    if source:
        return _from_file(source, name)
    if name.endswith(".py"):
        return _from_file(custom.read(Path(name)), name)
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def architecture(recipe: Recipe) -> Architecture:
    """The architecture of a recipe: a custom model's own, else one of the kit's."""
    own = getattr(custom.run(recipe.source, recipe.model), "ARCHITECTURE", None) if recipe.source else None
    return own or ARCHITECTURES[recipe.architecture]


def _from_file(text: str, name: str) -> ModelEntry:
    """The entry that a model file sets as `ENTRY`; the file's text is in its recipe's `source`.

    Raises:
        KitError: the file may not run or fails, sets no row, or takes a name that the registry has already.
    """
    module = custom.run(text, name)
    row = getattr(module, "ENTRY", None)
    if not isinstance(row, ModelEntry):
        raise KitError(f"{name}: sets no ENTRY", "see “A model of your own” in docs/models.md")
    if row.name in MODELS:
        raise KitError(f"{name}: the kit has a model {row.name} already", "give the recipe another name")
    if getattr(module, "ARCHITECTURE", None) is None and row.recipe.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise KitError(
            f"{name}: sets no ARCHITECTURE, and the kit has none named {row.recipe.architecture!r}", f"it has {known}"
        )
    return dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, source=text))


def build(recipe: Recipe, *, size: int, channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """The recipe's generator and discriminator, with weights from torch's global random state.

    Args:
        recipe: what to build.
        size: side of the pictures, pixels.
        channels: 1 or 3.
        classes: number of classes of the set; unconditional recipes ignore it.

    Returns:
        (G, D). G maps (z (B, latent), y (B,)) to pictures (B, C, H, W), −1 black and 1 white; D maps (pictures, y) to
        logits (B,).
        G's attribute `latent` is the length of z, `classes` the number of classes it was built for, 0 if none.

    Raises:
        KitError: no network of that size, or a conditional recipe and no classes.
    """
    if recipe.conditional and not classes:
        other = MODELS[recipe.model].unconditional if recipe.model in MODELS else ""
        raise KitError(
            f"{recipe.model} is a conditional model, and this set has no classes",
            f"take --model {other}" if other else "take --set conditional=no",
        )
    num_classes = classes if recipe.conditional else 0
    make = architecture(recipe)
    G = make.generator(recipe, size, channels, num_classes)
    return G, make.discriminator(recipe, size, channels, num_classes)
