"""Batch norms whose statistics span the clips of all processes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.distributed.processes import SumOverProcesses


class SyncedBatchNorm(_BatchNorm):
    """
    Batch norm with mean and variance over all processes, on any device.

    PyTorch's `SyncBatchNorm` is faster, but works on GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (the name is PyTorch's)
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, not {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise each channel of the input (B, C, ...), then scale and shift it."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        values = input.float()
        count = torch.full((1,), float(input.numel() // input.shape[1]), device=input.device)
        sums = SumOverProcesses.apply(torch.cat([values.sum(dims), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = values - mean.view(shape)
        variance = SumOverProcesses.apply((centred * centred).sum(dims)) / n
        self._update_statistics(mean.detach(), variance.detach() * (n / (n - 1).clamp(min=1)))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor) -> None:
        cast(Tensor, self.num_batches_tracked).add_(1)
        cast(Tensor, self.running_mean).lerp_(mean, self.momentum or 0.0)
        cast(Tensor, self.running_var).lerp_(variance, self.momentum or 0.0)


def sync_batch_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace the batch norms of a module by synchronised ones; names and values stay."""
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        return _synced(module)
    for name, child in module.named_children():
        setattr(module, name, sync_batch_norms(child, device))
    return module


def _synced(norm: Any) -> SyncedBatchNorm:
    synced = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced.load_state_dict(norm.state_dict())
    synced.train(norm.training)
    return synced.to(norm.running_mean.device)
