"""The network of the public scorer: the Inception graph of 2015-12-05, as a PyTorch network.

timm's Inception v3 is the same architecture with other weights. The graph of 2015 differs from it in four places, which
all move the score: its average pools do not count the padding, the pool branch of its last block is a max pool, it has
1008 outputs, and it resizes its input itself, with TensorFlow 1's bilinear filter.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.conv_bn_act import ConvNormAct
from timm.models.inception_v3 import InceptionA, InceptionC, InceptionE, InceptionV3
from torch import Tensor

from kit.scoring.extract import TF1_BILINEAR, FeatureSet, feature_set
from kit.scoring.score_record import FeaturesRecord
from kit.scoring.weights import (
    MissingWeightsError,
    hub_checkpoint,
    load_exactly,
    read_weights,
    untrained,
    weights_digest,
)

FILE = "pt_inception-2015-12-05-6726825d.pth"
"""The public PyTorch port of the graph's weights, in pytorch-fid's release `fid_weights`. torch-fidelity's
`weights-inception-2015-12-05-6726825d.pth` has the same layout."""

OUTPUTS = 1008
INPUT_SIZE = 299
GREY = 128 / 255  # the graph computes (x − 128) / 128 on 0..255
EPSILON = 0.1


def kaggle_features(*, weights: Path | None, device: torch.device, dtype: str) -> FeatureSet:
    """The 2048-d `pool_3` features of the public scorer.

    Args:
        weights: the port's state dict. None: looked for in torch hub's cache, where pytorch-fid leaves it, and among
            a Kaggle kernel's inputs.
        device: where to run.
        dtype: a row of DTYPES; the scorer's is float32.

    Raises:
        KitError: no file, or not these weights.
    """
    file = weights or hub_checkpoint(FILE)
    if file is None:
        raise MissingWeightsError(
            f"the weights of the 2015 Inception ({FILE}) are not on this machine",
            "download that file from the release `fid_weights` of mseitzer/pytorch-fid on GitHub and give it as "
            "--weights FILE (in a Kaggle kernel: attach it)",
        )
    network = untrained(Inception2015)
    load_exactly(network, read_weights(file), source=str(file), architecture="the 2015 Inception")
    network.reset_classifier(0)
    record = FeaturesRecord(
        name="kaggle",
        weights=weights_digest(network),
        input_size=INPUT_SIZE,
        resize=TF1_BILINEAR,
        mean=(GREY, GREY, GREY),
        std=(GREY, GREY, GREY),
        dtype=dtype,
    )
    return feature_set(network, record, device=device, epsilon=EPSILON)


class Inception2015(InceptionV3):
    """timm's Inception v3 with the blocks of the 2015 graph. (B, 3, 299, 299), (x − 128) / 128 → (B, 1008)."""

    def __init__(self) -> None:
        super().__init__(num_classes=OUTPUTS)
        conv: Any = partial(ConvNormAct, padding=0, norm_kwargs={"eps": 1e-3}, act_kwargs={"inplace": True})
        self.Mixed_5b = _A(192, pool_features=32, conv_block=conv)
        self.Mixed_5c = _A(256, pool_features=64, conv_block=conv)
        self.Mixed_5d = _A(288, pool_features=64, conv_block=conv)
        self.Mixed_6b = _C(768, channels_7x7=128, conv_block=conv)
        self.Mixed_6c = _C(768, channels_7x7=160, conv_block=conv)
        self.Mixed_6d = _C(768, channels_7x7=160, conv_block=conv)
        self.Mixed_6e = _C(768, channels_7x7=192, conv_block=conv)
        self.Mixed_7b = _E(1280, conv_block=conv)
        self.Mixed_7c = _MaxE(2048, conv_block=conv)


class _Repooled:
    """A block of timm's with another pool before its last branch; what timm computes there is dropped."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        block: Any = super()
        *branches, _ = block._forward(x)
        return [*branches, cast(Any, self).branch_pool(self._pool(x))]

    def _pool(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class _A(_Repooled, InceptionA):
    pass


class _C(_Repooled, InceptionC):
    pass


class _E(_Repooled, InceptionE):
    pass


class _MaxE(_E):
    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
