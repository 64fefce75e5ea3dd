"""``hvd.SyncBatchNorm``: batch normalisation over the batches of all ranks."""

from __future__ import annotations

import torch
from torch.nn.modules import batchnorm

from quintile_trainer.hvd import reducing, requests, world


class SyncBatchNorm(batchnorm._BatchNorm):
    """As ``torch.nn.BatchNorm2d`` on the joined batches; inputs are [B, C, ...]."""

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Return the normalised batch."""
        self._check_input_dim(input)
        if not self.training or world.size() == 1:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        count = input.new_full((1,), input.numel() / input.shape[1])
        sums = torch.cat([input.sum(dim=axes), (input * input).sum(dim=axes), count])
        total = reducing.allreduce(sums, op=requests.SUM)
        samples = total[-1]
        mean = total[: self.num_features] / samples
        variance = total[self.num_features : -1] / samples - mean * mean
        self._track(mean.detach(), variance.detach(), samples.detach())
        shape = [1, -1] + [1] * (input.dim() - 2)
        scaled = (input - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        if self.weight is None:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, samples: torch.Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None:
            return
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        unbiased = variance * samples / (samples - 1).clamp(min=1)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased, share)
