"""Batch norm over the pictures of all processes.

torch's SyncBatchNorm needs GPUs and cannot be differentiated twice, which gradient penalties do. This one is written in
operations that autograd knows.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.training.distributed import all_reduce

Network = TypeVar("Network", bound=nn.Module)


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of the pictures of all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes (B, C) and (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C) or (B, C, H, W) to the same shape; B may differ between the processes."""
        if not self.training:
            return super().forward(x)
        dims, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = all_reduce(torch.cat([y.sum(dims), y.new_full((1,), y.numel() // y.shape[1])]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        y = y - mean.view(shape)
        var = all_reduce(y.square().sum(dims)) / total
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = y * scale.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        self._update_running_statistics(mean.detach(), var.detach() * total / (total - 1))
        return y.to(x.dtype)

    def _update_running_statistics(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), momentum)


def convert_sync_batch_norm(network: Network) -> Network:
    """Replaces every batch norm of a network, in place, by one over all processes, with its weights and buffers."""
    for name, module in network.named_children():
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            synchronized = SyncBatchNorm(
                module.num_features,
                eps=module.eps,
                momentum=module.momentum,
                affine=module.affine,
                track_running_stats=module.track_running_stats,
                device="meta",
            )
            synchronized.weight, synchronized.bias = module.weight, module.bias
            for key, buffer in module.named_buffers(recurse=False):
                synchronized.register_buffer(key, buffer)
            setattr(network, name, synchronized.train(module.training))
        else:
            convert_sync_batch_norm(module)
    return network
