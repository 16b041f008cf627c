"""Batch norm and ReLU of small networks in one operation, which reads and writes activations fewer times."""

from __future__ import annotations

import os
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_MOST_THREADS = 4  # the kernels use one; PyTorch's operations use all (measured with 1 and 2 threads; more: estimated)
_DTYPES = (torch.float32, torch.bfloat16)


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """
    Return ``relu(norm(x))``, and update the running statistics of a batch norm that is in training.

    On a CPU, channels-last activations (B, C, ...) in float32 or bfloat16 are computed by compiled kernels; anything
    else by PyTorch. The numbers differ by rounding.

    Parameters
    ----------
    norm : Module
        ``BatchNorm2d`` or ``BatchNorm3d``.
    x : Tensor
        Activations.
    """
    if not _is_suitable(norm, x):
        return torch.relu_(norm(x))
    norm = cast(nn.BatchNorm2d, norm)
    if norm.training:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
    result: Tensor = _NormReLU.apply(x, norm.weight, norm.bias, norm)
    return result


def _is_suitable(norm: nn.Module, x: Tensor) -> bool:
    """Return whether the kernels compute a batch norm of these activations, and are faster."""
    return (
        isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d)
        and x.device.type == "cpu"
        and x.dtype in _DTYPES
        and x.numel() > x.shape[1]  # a single value of a channel has no variance, which PyTorch refuses
        and torch.get_num_threads() <= _MOST_THREADS
        and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
        and norm.affine is True
        and norm.momentum is not None
        and norm.track_running_stats is True
        and cast(Tensor, norm.weight).dtype == torch.float32
        and x.movedim(1, -1).is_contiguous()
        and not torch.compiler.is_compiling()
    )


def _rows(x: Tensor) -> NDArray[Any]:
    """Return a view of channels-last activations (B, C, ...) as an array (rows, C)."""
    rows = x.detach().movedim(1, -1).view(-1, x.shape[1])
    return (rows.view(torch.uint16) if x.dtype == torch.bfloat16 else rows).numpy()


class _NormReLU(torch.autograd.Function):
    """`norm_relu` by the kernels of `backbones.networks.norm_relu_kernels`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        from backbones.networks import norm_relu_kernels as kernels  # only a training on a CPU needs a compiler

        rows = _rows(x)
        running = cast(Tensor, norm.running_mean).numpy(), cast(Tensor, norm.running_var).numpy()
        if norm.training:
            mean, variance = kernels.moments(rows)
            momentum = cast(float, norm.momentum)
            for kept, new in zip(running, (mean, variance * (len(rows) / max(1, len(rows) - 1))), strict=True):
                kept[:] = (1 - momentum) * kept + momentum * new
        else:
            mean, variance = running[0].astype(np.float64), running[1].astype(np.float64)
        deviation = np.sqrt(variance + norm.eps)
        scale = weight.detach().numpy() / deviation
        shift = bias.detach().numpy() - mean * scale
        out = torch.empty_like(x)
        kernels.scale_relu(rows, _single(scale), _single(shift), _rows(out))
        ctx.save_for_backward(x)
        ctx.numbers = scale, shift, mean, deviation, norm.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        from backbones.networks import norm_relu_kernels as kernels

        (x,) = ctx.saved_tensors
        scale, shift, mean, deviation, training = ctx.numbers
        rows = _rows(x)
        slope = slopes[0]
        if slope.dtype != x.dtype or slope.stride() != x.stride():
            slope = torch.empty_like(x).copy_(slope)
        given = _rows(slope)
        first, second = kernels.gradient_sums(rows, given, _single(scale), _single(shift), _single(mean))
        by_weight = second / deviation
        factor = -scale * by_weight / deviation / len(rows) if training else np.zeros_like(scale)
        offset = -scale * first / len(rows) - factor * mean if training else factor
        gradient = torch.empty_like(x)
        kernels.gradient(rows, given, *map(_single, (scale, shift, factor, offset)), _rows(gradient))
        return gradient, torch.from_numpy(_single(by_weight)), torch.from_numpy(_single(first)), None


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)
