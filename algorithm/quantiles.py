"""Distributions of returns as quantiles at random fractions (IQN: Dabney et al., 2018, arXiv 1806.06923)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.policy.layers import Init, linear


class CosineEmbedding(nn.Module):
    """Features of a fraction tau: ReLU of a dense layer over cos(pi i tau), i = 0, ..., C - 1 (equation 4)."""

    def __init__(self, cosines: int, size: int, init: Init):
        """cosines: C; size: the number of features."""
        super().__init__()
        self.linear = init(linear(cosines, size))
        frequencies = (torch.pi * torch.arange(cosines, dtype=torch.float64)).float()       # each rounded once
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, taus: Tensor) -> Tensor:
        """(B, N) -> (B, N, size)."""
        return F.relu(self.linear(torch.cos(taus[..., None] * self.frequencies)))


def quantile_huber(values: Tensor, targets: Tensor, taus: Tensor) -> Tensor:
    """Return the quantile regression loss with a Huber loss of width 1, () (equation 3).

        mean over B of sum_i mean_j |tau_i - 1{delta_ij < 0}| Huber(delta_ij),   delta_ij = target_j - value_i

    Args:
        values: (B, N), at the fractions `taus` (B, N).
        targets: (B, N').
    """
    delta = targets[:, None, :] - values[:, :, None]                                            # (B, N, N')
    weights = (taus[:, :, None] - (delta < 0).to(delta.dtype)).abs()
    return (weights * F.huber_loss(values[:, :, None].expand_as(delta), targets[:, None, :].expand_as(delta),
                                   reduction="none")).mean(2).sum(1).mean()
