"""Batch norm over the pictures of all processes: as fast as torch's own, and differentiable twice.

torch's SyncBatchNorm is neither for CPUs nor for gradient penalties. Here each pass is made of torch's own fused
operations and one message: statistics of one's own pictures, those of all, one scale and shift.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kit.training.distributed import add_up, place, summed

Network = TypeVar("Network", bound=nn.Module)


class SharedBatchNorm(_BatchNorm):
    """Batch norm, in training, over the pictures of all processes; otherwise as ever."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes (B, C) and (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C) or (B, C, H, W) to the same shape; B may differ between the processes."""
        if not self.training:
            return super().forward(x)
        exact = torch.promote_types(x.dtype, torch.float32)
        weight = x.new_ones(x.shape[1], dtype=exact) if self.weight is None else self.weight
        bias = x.new_zeros(x.shape[1], dtype=exact) if self.bias is None else self.bias
        y, mean, var, total = cast(tuple[Tensor, ...], _Normalise.apply(x, weight, bias, self.eps))
        self._follow(mean, var, total)
        return y

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        """Running statistics, as torch's own batch norm keeps them: the variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((var * total / (total - 1)).to(self.running_var.dtype), momentum)


def synchronise(network: Network) -> Network:
    """The network with every batch norm replaced, in place, by one that shares its weights and buffers."""
    for name, module in network.named_children():
        if isinstance(module, _BatchNorm) and not isinstance(module, SharedBatchNorm):
            shared = SharedBatchNorm(
                module.num_features,
                eps=module.eps,
                momentum=module.momentum,
                affine=module.affine,
                track_running_stats=module.track_running_stats,
                device="meta",
            )
            shared.weight, shared.bias = module.weight, module.bias
            for key, buffer in module.named_buffers(recurse=False):
                shared.register_buffer(key, buffer)
            setattr(network, name, shared.train(module.training))
        else:
            synchronise(module)
    return network


class _Normalise(torch.autograd.Function):
    """Fused where it is differentiated once, written out where its gradient is differentiated again.

    With x̂ = (x − mean) / √(var + eps), n pictures' pixels in all and ⟨·⟩ the mean over all of them, the gradient is
    weight / √(var + eps) · (dy − ⟨dy⟩ − x̂ ⟨dy x̂⟩) (Ioffe & Szegedy 2015, section 3, put together). Its first term and
    both sums are what torch gives for a batch norm with fixed statistics; the rest is such a batch norm of x again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # The running statistics that it is given say in which precision to sum, and are left alone.
        nothing = torch.zeros_like(weight)
        mean, var = torch.batch_norm_update_stats(x, nothing, nothing, momentum=0.0)
        mean, var, total = _combine(mean, var, x.numel() // x.shape[1])
        ctx.save_for_backward(x, weight, bias, mean, var, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, total)
        return F.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var, total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        dy, (x, weight, bias, mean, var, total) = slopes[0], ctx.saved_tensors
        if torch.is_grad_enabled():
            return _written_out_backward(ctx, x, weight, bias, dy)
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        if ctx.needs_input_grad[0]:
            means = add_up(torch.stack([dweight, dbias])) / total
            steep, flat = means * weight * torch.rsqrt(var + ctx.eps)
            dx = dx.sub_(F.batch_norm(x, mean, var, steep, flat, eps=ctx.eps))
        return dx, dweight, dbias, None


def _written_out_backward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients, with a graph through which they can be differentiated."""
    needed = ctx.needs_input_grad[:3]
    inputs = [tensor for tensor, asked in zip((x, weight, bias), needed, strict=True) if asked]
    found = iter(torch.autograd.grad(_written_out(x, weight, bias, ctx.eps), inputs, dy, create_graph=True))
    return (*(next(found) if asked else None for asked in needed), None)


def _written_out(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Batch norm over all processes in operations that autograd knows."""
    channels = (-1, *[1] * (x.ndim - 2))
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(exact, dim=[0, *range(2, x.ndim)], correction=0)
    mean, var, _ = _combine(mean, var, x.numel() // x.shape[1])
    scale = weight * torch.rsqrt(var + eps)
    return ((exact - mean.view(channels)) * scale.view(channels) + bias.view(channels)).to(x.dtype)


def _combine(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances (C,) and counts (C,) over all processes, from those of one's own pictures; differentiable.

    Each process puts its own into a row of a table, and the tables are added up. So variances are combined as Chan et
    al. 1979 do (eq. 2.1), without the cancellation of mean squares.
    """
    rank, size = place()
    row = torch.stack([torch.full_like(mean, count), mean, var])
    before, after = row.new_zeros(rank, *row.shape), row.new_zeros(size - rank - 1, *row.shape)
    counts, means, variances = summed(torch.cat([before, row[None], after])).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean).square())).sum(0) / total, total
